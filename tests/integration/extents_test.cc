// Memory that a client holds for its devices, against a real memd: it stays,
// page for page, until the client gives it up or is dead.
#include <fcntl.h>
#include <sys/mman.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/integration/raw_client.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kTimeout = 60'000'000'000;
constexpr std::uint64_t kRegionBytes = 16 << 20;  // more than is not held

// All but two extents; how many bytes that is.
std::uint64_t HeldBytes(const RawClient& raw) {
  return raw.welcome.data_bytes - 2 * kExtentBytes;
}
void HoldMost(RawClient* raw) {
  SubmissionEntry hold = {};
  hold.op = Op::kHoldExtents;
  hold.slot = static_cast<std::uint32_t>(HeldBytes(*raw) / kExtentBytes);
  raw->Post(hold);
  EXPECT_EQ(raw->Await().code, Code::kOk);
}

class ExtentsTest : public testing::Test {
 protected:
  void SetUp() override {
    // Every page is there, so that one which was given back shows as a hole.
    const std::uint64_t bytes = watcher_.welcome.data_bytes;
    ASSERT_GE(bytes, 6 * kExtentBytes);
    const std::vector<char> some(kExtentBytes, 'x');
    for (std::uint64_t at = 0; at < bytes; at += some.size()) {
      ASSERT_EQ(::pwrite(watcher_.data.get(), some.data(), some.size(),
                         static_cast<off_t>(at)),
                static_cast<ssize_t>(some.size()));
    }
    ASSERT_EQ(FirstHole(), bytes);
  }
  void TearDown() override {
    agentmem_region_close(region_);
    agentmem_agent_close(agent_);
    agentmem_close(client_);
    EXPECT_EQ(memd_.Stop(), 0) << memd_.Log();
  }

  std::uint64_t FirstHole() const {
    return static_cast<std::uint64_t>(
        ::lseek(watcher_.data.get(), 0, SEEK_HOLE));
  }
  std::uint64_t RegisteredBytes() const {
    return memd_.Memctl("tenants")["tenants"][0]["registered_bytes"];
  }

  void OpenRegion() {
    client_ = memd_.Connect("agent");
    agentmem_agent_options options = {};
    options.size = sizeof(options);
    options.mode = AGENTMEM_AGENT_WRITE;
    options.create = 1;
    agentmem_error error = {};
    ASSERT_EQ(
        agentmem_agent_open(client_, "a", &options, kTimeout, &agent_, &error),
        AGENTMEM_OK)
        << error.message;
    agentmem_region_options region_options = {};
    region_options.size = sizeof(region_options);
    region_options.bytes = kRegionBytes;
    ASSERT_EQ(agentmem_region_open(agent_, "heap", &region_options, kTimeout,
                                   &region_, &error),
              AGENTMEM_OK)
        << error.message;
  }
  // Every page of the region, with what was written before.
  void Touch() {
    char* const bytes = static_cast<char*>(agentmem_region_data(region_));
    for (std::uint64_t at = 0; at < kRegionBytes; at += 4096) {
      ASSERT_EQ(bytes[at], static_cast<char>(round_ == 0 ? 0 : round_ + at))
          << at << " in round " << round_;
      bytes[at] = static_cast<char>(round_ + 1 + at);
    }
    ++round_;
  }
  // (Not until there is a hole: memd may have touched it again.)
  template <typename Done>
  void TouchUntil(Done done) {
    for (int i = 0; i < 100 && !done(); ++i) Touch();
    EXPECT_TRUE(done());
  }

  MemdProcess memd_{"64MiB"};
  RawClient watcher_{memd_};
  agentmem_client* client_ = nullptr;
  agentmem_agent* agent_ = nullptr;
  agentmem_region* region_ = nullptr;
  std::uint32_t round_ = 0;
};

TEST_F(ExtentsTest, AnExtentIsLentToRegionsOnlyWhenItsHolderIsDead) {
  Child holder([&](int say) {
    RawClient raw(memd_);
    HoldMost(&raw);
    ::shutdown(raw.socket.get(), SHUT_RDWR);  // says nothing about the process
    Say(say, 'h');
    ::pause();
    return 0;
  });
  ASSERT_EQ(holder.Hear(), 'h');
  ASSERT_NO_FATAL_FAILURE(OpenRegion());
  for (int i = 0; i < 3; ++i) ASSERT_NO_FATAL_FAILURE(Touch());
  EXPECT_EQ(RegisteredBytes(), HeldBytes(watcher_));
  EXPECT_GE(FirstHole(), HeldBytes(watcher_));
  holder.Kill();
  holder.Wait();
  TouchUntil([&] { return RegisteredBytes() == 0; });
}

TEST_F(ExtentsTest, AnExtentIsLentToRegionsWhenItsHolderGivesItUp) {
  RawClient holder(memd_);
  HoldMost(&holder);
  std::atomic<std::uint64_t> retired = ~0ULL;
  std::atomic<bool> stop = false;
  std::thread answerer([&] {
    while (!holder.HasCompletion()) {
      if (stop.load()) return;
      ::sched_yield();
    }
    const CompletionEntry retire = holder.Await();
    EXPECT_EQ(retire.kind, CompletionKind::kExtentRetire);
    EXPECT_GE(FirstHole(), HeldBytes(watcher_));
    retired = retire.detail[0];
    SubmissionEntry answer = {};
    answer.op = Op::kExtentReleased;
    answer.sequence = retire.detail[2];
    holder.Post(answer);
  });
  ASSERT_NO_FATAL_FAILURE(OpenRegion());
  TouchUntil([&] { return retired.load() != ~0ULL; });
  stop.store(true);
  answerer.join();
  EXPECT_LT(retired.load(), HeldBytes(watcher_));
}

}  // namespace
}  // namespace agentmem
