// Processes that speak the agents' protocol and keep to none of it: memd goes
// on, and who keeps to it loses nothing.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "proto/agent_fields.h"
#include "proto/agent_messages.h"
#include "proto/hbm_messages.h"
#include "proto/userfaultfd_abi.h"
#include "tests/integration/memd_process.h"
#include "tests/integration/raw_agents.h"

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
    socket_ = Dial(socket_path_);
    const timeval patience = {0, 50'000};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience,
                 sizeof(patience));
    Hello hello = GoodHello();
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
        UniqueFd faults(static_cast<int>(::syscall(
            SYS_userfaultfd, O_CLOEXEC | (Roll(4) == 0 ? 0 : O_NONBLOCK))));
        uffdio_api api = {UFFD_API, 0, 0};
        if (Roll(4) == 0) api.features = UFFD_FEATURE_EVENT_FORK;
        if (Roll(4) != 0) ::ioctl(faults.get(), UFFDIO_API, &api);
        return faults;
      }
    }
  }

  // Of a device that it may have, agents that it may, or nothing of the kind.
  void Device(AgentOp* op, std::string* tail) {
    FieldWriter fields;
    if (*op == AgentOp::kHbmOpen) {
      HbmDevice device = {};
      Name(device.name, sizeof(device.name));
      Name(device.id, sizeof(device.id));
      device.memory_bytes = Number();
      device.reserved = Roll(8) == 0;
      fields.AddStruct(device);
    } else if (*op == AgentOp::kHbmReport) {
      for (std::uint64_t i = Roll(Roll(20) == 0 ? 300 : 4); i > 0; --i) {
        HbmUse use = {};
        Name(use.agent, sizeof(use.agent));
        use.bytes = Number();
        use.blocks = Roll(2) == 0 ? use.bytes : Number();
        use.answers = Number();
        use.took_ns = random_();
        fields.AddStruct(use);
      }
    } else {
      return;
    }
    *tail = fields.bytes();
  }

  bool Send() {
    AgentRequest request = {};
    request.magic = Roll(200) == 0 ? random_() : kAgentWireMagic;
    request.version = Roll(200) == 0 ? 7 : kAgentVersion;
    request.op = static_cast<AgentOp>(
        Roll(50) == 0 ? random_()
                      : Roll(static_cast<int>(AgentOp::kHbmList) + 2));
    if (Roll(8) == 0) {
      request.op = Roll(2) == 0 ? AgentOp::kHbmOpen : AgentOp::kHbmReport;
    }
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
    if (Roll(2) == 0) Device(&request.op, &tail);
    request.bytes = static_cast<std::uint32_t>(
        Roll(300) == 0 ? random_() : sizeof(request) + tail.size());
    std::vector<UniqueFd> owned;
    std::vector<int> fds;
    while (owned.size() < 3 && Roll(5) == 0) {
      owned.push_back(Descriptor());
      if (owned.back().valid()) fds.push_back(owned.back().get());
    }
    // Now and then nothing but descriptors, or half of it.
    const std::size_t count = Roll(100) == 0 ? Roll(2) * 200 : sizeof(request);
    return SendRaw(socket_.get(), &request, count, tail, fds);
  }

  // False: memd has hung up, or does not answer yet.
  bool Receive() {
    RawAnswer answer = ReceiveRaw(socket_.get());
    for (UniqueFd& fd : answer.fds) kept_.push_back(std::move(fd));
    if (kept_.size() > 50) kept_.clear();
    if (answer.got < static_cast<ssize_t>(sizeof(AgentReply))) {
      return answer.got > 0;
    }
    accepted_ +=
        answer.reply.magic == kAgentWireMagic && answer.reply.code == 0;
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

std::size_t DescriptorsOf(pid_t pid) {
  const std::filesystem::path path = "/proc/" + std::to_string(pid) + "/fd";
  return std::distance(std::filesystem::directory_iterator(path), {});
}

// Looks until it is so, a minute at most.
bool Comes(const std::function<bool()>& so) {
  const TimeNs until = MonotonicNowNs() + 60 * kSecondNs;
  while (!so()) {
    if (MonotonicNowNs() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(HostileAgentsTest, DescriptorsInEmptyPacketsAreClosed) {
  MemdProcess memd("64MiB");
  Refusal refusal = {};
  ASSERT_EQ(GreetRaw(Dial(memd.socket()).get(), &refusal).type,
            MessageType::kAgentWelcome);
  const std::size_t before = DescriptorsOf(memd.pid());
  const UniqueFd sent(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int i = 0; i < 20; ++i) {
    const UniqueFd socket = Dial(memd.socket());
    ASSERT_EQ(GreetRaw(socket.get(), &refusal).type,
              MessageType::kAgentWelcome);
    ASSERT_TRUE(SendRaw(socket.get(), nullptr, 0, "",
                        {sent.get(), sent.get(), sent.get()}));
    ReceiveRaw(socket.get());
  }
  EXPECT_TRUE(Comes([&] { return DescriptorsOf(memd.pid()) <= before; }))
      << DescriptorsOf(memd.pid()) << " descriptors, " << before << " before";
}

TEST(HostileAgentsTest, AUserfaultfdThatForksOrBlocksIsRefused) {
  MemdProcess memd("64MiB");
  const UniqueFd socket = Dial(memd.socket());
  Refusal refusal = {};
  ASSERT_EQ(GreetRaw(socket.get(), &refusal).type, MessageType::kAgentWelcome);
  const auto made = [](int flags, std::uint64_t features) {
    UniqueFd faults(
        static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | flags)));
    uffdio_api api = {UFFD_API, features, 0};
    return ::ioctl(faults.get(), UFFDIO_API, &api) == 0 ? std::move(faults)
                                                        : UniqueFd();
  };
  const UniqueFd good = made(O_NONBLOCK, 0);
  if (!good.valid()) GTEST_SKIP() << "no userfaultfd here";
  const AgentRequest request = GoodRequest(AgentOp::kUseFaults);
  EXPECT_EQ(CallRaw(socket.get(), request, {good.get()}).code(), Code::kOk);
  const UniqueFd blocks = made(0, 0);
  ASSERT_TRUE(blocks.valid());
  EXPECT_EQ(CallRaw(socket.get(), request, {blocks.get()}).code(),
            Code::kInvalidArgument);
  const UniqueFd removes = made(O_NONBLOCK, UFFD_FEATURE_EVENT_REMOVE);
  ASSERT_TRUE(removes.valid());
  EXPECT_EQ(CallRaw(socket.get(), request, {removes.get()}).code(),
            Code::kInvalidArgument);
  // It would let writes through that nobody hears of.
  const UniqueFd notes = made(
      O_NONBLOCK, UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_PAGEFAULT_FLAG_WP |
                      UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM |
                      UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
  if (notes.valid()) {  // Linux 6.7
    EXPECT_EQ(CallRaw(socket.get(), request, {notes.get()}).code(),
              Code::kInvalidArgument);
  }
  const UniqueFd forks = made(O_NONBLOCK, UFFD_FEATURE_EVENT_FORK);
  if (!forks.valid()) return;  // CAP_SYS_PTRACE is needed for one
  EXPECT_EQ(CallRaw(socket.get(), request, {forks.get()}).code(),
            Code::kInvalidArgument);
}

// Of a tenant's part of a device, of its agents there and of its hits, other
// tenants take nothing, whatever they say.
TEST(HostileAgentsTest, NobodyTakesAnotherTenantsPartOfADevice) {
  MemdProcess memd("64MiB",
                   "[[tenant]]\nname = \"hostile\"\n"
                   "[[tenant]]\nname = \"honest\"\n");
  const UniqueFd honest = Dial(memd.socket());
  Hello hello = GoodHello();
  hello.flags = kHelloAgents;
  std::string("honest").copy(hello.tenant, sizeof(hello.tenant) - 1);
  ASSERT_TRUE(SendRaw(honest.get(), &hello, sizeof(hello), "", {}));
  ASSERT_EQ(ReceiveRaw(honest.get()).fds.size(), 1u);
  constexpr std::uint64_t kBytes = 1 << 30;
  HbmDevice device = {};
  device.name[0] = device.id[0] = 'x';  // as the hostile ones name theirs
  device.memory_bytes = kBytes;
  FieldWriter tail;
  tail.AddStruct(device);
  AgentRequest open = GoodRequest(AgentOp::kHbmOpen);
  open.arg[0] = kBytes;
  const RawAnswer opened = CallRaw(honest.get(), open, {}, tail.bytes());
  ASSERT_EQ(opened.code(), Code::kOk) << opened.tail;
  EXPECT_EQ(opened.reply.value[0], kBytes);
  FieldWriter uses;
  for (const char name : {'x', 'y', 'z'}) {
    HbmUse use = {};
    use.agent[0] = name;
    use.bytes = use.blocks = 1;
    uses.AddStruct(use);
  }
  AgentRequest report = GoodRequest(AgentOp::kHbmReport);
  report.arg[1] = kBytes;
  std::vector<std::unique_ptr<HostileProcess>> hostile;
  for (std::uint32_t i = 0; i < 3; ++i) {
    hostile.push_back(std::make_unique<HostileProcess>(memd, 7 + i));
  }
  bool shared = false;
  for (std::uint64_t round = 1; round <= 40; ++round) {
    for (const auto& process : hostile) process->Run(25);
    report.arg[2] = round;
    report.arg[3] = round * 4096;
    const RawAnswer told = CallRaw(honest.get(), report, {}, uses.bytes());
    ASSERT_EQ(told.code(), Code::kOk) << told.tail;
    ASSERT_GE(told.reply.value[0], kBytes / 2);
    ASSERT_LE(told.reply.value[0], kBytes);
    ASSERT_TRUE(told.tail.empty());
    shared |= told.reply.value[0] < kBytes;
  }
  EXPECT_TRUE(shared);  // they had devices open
  hostile.clear();
  EXPECT_TRUE(Comes(
      [&] { return CallRaw(honest.get(), report).reply.value[0] == kBytes; }));
  std::map<std::string, nlohmann::json> tiers;
  const nlohmann::json all = memd.Memctl("tiers")["tiers"];
  for (const nlohmann::json& tier : all) {
    if (tier["tier"] == "hbm") tiers[tier["tenant"]] = tier;
  }
  EXPECT_EQ(tiers["honest"]["hits"], 40) << tiers["honest"].dump();
  EXPECT_EQ(tiers["honest"]["hit_bytes"], 40 * 4096);
  EXPECT_GT(tiers["hostile"]["hits"], 0);
  EXPECT_EQ(memd.Stop(), 0) << memd.Log();
}

TEST(HostileAgentsTest, ProcessesBeyondClientsMaxAreRefusedUntilOneEnds) {
  MemdProcess memd("64MiB", "clients_max = 4\n");
  std::vector<UniqueFd> sockets;
  Refusal refusal = {};
  for (int i = 0; i < 4; ++i) {
    sockets.push_back(Dial(memd.socket()));
    ASSERT_EQ(GreetRaw(sockets.back().get(), &refusal).type,
              MessageType::kAgentWelcome);
  }
  ASSERT_EQ(GreetRaw(Dial(memd.socket()).get(), &refusal).type,
            MessageType::kRefusal);
  EXPECT_EQ(static_cast<Code>(refusal.code), Code::kResourceExhausted);
  EXPECT_NE(std::string(refusal.message).find("clients_max"), std::string::npos)
      << refusal.message;
  sockets.pop_back();
  EXPECT_TRUE(Comes([&] {
    return GreetRaw(Dial(memd.socket()).get(), &refusal).type ==
           MessageType::kAgentWelcome;
  }));
  EXPECT_EQ(memd.Stop(), 0) << memd.Log();
}

TEST(HostileAgentsTest, AProcessOpensOnlySoManyAgentsAndRegions) {
  MemdProcess memd("64MiB");
  const UniqueFd socket = Dial(memd.socket());
  Refusal refusal = {};
  ASSERT_EQ(GreetRaw(socket.get(), &refusal).type, MessageType::kAgentWelcome);
  AgentRequest open = GoodRequest(AgentOp::kAgentOpen);
  open.flags = kOpenWrite | kOpenCreate;
  open.agent[0] = 'a';
  const RawAnswer agent = CallRaw(socket.get(), open);
  ASSERT_EQ(agent.code(), Code::kOk) << agent.tail;
  AgentRequest region = GoodRequest(AgentOp::kRegionOpen);
  region.handle = static_cast<std::uint32_t>(agent.reply.value[0]);
  region.length = 4096;
  region.region[0] = 'r';
  ASSERT_EQ(CallRaw(socket.get(), region).code(), Code::kOk);
  AgentRequest commit = GoodRequest(AgentOp::kCommit);
  commit.handle = region.handle;
  commit.arg[0] = static_cast<std::uint64_t>(Ack::kVisible);
  FieldWriter message;
  message.Add("");
  const RawAnswer made = CallRaw(socket.get(), commit, {}, message.bytes());
  ASSERT_EQ(made.code(), Code::kOk) << made.tail;
  region.region_version = 1;  // for reading, as often as one likes
  int regions = 1;
  RawAnswer answer;
  while ((answer = CallRaw(socket.get(), region)).code() == Code::kOk) {
    ASSERT_LT(++regions, 5000);
  }
  EXPECT_EQ(answer.code(), Code::kResourceExhausted);
  EXPECT_NE(answer.tail.find("regions open"), std::string::npos) << answer.tail;
  open.flags = 0;
  int agents = 1;
  while ((answer = CallRaw(socket.get(), open)).code() == Code::kOk) {
    ASSERT_LT(++agents, 5000);
  }
  EXPECT_EQ(answer.code(), Code::kResourceExhausted);
  EXPECT_NE(answer.tail.find("agents open"), std::string::npos) << answer.tail;
}

TEST(HostileAgentsTest, AMemdWithoutDescriptorsServesAgainWhenItHasSome) {
  MemdProcess memd("64MiB");
  Refusal refusal = {};
  ASSERT_EQ(GreetRaw(Dial(memd.socket()).get(), &refusal).type,
            MessageType::kAgentWelcome);
  rlimit usual = {};
  ASSERT_EQ(::prlimit(memd.pid(), RLIMIT_NOFILE, nullptr, &usual), 0);
  const rlimit few = {3, usual.rlim_max};
  ASSERT_EQ(::prlimit(memd.pid(), RLIMIT_NOFILE, &few, nullptr), 0);
  const UniqueFd socket = Dial(memd.socket());
  ASSERT_TRUE(Comes([&] {
    return memd.Log().find("accepting a client") != std::string::npos;
  }));
  ASSERT_EQ(::prlimit(memd.pid(), RLIMIT_NOFILE, &usual, nullptr), 0);
  EXPECT_EQ(GreetRaw(socket.get(), &refusal).type, MessageType::kAgentWelcome);
  EXPECT_EQ(memd.Stop(), 0) << memd.Log();
}

}  // namespace
}  // namespace agentmem
