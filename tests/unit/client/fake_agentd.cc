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

void Refuse(FakeAgentd::Answer* answer, Code code, const char* message) {
  answer->code = code;
  answer->message = message;
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
  AGENTMEM_CHECK(client::SendPacket(socket.get(), Raw(welcome), {},
                                    board_fd_.get(),
                                    client::Deadline::After(kSecondNs)) ==
                 client::PacketEnd::kDone);
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
  AGENTMEM_CHECK(request.fixed.magic == kAgentMagic &&
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
  reply.magic = kAgentMagic;
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

void FakeAgentd::Dispatch(Client* client, const Request& request, UniqueFd fd,
                          Answer* answer) {
  if (request.fixed.op == AgentOp::kUseFaults) {
    client->uffd = std::move(fd);
    const bool async = (request.fixed.arg[0] & UFFD_FEATURE_WP_ASYNC) != 0 &&
                       options_.tracking == TrackingMode::kAsync;
    client->tracking = async ? TrackingMode::kAsync
                             : std::min(options_.tracking, TrackingMode::kSync);
    answer->value[0] = static_cast<std::uint64_t>(client->tracking);
  } else if (request.fixed.op < AgentOp::kRegionOpen) {
    DispatchAgent(client, request, answer);
  } else {
    DispatchRegion(client, request, answer);
  }
}

void FakeAgentd::DispatchAgent(Client* client, const Request& request,
                               Answer* answer) {
  const AgentRequest& fixed = request.fixed;
  switch (fixed.op) {
    case AgentOp::kAgentOpen: {
      const bool made = !agents_.contains(fixed.agent);
      if (made && (fixed.flags & kOpenCreate) == 0) {
        Refuse(answer, Code::kNotFound, "no such agent");
        return;
      }
      agents_[fixed.agent];
      answer->value[0] = next_handle_;
      answer->value[2] = made ? 1 : 0;
      client->writers[next_handle_] = (fixed.flags & kOpenWrite) != 0;
      client->agents[next_handle_++] = fixed.agent;
      return;
    }
    case AgentOp::kAgentClose:
      client->agents.erase(fixed.handle);
      return;
    case AgentOp::kAgentPhase:
      answer->value[0] = static_cast<std::uint64_t>(PhaseAnswer::kAccepted);
      return;
    default:
      return;
  }
}

void FakeAgentd::DispatchRegion(Client* client, const Request& request,
                                Answer* answer) {
  const AgentRequest& fixed = request.fixed;
  const auto found = client->regions.find(fixed.region_handle);
  FakeOpenRegion* open =
      found == client->regions.end() ? nullptr : found->second.get();
  if (open == nullptr && fixed.region_handle != 0) {
    Refuse(answer, Code::kInvalidArgument, "no such region handle");
    return;
  }
  switch (fixed.op) {
    case AgentOp::kRegionOpen:
      return OpenRegion(client, fixed, answer);
    case AgentOp::kRegionMapped:
      return open->set_mapped(client->uffd.get(), fixed.arg[0],
                              client->tracking);
    case AgentOp::kRegionClose:
      client->regions.erase(fixed.region_handle);
      return;
    case AgentOp::kCommit:
      return Commit(client, request, answer);
    case AgentOp::kPopulate:
      if ((fixed.flags & kPopulatePin) != 0) open->pins.insert(fixed.offset);
      return open->Populate(fixed.offset, fixed.length);
    case AgentOp::kUnpin:
      open->pins.erase(open->pins.find(fixed.offset));
      return;
    case AgentOp::kHint:
      answer->value[0] = static_cast<std::uint64_t>(PhaseAnswer::kClipped);
      return;
    case AgentOp::kMarkDirty:
      return open->MarkDirty(fixed.offset, fixed.length);
    case AgentOp::kRefresh:
      open->MoveTo(fixed.region_version == 0 ? open->region()->head()
                                             : fixed.region_version);
      answer->value[0] = open->version();
      return;
    case AgentOp::kHistory:
      return History(fixed, answer);
    case AgentOp::kWatch:
      answer->value[0] = WordOf(fixed.region);
      if (FakeRegion* region = Find(fixed.agent, fixed.region)) {
        answer->value[1] = region->head();
      }
      return;
    default:
      return;
  }
}

void FakeAgentd::OpenRegion(Client* client, const AgentRequest& request,
                            Answer* answer) {
  const std::string& agent = client->agents[request.handle];
  const bool made = Find(agent, request.region) == nullptr;
  if (made && request.length == 0) {
    Refuse(answer, Code::kNotFound, "no such region");
    return;
  }
  FakeRegion& region = agents_[agent][request.region];
  if (made) region.bytes = request.length;
  region.name = request.region;
  const std::uint64_t version =
      request.region_version == 0 ? region.head() : request.region_version;
  const bool read_only =
      request.region_version != 0 || !client->writers[request.handle];
  auto open = std::make_unique<FakeOpenRegion>(&region, version, read_only);
  answer->value[0] = next_handle_;
  answer->value[1] = region.bytes;
  answer->value[2] = version;
  answer->value[3] = made ? 1 : 0;
  answer->value[4] = read_only ? 1 : 0;
  answer->fd = open->memory();
  client->regions[next_handle_++] = std::move(open);
}

void FakeAgentd::Commit(Client* client, const Request& request,
                        Answer* answer) {
  for (auto& [handle, open] : client->regions) {
    if (open->read_only()) continue;
    if (request.fixed.region_handle == 0 ||
        request.fixed.region_handle == handle) {
      CommitOne(open.get(), request, answer);
    }
  }
}

void FakeAgentd::CommitOne(FakeOpenRegion* open, const Request& request,
                           Answer* answer) {
  FakeVersion version;
  version.content = open->Cut(&version.entry.changed_bytes);
  version.entry.number = open->version();
  version.entry.parent = open->region()->head();
  version.entry.region_bytes = open->region()->bytes;
  std::memcpy(version.entry.trace, request.fixed.trace, 16);
  FieldReader fields(request.tail);
  std::string_view field;
  AGENTMEM_CHECK(fields.Next(&field));
  version.message = field;
  version.labels = request.tail.substr(4 + field.size());
  answer->value[0] = version.entry.number;
  answer->value[1] = version.entry.changed_bytes;
  open->region()->versions.push_back(std::move(version));
  Publish(open->region()->name);
}

void FakeAgentd::History(const AgentRequest& request, Answer* answer) {
  FakeRegion* region = Find(request.agent, request.region);
  if (region == nullptr) {
    Refuse(answer, Code::kNotFound, "no such region");
    return;
  }
  FieldWriter fields;
  std::uint64_t number =
      request.region_version == 0 ? region->head() : request.region_version;
  // Few at a time, so that short histories have several packets.
  for (std::uint64_t left = std::min<std::uint64_t>(request.arg[0], 2);
       left != 0 && number != 0; --left, --number) {
    const FakeVersion& version = region->versions[number - 1];
    fields.AddStruct(version.entry);
    fields.Add(version.message);
    fields.Add(version.labels);
  }
  answer->tail = fields.bytes();
  answer->value[0] = number != 0 ? 1 : 0;
}

FakeRegion* FakeAgentd::Find(const std::string& agent,
                             const std::string& region) {
  const auto found = agents_.find(agent);
  if (found == agents_.end()) return nullptr;
  const auto inside = found->second.find(region);
  return inside == found->second.end() ? nullptr : &inside->second;
}

std::uint32_t FakeAgentd::WordOf(const std::string& region) {
  return words_.try_emplace(region, words_.size() + 3).first->second;
}

void FakeAgentd::Publish(const std::string& region) {
  std::atomic<std::uint32_t>& word = board_[WordOf(region)];
  word.fetch_add(1);
  client::FutexWakeAll(&word);
}

std::uint64_t FakeAgentd::AddVersion(const std::string& agent,
                                     const std::string& region,
                                     std::uint64_t bytes,
                                     const FakeContent& content) {
  std::lock_guard<std::mutex> lock(mutex_);
  FakeRegion& found = agents_[agent][region];
  found.name = region;
  found.bytes = bytes;
  FakeVersion version;
  version.entry.number = found.head() + 1;
  version.content = content;
  found.versions.push_back(std::move(version));
  Publish(region);
  return found.head();
}

}  // namespace agentmem
