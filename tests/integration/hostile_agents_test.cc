// Processes that speak the agents' protocol and keep to none of it: memd goes
// on, and who keeps to it loses nothing.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "proto/agent_messages.h"
#include "proto/handshake.h"
#include "proto/userfaultfd_abi.h"
#include "tests/integration/memd_process.h"

namespace agentmem {
namespace {

class HostileProcess {
 public:
  HostileProcess(const MemdProcess& memd, std::uint32_t seed)
      : socket_path_(memd.socket()), random_(seed) {}

  void Run(int requests) {
    for (int i = 0; i < requests; ++i) {
      if (!socket_.valid() || Roll(400) == 0) Greet();
      if (!Send() || !Receive()) socket_.Reset();
    }
  }
  std::uint64_t accepted() const { return accepted_; }

 private:
  std::uint64_t Roll(std::uint64_t below) { return random_() % below; }

  void Greet() {
    socket_ = UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, socket_path_.data(), socket_path_.size());
    ASSERT_EQ(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address),
                        sizeof(address)),
              0);
    const timeval patience = {0, 50'000};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience,
                 sizeof(patience));
    Hello hello = {};
    hello.header.magic = kWireMagic;
    hello.header.version = kWireVersion;
    hello.header.type = MessageType::kHello;
    hello.header.bytes = sizeof(hello);
    hello.version_min = kWireVersion;
    hello.flags = kHelloAgents;
    ::send(socket_.get(), &hello, sizeof(hello), MSG_NOSIGNAL);
    Receive();
  }

  std::uint64_t Number() {
    switch (Roll(8)) {
      case 0:
        return 0;
      case 1:
        return ~0ULL >> Roll(64);
      case 2:
        return 4096 * Roll(1 << 20);
      case 3:
        return 65536 * Roll(64);
      case 4:
        return random_();
      default:
        return Roll(16);
    }
  }

  void Name(char* field, std::size_t bytes) {
    switch (Roll(6)) {
      case 0:
        for (std::size_t i = 0; i < bytes; ++i) {
          field[i] = static_cast<char>(random_());
        }
        break;
      case 1:
        break;
      default:
        field[0] = static_cast<char>('x' + Roll(3));
    }
  }

  UniqueFd Descriptor() {
    switch (Roll(4)) {
      case 0:
        return UniqueFd(::memfd_create("hostile", MFD_CLOEXEC));
      case 1:
        return UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC));
      default: {
        UniqueFd faults(static_cast<int>(
            ::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
        uffdio_api api = {UFFD_API, 0, 0};
        if (Roll(4) != 0) ::ioctl(faults.get(), UFFDIO_API, &api);
        return faults;
      }
    }
  }

  bool Send() {
    AgentRequest request = {};
    request.magic = Roll(200) == 0 ? random_() : kAgentWireMagic;
    request.version = Roll(200) == 0 ? 7 : kAgentVersion;
    request.op = static_cast<AgentOp>(
        Roll(50) == 0 ? random_()
                      : Roll(static_cast<int>(AgentOp::kUnwatch) + 2));
    request.id = random_();
    request.flags =
        static_cast<std::uint32_t>(Roll(4) == 0 ? random_() : Roll(8));
    request.deadline_ns =
        MonotonicNowNs() + static_cast<DurationNs>(Roll(4) * kMillisecondNs);
    if (Roll(50) == 0) request.deadline_ns = static_cast<TimeNs>(random_());
    // Handles count up from 1 in a session.
    request.handle = static_cast<std::uint32_t>(Roll(40));
    request.region_handle = static_cast<std::uint32_t>(Roll(40));
    request.region_version = Number();
    request.offset = Number();
    request.length = Number();
    for (std::uint64_t& arg : request.arg) arg = Number();
    Name(request.agent, sizeof(request.agent));
    Name(request.region, sizeof(request.region));
    Name(request.other, sizeof(request.other));
    std::string tail;
    if (Roll(3) == 0) {
      tail.resize(Roll(Roll(20) == 0 ? 70'000 : 200));
      for (char& byte : tail) byte = static_cast<char>(Roll(8));
    }
    request.bytes = static_cast<std::uint32_t>(
        Roll(300) == 0 ? random_() : sizeof(request) + tail.size());
    iovec parts[2] = {{&request, sizeof(request)}, {tail.data(), tail.size()}};
    msghdr message = {};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    UniqueFd fd;
    if (Roll(5) == 0) {
      fd = Descriptor();
      if (fd.valid()) {
        message.msg_control = control;
        message.msg_controllen = sizeof(control);
        cmsghdr* const rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int));
        const int number = fd.get();
        std::memcpy(CMSG_DATA(rights), &number, sizeof(number));
      }
    }
    return ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) >= 0;
  }

  // False: memd has hung up, or does not answer yet.
  bool Receive() {
    std::vector<char> packet(kAgentPacketMax);
    iovec part = {packet.data(), packet.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))] = {};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    for (cmsghdr* rights = CMSG_FIRSTHDR(&message); rights != nullptr;
         rights = CMSG_NXTHDR(&message, rights)) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(rights), sizeof(fd));
      if (got > 0) kept_.emplace_back(fd);
    }
    if (kept_.size() > 50) kept_.clear();
    if (got < static_cast<ssize_t>(sizeof(AgentReply))) return got > 0;
    AgentReply reply;
    std::memcpy(&reply, packet.data(), sizeof(reply));
    accepted_ += reply.magic == kAgentWireMagic && reply.code == 0;
    return true;
  }

  const std::string socket_path_;
  std::mt19937_64 random_;
  UniqueFd socket_;
  std::vector<UniqueFd> kept_;
  std::uint64_t accepted_ = 0;
};

TEST(HostileAgentsTest, NoRequestStopsMemdOrHarmsAnHonestAgent) {
  MemdProcess memd("64MiB", "collect_ms = 10\n");
  agentmem_client* const client = memd.Connect("honest");
  agentmem_agent_options options = {};
  options.size = sizeof(options);
  options.mode = AGENTMEM_AGENT_WRITE;
  options.create = 1;
  agentmem_agent* agent = nullptr;
  agentmem_error error = {};
  constexpr std::uint64_t kTimeout = 60'000'000'000;
  ASSERT_EQ(
      agentmem_agent_open(client, "honest", &options, kTimeout, &agent, &error),
      AGENTMEM_OK)
      << error.message;
  agentmem_region_options region_options = {};
  region_options.size = sizeof(region_options);
  region_options.bytes = 1 << 20;
  agentmem_region* region = nullptr;
  ASSERT_EQ(agentmem_region_open(agent, "heap", &region_options, kTimeout,
                                 &region, &error),
            AGENTMEM_OK)
      << error.message;
  char* const bytes = static_cast<char*>(agentmem_region_data(region));
  ASSERT_NE(bytes, nullptr);
  std::uint64_t version = 0;
  std::uint64_t accepted = 0;
  for (std::uint32_t round = 1; round <= 4; ++round) {
    std::vector<std::thread> threads;
    std::vector<std::unique_ptr<HostileProcess>> hostile;
    for (std::uint32_t i = 0; i < 2; ++i) {
      hostile.push_back(
          std::make_unique<HostileProcess>(memd, 100 * round + i));
      threads.emplace_back([&, i] { hostile[i]->Run(500); });
    }
    std::memset(bytes, static_cast<int>(round), 1 << 20);
    for (std::thread& thread : threads) thread.join();
    for (const auto& process : hostile) accepted += process->accepted();
    hostile.clear();
    ASSERT_EQ(
        agentmem_region_commit(region, nullptr, kTimeout, &version, &error),
        AGENTMEM_OK)
        << error.message << memd.Log();
    EXPECT_EQ(version, round);
    ASSERT_EQ(
        agentmem_agent_hibernate(client, "honest", kTimeout, nullptr, &error),
        AGENTMEM_OK)
        << error.message << memd.Log();
    for (std::uint64_t at = 0; at < 1 << 20; at += 4096) {
      ASSERT_EQ(bytes[at], static_cast<char>(round)) << at;
    }
  }
  // It was not all refused at the door.
  EXPECT_GT(accepted, 150u);
  agentmem_region_close(region);
  agentmem_agent_close(agent);
  agentmem_close(client);
  EXPECT_EQ(memd.Stop(), 0) << memd.Log();
}

}  // namespace
}  // namespace agentmem
