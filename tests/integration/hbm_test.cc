// Blocks in device memory, memd's side of it: processes that say what they
// have, budgets, and what phases ask of them. What they hold is said, not held.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "proto/agent_fields.h"
#include "proto/hbm_messages.h"
#include "tests/integration/memd_process.h"
#include "tests/integration/raw_agents.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = 1 << 20;

HbmDevice DeviceOf(std::uint64_t bytes) {
  HbmDevice device = {};
  std::string("a device").copy(device.name, sizeof(device.name) - 1);
  std::string("GPU-1").copy(device.id, sizeof(device.id) - 1);
  device.memory_bytes = bytes;
  return device;
}

template <typename T>
std::string Tail(const std::vector<T>& structs) {
  FieldWriter fields;
  for (const T& value : structs) fields.AddStruct(value);
  return fields.bytes();
}

// A process's connection, and its board.
class HbmProcess {
 public:
  explicit HbmProcess(const MemdProcess& memd, const std::string& name = "e") {
    socket_ = Dial(memd.socket());
    Hello hello = GoodHello();
    hello.flags = kHelloAgents;
    name.copy(hello.client_name, sizeof(hello.client_name) - 1);
    EXPECT_TRUE(SendRaw(socket_.get(), &hello, sizeof(hello), "", {}));
    RawAnswer welcome = ReceiveRaw(socket_.get());
    EXPECT_EQ(welcome.fds.size(), 1u);
    if (welcome.fds.size() != 1) return;
    void* const board = ::mmap(nullptr, kBoardBytes, PROT_READ | PROT_WRITE,
                               MAP_SHARED, welcome.fds[0].get(), 0);
    EXPECT_NE(board, MAP_FAILED);
    board_ = static_cast<std::atomic<std::uint32_t>*>(board);
  }
  ~HbmProcess() {
    if (board_ != nullptr) ::munmap(board_, kBoardBytes);
  }

  RawAnswer Call(const AgentRequest& request, const std::string& tail = "") {
    return CallRaw(socket_.get(), request, {}, tail);
  }
  std::uint64_t Open(std::uint64_t wanted_mib) {
    AgentRequest request = GoodRequest(AgentOp::kHbmOpen);
    request.arg[0] = wanted_mib * kMiB;
    const RawAnswer answer =
        Call(request, Tail<HbmDevice>({DeviceOf(100 * kMiB)}));
    EXPECT_EQ(answer.code(), Code::kOk) << answer.tail;
    word_ = answer.reply.value[1];
    seen_ = Word();
    return answer.reply.value[0] / kMiB;
  }
  struct Answer {
    std::uint64_t budget_mib = 0;
    std::vector<HbmWish> wishes;
  };
  Answer Report(const std::vector<HbmUse>& uses = {}) {
    AgentRequest request = GoodRequest(AgentOp::kHbmReport);
    request.arg[0] = 10 * kMiB;
    request.arg[1] = 80 * kMiB;
    seen_ = Word();
    const RawAnswer answer = Call(request, Tail(uses));
    EXPECT_EQ(answer.code(), Code::kOk) << answer.tail;
    Answer told;
    told.budget_mib = answer.reply.value[0] / kMiB;
    FieldReader fields(answer.tail);
    for (HbmWish wish; fields.NextStruct(&wish);) told.wishes.push_back(wish);
    EXPECT_TRUE(fields.ok());
    return told;
  }
  // The only one that is open.
  HbmWish OneWish() {
    const std::vector<HbmWish> wishes = Report().wishes;
    EXPECT_EQ(wishes.size(), 1u);
    return wishes.empty() ? HbmWish() : wishes[0];
  }
  // Sleeps until memd moves its word, as a process does; a minute at most.
  bool IsWoken() {
    const timespec patience = {60, 0};
    while (Word() == seen_) {
      if (::syscall(SYS_futex, &board_[word_], FUTEX_WAIT, seen_, &patience,
                    nullptr, 0) != 0 &&
          errno == ETIMEDOUT) {
        return false;
      }
    }
    return true;
  }
  bool WasMoved() const { return Word() != seen_; }
  std::uint64_t word() const { return word_; }
  void HangUp() { socket_.Reset(); }

 private:
  std::uint32_t Word() const { return board_[word_].load(); }

  UniqueFd socket_;
  std::atomic<std::uint32_t>* board_ = nullptr;
  std::uint64_t word_ = 0;
  std::uint32_t seen_ = 0;
};

HbmUse UseOf(const std::string& agent, std::uint64_t blocks,
             std::uint64_t answers = 0) {
  HbmUse use = {};
  agent.copy(use.agent, sizeof(use.agent) - 1);
  use.bytes = blocks * kMiB;
  use.blocks = blocks;
  use.answers = answers;
  return use;
}

// An agent's own process, which says what it does.
class AgentProcess {
 public:
  AgentProcess(const MemdProcess& memd, const std::string& name)
      : process_(memd, "agent") {
    AgentRequest open = GoodRequest(AgentOp::kAgentOpen);
    open.flags = kOpenWrite | kOpenCreate;
    name.copy(open.agent, sizeof(open.agent) - 1);
    const RawAnswer answer = process_.Call(open);
    EXPECT_EQ(answer.code(), Code::kOk) << answer.tail;
    handle_ = static_cast<std::uint32_t>(answer.reply.value[0]);
    name_ = name;
  }
  PhaseAnswer SetPhase(AgentPhase phase, DurationNs eta = 0) {
    AgentRequest request = GoodRequest(AgentOp::kAgentPhase);
    request.handle = handle_;
    request.arg[0] = static_cast<std::uint64_t>(phase);
    request.arg[1] = static_cast<std::uint64_t>(eta);
    const RawAnswer answer = process_.Call(request);
    EXPECT_EQ(answer.code(), Code::kOk) << answer.tail;
    return static_cast<PhaseAnswer>(answer.reply.value[0]);
  }
  void Call(AgentOp op) {
    AgentRequest request = GoodRequest(op);
    request.handle = handle_;
    name_.copy(request.agent, sizeof(request.agent) - 1);
    const RawAnswer answer = process_.Call(request);
    EXPECT_EQ(answer.code(), Code::kOk) << answer.tail;
  }

 private:
  HbmProcess process_;
  std::uint32_t handle_ = 0;
  std::string name_;
};

TEST(HbmTest, ADeviceIsSharedAndWhatADeadProcessHadIsTheOthers) {
  MemdProcess memd("64MiB");
  HbmProcess first(memd);
  EXPECT_EQ(first.Open(80), 80u);
  EXPECT_EQ(first.Report({UseOf("a", 3)}).budget_mib, 80u);
  Child second([&](int say) {
    HbmProcess process(memd, "second");
    if (process.Open(80) == 50) Say(say, 'b');
    ::pause();
    return 0;
  });
  ASSERT_EQ(second.Hear(), 'b');
  ASSERT_TRUE(first.IsWoken());
  EXPECT_EQ(first.Report().budget_mib, 50u);
  EXPECT_FALSE(first.WasMoved());
  second.Kill();
  ASSERT_TRUE(first.IsWoken());
  EXPECT_EQ(first.Report().budget_mib, 80u);
  EXPECT_EQ(memd.Stop(), 0) << memd.Log();
}

TEST(HbmTest, APhaseReachesTheProcessThatHasTheBlocks) {
  MemdProcess memd("64MiB", "[hbm]\nleave_ms = 60000\n");
  HbmProcess engine(memd, "engine");
  engine.Open(80);
  AgentProcess agent(memd, "a");
  EXPECT_EQ(agent.SetPhase(AgentPhase::kReasoning), PhaseAnswer::kDeferred);
  engine.Report({UseOf("a", 3), UseOf("b", 1)});
  const TimeNs before = MonotonicNowNs();
  EXPECT_EQ(agent.SetPhase(AgentPhase::kHumanWait), PhaseAnswer::kAccepted);
  ASSERT_TRUE(engine.IsWoken());
  auto wishes = engine.Report().wishes;
  ASSERT_EQ(wishes.size(), 1u);
  EXPECT_STREQ(wishes[0].agent, "a");
  EXPECT_EQ(wishes[0].kind, HbmWishKind::kEmpty);
  EXPECT_EQ(wishes[0].phase, AgentPhase::kHumanWait);
  EXPECT_GE(wishes[0].deadline_ns, before + 60 * kSecondNs);
  EXPECT_LE(wishes[0].deadline_ns, MonotonicNowNs() + 60 * kSecondNs);
  EXPECT_TRUE(engine.Report({UseOf("a", 0, wishes[0].number)}).wishes.empty());
  // A tool that is soon done brings nothing back, reasoning does.
  agent.SetPhase(AgentPhase::kTool, 300 * kMillisecondNs);
  EXPECT_FALSE(engine.WasMoved());
  agent.SetPhase(AgentPhase::kReasoning);
  ASSERT_TRUE(engine.IsWoken());
  wishes = engine.Report().wishes;
  ASSERT_EQ(wishes.size(), 1u);
  EXPECT_EQ(wishes[0].kind, HbmWishKind::kBringBack);
  engine.Report({UseOf("a", 3, wishes[0].number)});
  agent.SetPhase(AgentPhase::kTool, 300 * kMillisecondNs);
  EXPECT_FALSE(engine.WasMoved());
  agent.SetPhase(AgentPhase::kTool, 216 * kSecondNs);
  ASSERT_TRUE(engine.IsWoken());
  EXPECT_EQ(engine.OneWish().phase, AgentPhase::kTool);
}

TEST(HbmTest, TheConfigurationBoundsADeviceATenantAndWhatIsALongTool) {
  MemdProcess memd("64MiB",
                   "[hbm]\ndevice_bytes = \"60MiB\"\nreload_ms = 10\n"
                   "[[tenant]]\nname = \"a\"\nhbm_quota = \"40MiB\"\n");
  HbmProcess engine(memd, "engine");
  EXPECT_EQ(engine.Open(80), 40u);
  MemdProcess free_of_it("64MiB", "[hbm]\ndevice_bytes = \"60MiB\"\n");
  EXPECT_EQ(HbmProcess(free_of_it).Open(80), 60u);
  AgentProcess agent(memd, "a");
  engine.Report({UseOf("a", 3)});
  agent.SetPhase(AgentPhase::kTool, 300 * kMillisecondNs);
  EXPECT_EQ(engine.OneWish().phase, AgentPhase::kTool);
}

// A process that begins to write an agent says nothing of what it does; what
// the one before it said does not count.
TEST(HbmTest, ANewWriterMayHaveBlocksThere) {
  MemdProcess memd("64MiB");
  HbmProcess engine(memd, "engine");
  engine.Open(80);
  {
    AgentProcess agent(memd, "a");
    agent.SetPhase(AgentPhase::kDone);
    auto wishes = engine.Report({UseOf("a", 1)}).wishes;
    ASSERT_EQ(wishes.size(), 1u);
    EXPECT_TRUE(
        engine.Report({UseOf("a", 0, wishes[0].number)}).wishes.empty());
    agent.Call(AgentOp::kAgentClose);
  }
  AgentProcess again(memd, "a");
  EXPECT_TRUE(engine.Report({UseOf("a", 1)}).wishes.empty());
}

TEST(HbmTest, AnOperatorSeesWhoLeftHowSoonAndWhoIsLate) {
  MemdProcess memd("64MiB", "[hbm]\nleave_ms = 1\n");
  HbmProcess engine(memd, "engine");
  engine.Open(80);
  AgentProcess agent(memd, "a");
  engine.Report({UseOf("a", 3), UseOf("b", 1)});
  nlohmann::json processes = memd.Memctl("hbm")["processes"];
  ASSERT_EQ(processes.size(), 1u);
  EXPECT_EQ(processes[0]["pid"], ::getpid());
  EXPECT_EQ(processes[0]["client"], "engine");
  EXPECT_EQ(processes[0]["device"], "a device");
  EXPECT_EQ(processes[0]["budget_bytes"], 80 * kMiB);
  EXPECT_EQ(processes[0]["allocated_bytes"], 10 * kMiB);
  EXPECT_EQ(processes[0]["wanted_bytes"], 80 * kMiB);
  EXPECT_EQ(processes[0]["used_bytes"], 4 * kMiB);
  EXPECT_EQ(processes[0]["agent_count"], 2);
  EXPECT_EQ(memd.Memctl("agent show a")["hbm_bytes"], 3 * kMiB);
  EXPECT_EQ(memd.Memctl("agent list")["agents"][0]["hbm_bytes"], 3 * kMiB);
  const auto of_a = [&] {
    const nlohmann::json agents = memd.Memctl("hbm --agents")["agents"];
    EXPECT_EQ(agents.size(), 2u);
    EXPECT_EQ(agents[1]["name"], "b");
    EXPECT_EQ(agents[1]["wish"], "");
    return agents[0];
  };
  const TimeNs said = MonotonicNowNs();
  agent.SetPhase(AgentPhase::kHumanWait);
  // A memctl takes longer to start than the agent had to leave.
  nlohmann::json left = of_a();
  EXPECT_EQ(left["wish"], "empty");
  EXPECT_EQ(left["phase"], "human_wait");
  EXPECT_EQ(left["wish_open"], true);
  EXPECT_EQ(left["wish_late"], true);
  EXPECT_EQ(left["bytes"], 3 * kMiB);
  const HbmWish wish = engine.OneWish();
  engine.Report({UseOf("a", 0, wish.number)});
  const DurationNs most = MonotonicNowNs() - said;
  left = of_a();
  EXPECT_EQ(left["wish_open"], false);
  EXPECT_EQ(left["wish_late"], true);
  EXPECT_EQ(left["bytes"], 0);
  EXPECT_GT(left["wish_ns"].get<DurationNs>(), kMillisecondNs);
  EXPECT_LE(left["wish_ns"].get<DurationNs>(), most);
  agent.SetPhase(AgentPhase::kReasoning);
  engine.Report({UseOf("a", 3, engine.OneWish().number)});
  left = of_a();
  EXPECT_EQ(left["wish"], "bring_back");
  EXPECT_EQ(left["wish_late"], false);
  EXPECT_EQ(left["bytes"], 3 * kMiB);
  engine.HangUp();
  EXPECT_EQ(memd.Stop(), 0) << memd.Log();
}

TEST(HbmTest, HibernatingEmptiesAndResumingBringsBackAndDeletingEmpties) {
  MemdProcess memd("64MiB");
  HbmProcess engine(memd, "engine");
  engine.Open(80);
  AgentProcess agent(memd, "a");
  engine.Report({UseOf("a", 3)});
  agent.Call(AgentOp::kAgentHibernate);
  auto wishes = engine.Report().wishes;
  ASSERT_EQ(wishes.size(), 1u);
  EXPECT_EQ(wishes[0].kind, HbmWishKind::kEmpty);
  engine.Report({UseOf("a", 0, wishes[0].number)});
  agent.Call(AgentOp::kAgentResume);
  wishes = engine.Report().wishes;
  ASSERT_EQ(wishes.size(), 1u);
  EXPECT_EQ(wishes[0].kind, HbmWishKind::kBringBack);
  engine.Report({UseOf("a", 3, wishes[0].number)});
  agent.Call(AgentOp::kAgentClose);
  agent.Call(AgentOp::kAgentDelete);
  wishes = engine.Report().wishes;
  ASSERT_EQ(wishes.size(), 1u);
  EXPECT_EQ(wishes[0].kind, HbmWishKind::kEmpty);
  EXPECT_EQ(wishes[0].phase, AgentPhase::kDone);
}

// Whoever asks of the device before, between and after.
TEST(HbmTest, TheWordIsItsOwnAndStays) {
  MemdProcess memd("64MiB");
  HbmProcess process(memd);
  AgentRequest report = GoodRequest(AgentOp::kHbmReport);
  AgentRequest close = GoodRequest(AgentOp::kHbmClose);
  EXPECT_EQ(process.Call(report).code(), Code::kFailedPrecondition);
  EXPECT_EQ(process.Call(close).code(), Code::kFailedPrecondition);
  process.Open(80);
  const std::uint64_t word = process.word();
  // It is not to be taken for one of a region.
  AgentRequest unwatch = GoodRequest(AgentOp::kUnwatch);
  unwatch.arg[0] = word;
  EXPECT_EQ(process.Call(unwatch).code(), Code::kInvalidArgument);
  AgentRequest open = GoodRequest(AgentOp::kAgentOpen);
  open.flags = kOpenWrite | kOpenCreate;
  open.agent[0] = 'a';
  AgentRequest region = GoodRequest(AgentOp::kRegionOpen);
  region.handle = static_cast<std::uint32_t>(process.Call(open).reply.value[0]);
  region.length = 4096;
  region.region[0] = 'r';
  ASSERT_EQ(process.Call(region).code(), Code::kOk);
  AgentRequest watch = GoodRequest(AgentOp::kWatch);
  watch.agent[0] = 'a';
  watch.region[0] = 'r';
  const RawAnswer watched = process.Call(watch);
  ASSERT_EQ(watched.code(), Code::kOk) << watched.tail;
  EXPECT_NE(watched.reply.value[0], word);
  EXPECT_EQ(process.Call(close).code(), Code::kOk);
  EXPECT_EQ(process.Call(report).code(), Code::kFailedPrecondition);
  process.Open(80);
  EXPECT_EQ(process.word(), word);
}

// As entries were before there were hits in them.
TEST(HbmTest, WhoKnowsNoHitsGetsEntriesThatEndBeforeThem) {
  MemdProcess memd("64MiB");
  HbmProcess process(memd);
  process.Open(80);
  AgentRequest report = GoodRequest(AgentOp::kHbmReport);
  report.arg[2] = 5;
  report.arg[3] = 5 * kMiB;
  ASSERT_EQ(process.Call(report).code(), Code::kOk);
  AgentRequest list = GoodRequest(AgentOp::kHbmList);
  list.arg[1] = 1;
  const auto entry = [&] {
    const RawAnswer answer = process.Call(list);
    EXPECT_EQ(answer.code(), Code::kOk) << answer.tail;
    FieldReader fields(answer.tail);
    std::string_view field;
    EXPECT_TRUE(fields.Next(&field));
    EXPECT_TRUE(fields.ok());
    return std::string(field);
  };
  const std::string before = entry();
  EXPECT_EQ(before.size(), kHbmEntryBytesMin);
  list.arg[2] = sizeof(HbmEntry);
  const std::string now = entry();
  ASSERT_EQ(now.size(), sizeof(HbmEntry));
  EXPECT_EQ(now.substr(0, kHbmEntryBytesMin), before);
  HbmEntry its = {};
  std::memcpy(&its, now.data(), sizeof(its));
  EXPECT_EQ(its.hits, 5u);
  EXPECT_EQ(its.hit_bytes, 5 * kMiB);
}

TEST(HbmTest, WhatIsNoReportIsRefusedInWords) {
  MemdProcess memd("64MiB");
  HbmProcess process(memd);
  AgentRequest open = GoodRequest(AgentOp::kHbmOpen);
  const auto expect = [&](const RawAnswer& answer, const std::string& words) {
    EXPECT_EQ(answer.code(), Code::kInvalidArgument);
    EXPECT_THAT(answer.tail, HasSubstr(words));
  };
  const HbmDevice device = DeviceOf(kMiB);
  expect(process.Call(open), "one of 144 is expected");
  expect(process.Call(open, Tail<HbmDevice>({device, device})),
         "one of 144 is expected");
  expect(process.Call(open, Tail<HbmDevice>({HbmDevice{}})), "a device's name");
  process.Open(80);
  AgentRequest report = GoodRequest(AgentOp::kHbmReport);
  expect(process.Call(report, "garbage"), "at most 256 of 160");
  expect(process.Call(report, Tail<HbmDevice>({device})), "at most 256 of 160");
  expect(process.Call(report, Tail<HbmUse>(std::vector<HbmUse>(kHbmUsesMax + 1,
                                                               UseOf("a", 1)))),
         "at most 256 of 160");
  expect(process.Call(report, Tail<HbmUse>({UseOf("", 1)})), "an agent's name");
  expect(process.Call(report, Tail<HbmUse>({UseOf("a", 200)})), "agent \"a\"");
  expect(process.Call(report, Tail<HbmUse>({UseOf("a", 1, 7)})), "wish 7");
  report.arg[0] = 101 * kMiB;
  expect(process.Call(report), "allocated");
  // (What is said of hits is no part of it: they were not always told.)
  report.arg[0] = 10 * kMiB;
  report.arg[2] = 5;
  report.arg[3] = ~0ULL;
  EXPECT_EQ(process.Call(report).code(), Code::kOk);
  // As many as fit are fine.
  std::vector<HbmUse> uses;
  for (std::size_t i = 0; i < kHbmUsesMax; ++i) {
    uses.push_back(UseOf("a" + std::to_string(i), 1));
  }
  process.Report(uses);
  AgentRequest list = GoodRequest(AgentOp::kHbmList);
  list.arg[1] = ~0ULL;
  list.arg[2] = ~0ULL;
  std::size_t entries = 0;
  RawAnswer answer;
  do {
    list.arg[0] = entries;
    answer = process.Call(list);
    ASSERT_EQ(answer.code(), Code::kOk) << answer.tail;
    FieldReader fields(answer.tail);
    for (HbmEntry entry; fields.NextStruct(&entry);) ++entries;
    ASSERT_TRUE(fields.ok());
  } while (answer.reply.value[0] != 0);
  EXPECT_EQ(entries, kHbmUsesMax + 1);
  EXPECT_EQ(memd.Stop(), 0) << memd.Log();
}

}  // namespace
}  // namespace agentmem
