// Channel: extents that are held for a device, and how memd gets one back.
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "client/channel.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/client/client_test_base.h"
#include "tests/unit/client/fake_memd.h"

namespace agentmem::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ExtentTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    memd_ = std::make_unique<FakeMemd>(std::string(directory_) + "/memd.sock");
    Endpoint endpoint;
    endpoint.socket_path = std::string(directory_) + "/memd.sock";
    channel_ = std::make_unique<Channel>(endpoint);
    ASSERT_TRUE(channel_->Connect(Long()).ok());
    session_ = channel_->Acquire();
  }
  void TearDown() override {
    session_->Unref();
    channel_.reset();
    memd_.reset();
    rmdir(directory_);
  }

  static Deadline Long() { return Deadline::After(kLongNs); }

  // Tokens of the retires that the hook was told of.
  void HearRetires() {
    channel_->SetRetireHook([this](Session*, std::uint64_t offset,
                                   std::uint64_t bytes, std::uint64_t token) {
      EXPECT_EQ(bytes, kExtentBytes);
      heard_.push_back(offset / kExtentBytes * 100 + token);
    });
  }
  // memd has taken what was posted before.
  void Flush() {
    ASSERT_TRUE(channel_->HoldExtents(session_, 0, 1, Long()).ok());
  }

  char directory_[32] = "/tmp/agentmem-test-XXXXXX";
  std::unique_ptr<FakeMemd> memd_;
  std::unique_ptr<Channel> channel_;
  Session* session_ = nullptr;
  std::vector<std::uint64_t> heard_;
};

TEST_F(ExtentTest, AHoldNamesItsExtentsAndWaitsForTheAnswer) {
  ASSERT_TRUE(
      channel_->HoldExtents(session_, 2 * kExtentBytes, 3, Long()).ok());
  EXPECT_EQ(memd_->Last(Op::kHoldExtents).sequence, 2 * kExtentBytes);
  EXPECT_EQ(memd_->Last(Op::kHoldExtents).slot, 3u);
}

TEST_F(ExtentTest, ALentExtentIsRefusedByItsOffset) {
  CompletionEntry lent = {};
  lent.code = Code::kFailedPrecondition;
  lent.reason = Reason::kExtentLent;
  lent.detail[0] = 8 << 20;
  lent.detail[1] = kExtentBytes;
  memd_->SetAnswer(Op::kHoldExtents, lent);
  const Outcome outcome = channel_->HoldExtents(session_, 0, 3, Long());
  EXPECT_EQ(outcome.code, Code::kFailedPrecondition);
  EXPECT_THAT(outcome.message, HasSubstr("4 MiB at offset 8388608"));
}

TEST_F(ExtentTest, AMemdThatKnowsNoHoldsIsNamedAsSuch) {
  CompletionEntry unknown = {};
  unknown.code = Code::kInvalidArgument;
  unknown.reason = Reason::kBadField;
  unknown.detail[0] = offsetof(SubmissionEntry, op);
  unknown.detail[1] = static_cast<std::uint64_t>(Op::kHoldExtents);
  memd_->SetAnswer(Op::kHoldExtents, unknown);
  const Outcome outcome = channel_->HoldExtents(session_, 0, 1, Long());
  EXPECT_EQ(outcome.code, Code::kUnimplemented);
  EXPECT_THAT(outcome.message, HasSubstr("knows no extent holds"));
}

TEST_F(ExtentTest, ABadOffsetIsNotTakenForAnOldMemd) {
  CompletionEntry bad = {};
  bad.code = Code::kInvalidArgument;
  bad.reason = Reason::kBadField;
  bad.detail[0] = offsetof(SubmissionEntry, sequence);
  memd_->SetAnswer(Op::kHoldExtents, bad);
  EXPECT_EQ(channel_->HoldExtents(session_, 5, 1, Long()).code,
            Code::kInvalidArgument);
}

TEST_F(ExtentTest, TooManyExtentsAtOnceAreRefusedWithoutAsking) {
  for (const std::uint64_t count :
       {std::uint64_t{0}, std::uint64_t{kExtentsPerHoldMax} + 1,
        (std::uint64_t{1} << 32) + 1}) {
    EXPECT_EQ(channel_->HoldExtents(session_, 0, count, Long()).code,
              Code::kInvalidArgument)
        << count;
  }
  EXPECT_EQ(memd_->Count(Op::kHoldExtents), 0);
}

TEST_F(ExtentTest, AHoldOfADeadMemdIsUnavailable) {
  memd_.reset();
  EXPECT_EQ(channel_->HoldExtents(session_, 0, 1, Long()).code,
            Code::kUnavailable);
}

TEST_F(ExtentTest, AHoldThatIsNotAnsweredEndsAtTheDeadline) {
  memd_->Pause();
  EXPECT_EQ(
      channel_
          ->HoldExtents(session_, 0, 1,
                        Deadline::After(static_cast<DurationNs>(kShortNs)))
          .code,
      Code::kDeadlineExceeded);
  memd_->Resume();
  // Its late OK releases nothing: others may have registered that extent.
  Flush();  // takes it off the ring
  Flush();
  EXPECT_EQ(memd_->Count(Op::kReleaseExtents), 0);
}

TEST_F(ExtentTest, AReleaseOfManyExtentsGoesOutInPieces) {
  channel_->ReleaseExtents(session_, 0, kExtentsPerHoldMax + 5);
  Flush();
  EXPECT_EQ(memd_->Count(Op::kReleaseExtents), 2);
  EXPECT_EQ(memd_->Last(Op::kReleaseExtents).sequence,
            kExtentsPerHoldMax * kExtentBytes);
  EXPECT_EQ(memd_->Last(Op::kReleaseExtents).slot, 5u);
}

TEST_F(ExtentTest, WithoutAHookARetireIsAnsweredAtOnce) {
  memd_->Retire(kExtentBytes, 7);
  channel_->Poll();
  memd_->AwaitCount(Op::kExtentReleased, 1);
  EXPECT_EQ(memd_->Last(Op::kExtentReleased).sequence, 7u);
}

TEST_F(ExtentTest, ARetireWaitsForTheAnswerOfWhoRegistered) {
  HearRetires();
  memd_->Retire(kExtentBytes, 7);
  channel_->Poll();
  EXPECT_THAT(heard_, ElementsAre(107));
  Flush();
  EXPECT_EQ(memd_->Count(Op::kExtentReleased), 0);
  channel_->AnswerRetire(session_, 7);
  memd_->AwaitCount(Op::kExtentReleased, 1);
  EXPECT_EQ(memd_->Last(Op::kExtentReleased).sequence, 7u);
}

TEST_F(ExtentTest, WhoWaitsForAnythingHearsRetires) {
  HearRetires();
  memd_->Retire(kExtentBytes, 7);
  Flush();
  EXPECT_THAT(heard_, ElementsAre(107));
}

TEST_F(ExtentTest, TheHookMayAnswerAndRelease) {
  channel_->SetRetireHook([this](Session*, std::uint64_t offset, std::uint64_t,
                                 std::uint64_t token) {
    channel_->ReleaseExtents(session_, offset, 1);
    channel_->AnswerRetire(session_, token);
  });
  memd_->Retire(kExtentBytes, 7);
  memd_->Retire(2 * kExtentBytes, 8);
  channel_->Poll();
  memd_->AwaitCount(Op::kExtentReleased, 2);
  EXPECT_EQ(memd_->Last(Op::kExtentReleased).sequence, 8u);
  EXPECT_EQ(memd_->Last(Op::kReleaseExtents).sequence, 2 * kExtentBytes);
}

TEST_F(ExtentTest, AHookThatWasTakenAwayIsNotRunning) {
  std::atomic<bool> inside = false;
  std::atomic<bool> asked = false;
  std::atomic<bool> go_on = false;
  std::atomic<bool> done = false;
  channel_->SetRetireHook(
      [&](Session*, std::uint64_t, std::uint64_t, std::uint64_t) {
        inside.store(true);
        inside.notify_all();
        go_on.wait(false);
        done.store(true);
      });
  memd_->Retire(0, 7);
  std::thread teller([&] { channel_->Poll(); });
  inside.wait(false);
  std::thread remover([&] {
    asked.store(true);
    asked.notify_all();
    channel_->SetRetireHook(nullptr);
    EXPECT_TRUE(done.load());
  });
  asked.wait(false);
  go_on.store(true);
  go_on.notify_all();
  remover.join();
  teller.join();
}

TEST_F(ExtentTest, ADeadMemdsRetiresAreForgotten) {
  std::atomic<bool> inside = false;
  std::atomic<bool> go_on = false;
  std::atomic<int> calls = 0;
  channel_->SetRetireHook(
      [&](Session*, std::uint64_t, std::uint64_t, std::uint64_t) {
        ++calls;
        inside.store(true);
        inside.notify_all();
        go_on.wait(false);
      });
  memd_->Retire(0, 7);
  std::thread teller([&] { channel_->Poll(); });
  inside.wait(false);
  memd_->Retire(kExtentBytes, 8);
  memd_.reset();
  EXPECT_EQ(channel_->HoldExtents(session_, 0, 1, Long()).code,
            Code::kUnavailable);
  go_on.store(true);
  go_on.notify_all();
  teller.join();
  EXPECT_EQ(calls.load(), 1);
}

}  // namespace
}  // namespace agentmem::client
