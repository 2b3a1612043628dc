#include "tests/unit/client/fake_agentd.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "base/check.h"
#include "client/futex.h"
#include "client/packet_socket.h"

namespace agentmem {
namespace {

template <typename T>
std::string_view Raw(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

void Send(int socket, const AgentReply& reply, const std::string& tail,
          int fd) {
  // A client that is gone does not matter.
  client::SendPacket(socket, Raw(reply), tail, fd,
                     client::Deadline::After(kSecondNs));
}

}  // namespace

FakeAgentd::FakeAgentd(const Options& options) : options_(options) {
  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  board_fd_ = UniqueFd(memfd_create("board", MFD_CLOEXEC));
  AGENTMEM_CHECK(ftruncate(board_fd_.get(), kBoardBytes) == 0);
  board_ = static_cast<std::atomic<std::uint32_t>*>(
      mmap(nullptr, kBoardBytes, PROT_READ | PROT_WRITE, MAP_SHARED,
           board_fd_.get(), 0));
  thread_ = std::thread([this] { Run(); });
}

FakeAgentd::~FakeAgentd() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
  munmap(board_, kBoardBytes);
}

void FakeAgentd::Wake() {
  const std::uint64_t one = 1;
  AGENTMEM_CHECK(write(wake_.get(), &one, sizeof(one)) == sizeof(one));
}

void FakeAgentd::Serve(UniqueFd socket) {
  AgentWelcome welcome = {};
  welcome.header = {kWireMagic, kWireVersion, MessageType::kAgentWelcome,
                    sizeof(welcome), 0};
  welcome.agent_version = options_.agent_version;
  if (client::SendPacket(socket.get(), Raw(welcome), {}, board_fd_.get(),
                         client::Deadline::After(kSecondNs)) !=
      client::PacketEnd::kDone) {
    return;  // it waited no longer
  }
  auto added = std::make_unique<Client>();
  added->socket = std::move(socket);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++connections_;
    clients_.push_back(std::move(added));
  }
  Wake();
}

void FakeAgentd::Kill() {
  std::lock_guard<std::mutex> lock(mutex_);
  clients_.clear();
  held_.clear();
  held_ops_.clear();
  leave_faults_ = false;
  Wake();
}

void FakeAgentd::OnReply(AgentOp op, Handler handler) {
  std::lock_guard<std::mutex> lock(mutex_);
  handlers_[op] = std::move(handler);
}

void FakeAgentd::Hold(AgentOp op) {
  std::lock_guard<std::mutex> lock(mutex_);
  held_ops_.insert(op);
}

void FakeAgentd::Release() {
  std::lock_guard<std::mutex> lock(mutex_);
  held_ops_.clear();
  for (const Held& held : held_) Send(held.socket, held.reply, held.tail, -1);
  held_.clear();
}

void FakeAgentd::LeaveFaults() {
  std::lock_guard<std::mutex> lock(mutex_);
  leave_faults_ = true;
}

void FakeAgentd::AwaitLeftFault(int count) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return left_faults_ >= count; });
}

void FakeAgentd::AwaitCount(AgentOp op, int count) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return counts_[op] >= count; });
}

int FakeAgentd::Count(AgentOp op) {
  std::lock_guard<std::mutex> lock(mutex_);
  return counts_[op];
}

FakeAgentd::Request FakeAgentd::Last(AgentOp op) {
  std::lock_guard<std::mutex> lock(mutex_);
  AGENTMEM_CHECK(last_.contains(op));
  return last_[op];
}

int FakeAgentd::connections() {
  std::lock_guard<std::mutex> lock(mutex_);
  return connections_;
}

int FakeAgentd::open_agents() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::size_t count = 0;
  for (const auto& client : clients_) count += client->agents.size();
  return static_cast<int>(count);
}

int FakeAgentd::open_regions() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::size_t count = 0;
  for (const auto& client : clients_) count += client->regions.size();
  return static_cast<int>(count);
}

std::size_t FakeAgentd::pins() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::size_t count = 0;
  for (const auto& client : clients_) {
    for (const auto& [handle, open] : client->regions) {
      count += open->pins.size();
    }
  }
  return count;
}

int FakeAgentd::left_faults() {
  std::lock_guard<std::mutex> lock(mutex_);
  return left_faults_;
}

FakeContent FakeAgentd::ContentOf(const std::string& agent,
                                  const std::string& region,
                                  std::uint64_t version) {
  std::lock_guard<std::mutex> lock(mutex_);
  FakeRegion* found = Find(agent, region);
  AGENTMEM_CHECK(found != nullptr && version <= found->head());
  return found->versions[version - 1].content;
}

void FakeAgentd::Run() {
  for (;;) {
    std::vector<pollfd> waiting = {{wake_.get(), POLLIN, 0}};
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (stopping_) return;
      for (auto client = clients_.begin(); client != clients_.end();) {
        ServeFaults(client->get());
        if (!ServeRequest(client->get())) {
          client = clients_.erase(client);
          continue;
        }
        waiting.push_back({(*client)->socket.get(), POLLIN, 0});
        if ((*client)->uffd.valid()) {
          waiting.push_back({(*client)->uffd.get(), POLLIN, 0});
        }
        ++client;
      }
    }
    changed_.notify_all();
    poll(waiting.data(), waiting.size(), -1);
    std::uint64_t ignored;
    if ((waiting[0].revents & POLLIN) != 0) {
      AGENTMEM_CHECK(read(wake_.get(), &ignored, sizeof(ignored)) > 0);
    }
  }
}

void FakeAgentd::ServeFaults(Client* client) {
  if (!client->uffd.valid()) return;
  uffd_msg fault;
  while (read(client->uffd.get(), &fault, sizeof(fault)) == sizeof(fault)) {
    if (leave_faults_) {
      ++left_faults_;
      continue;
    }
    for (auto& [handle, open] : client->regions) {
      if (open->Resolve(fault)) break;
    }
  }
}

bool FakeAgentd::ServeRequest(Client* client) {
  std::vector<char> room(kAgentPacketMax);
  std::size_t bytes = 0;
  std::size_t fd_count = 0;
  UniqueFd fd;
  const client::PacketEnd end = client::ReceivePacket(
      client->socket.get(), room, client::Deadline::After(0), &bytes, {&fd, 1},
      &fd_count);
  if (end == client::PacketEnd::kDeadline) return true;
  if (end != client::PacketEnd::kDone) return false;
  Request request;
  AGENTMEM_CHECK(bytes >= sizeof(request.fixed));
  std::memcpy(&request.fixed, room.data(), sizeof(request.fixed));
  AGENTMEM_CHECK(request.fixed.magic == kAgentWireMagic &&
                 request.fixed.bytes == bytes);
  request.tail.assign(room.data() + sizeof(request.fixed),
                      bytes - sizeof(request.fixed));
  const AgentOp op = request.fixed.op;
  Answer answer;
  Dispatch(client, request, std::move(fd), &answer);
  if (const auto handler = handlers_.find(op); handler != handlers_.end()) {
    handler->second(request, &answer);
  }
  ++counts_[op];
  last_[op] = request;
  AgentReply reply = {};
  reply.magic = kAgentWireMagic;
  reply.version = kAgentVersion;
  reply.op = op;
  reply.id = request.fixed.id;
  reply.code = static_cast<std::uint32_t>(answer.code);
  std::memcpy(reply.value, answer.value, sizeof(reply.value));
  if (answer.code != Code::kOk) {
    FieldWriter message;
    message.Add(answer.message);
    answer.tail = message.bytes();
  }
  reply.bytes = static_cast<std::uint32_t>(sizeof(reply) + answer.tail.size());
  if (held_ops_.contains(op)) {
    held_.push_back({client->socket.get(), reply, answer.tail});
  } else {
    Send(client->socket.get(), reply, answer.tail, answer.fd);
  }
  Wake();  // there may be another one
  return true;
}

std::uint64_t FakeAgentd::AddVersion(const std::string& agent,
                                     const std::string& region,
                                     std::uint64_t bytes,
                                     const FakeContent& content, Tell tell) {
  std::lock_guard<std::mutex> lock(mutex_);
  FakeRegion& found = agents_[agent][region];
  found.name = region;
  found.bytes = bytes;
  FakeVersion version;
  version.entry.number = found.head() + 1;
  version.content = content;
  found.versions.push_back(std::move(version));
  if (tell == Tell::kBoard) Publish(region);
  return found.head();
}

}  // namespace agentmem
