// What a round of the pool's keeper takes, at most, by clocks that say how long
// a memd that does not answer was waited for.
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/client/hbm_test_base.h"

namespace agentmem {
namespace {

using testing::Each;

// Each look takes some time.
class TickingClock final : public Clock {
 public:
  explicit TickingClock(DurationNs tick) : tick_(tick) {}
  TimeNs Now() const override { return now_ += tick_; }

 private:
  const DurationNs tick_;
  mutable TimeNs now_ = kSecondNs;
};

class HbmRoundTest : public HbmTest {};

TEST_F(HbmRoundTest, WhatComesBackWaitsOnceForAMemdThatDoesNotAnswer) {
  Store(1, 6, "ada");
  ASSERT_TRUE(
      StepUntilAnswered(link_.Wish(HbmWishKind::kEmpty, "ada", In(kSecondNs))));
  memory_->ReleaseAll();  // memd is asked for each block
  holds_.refusal = Fail(Code::kDeadlineExceeded, "memd does not answer");
  holds_.asked = 0;
  holds_.before_hold = [this] { clock_.Advance(100 * kMillisecondNs); };
  const std::uint64_t back =
      link_.Wish(HbmWishKind::kBringBack, "ada", kNoDeadline);
  keeper_->Step();
  EXPECT_EQ(holds_.asked, 1);
  keeper_->Step();
  EXPECT_EQ(holds_.asked, 2) << "it goes on in the next round";
  holds_.refusal = {};
  holds_.before_hold = [] {};
  ASSERT_TRUE(StepUntilAnswered(back));
  EXPECT_EQ(link_.answers[back].blocks, 6u);
  EXPECT_THAT(Load(1, 6, "ada"), Each(AGENTMEM_TIER_HBM));
}

TEST_F(HbmRoundTest, NobodyWhoComesBackWaitsUntilAnotherIsAllThere) {
  Store(1, 3, "ada");
  Store(11, 3, "bob");
  for (const char* const agent : {"ada", "bob"}) {
    ASSERT_TRUE(StepUntilAnswered(
        link_.Wish(HbmWishKind::kEmpty, agent, In(kSecondNs))));
  }
  ASSERT_TRUE(keeper_->Finish());
  WatchedDevice slow(&device_);
  slow.before_copy = [this] { clock_.Advance(100 * kMillisecondNs); };
  keeper_parts_.kv.device = &slow;
  keeper_ = std::make_unique<client::HbmKeeper>(keeper_parts_);
  ASSERT_TRUE(keeper_->Open(Long()).ok());
  const std::uint64_t ada =
      link_.Wish(HbmWishKind::kBringBack, "ada", kNoDeadline);
  const std::uint64_t bob =
      link_.Wish(HbmWishKind::kBringBack, "bob", kNoDeadline);
  for (int i = 0; i < 3; ++i) {  // a block a round, and it is there in the next
    keeper_->Step();
    device_.Drain();
  }
  EXPECT_EQ(pool_->UseOf("bob").blocks, 1u);
  EXPECT_TRUE(StepUntilAnswered(ada));
  EXPECT_TRUE(StepUntilAnswered(bob));
  EXPECT_EQ(link_.answers[ada].blocks, 3u);
  EXPECT_EQ(link_.answers[bob].blocks, 3u);
  keeper_.reset();  // before its device
}

TEST_F(HbmRoundTest, WhatIsToldGoesInSeveralRoundsWhenMemdIsSlow) {
  constexpr std::size_t kReports = 4;
  std::vector<std::uint64_t> wishes;
  for (std::size_t i = 0; i < kReports * kHbmUsesMax; ++i) {
    wishes.push_back(
        link_.Wish(HbmWishKind::kEmpty, "agent" + std::to_string(i), 0));
  }
  link_.before_answer = [this] { clock_.Advance(100 * kMillisecondNs); };
  const int before = link_.reports;
  keeper_->Step();
  EXPECT_EQ(link_.reports, before + 2) << "it hears of them, and tells some";
  ASSERT_TRUE(StepUntil([&] { return link_.answers.size() == wishes.size(); }));
}

TEST_F(HbmRoundTest, WhatLeavesGoesInSeveralRoundsWhenItTakesLong) {
  ASSERT_TRUE(keeper_->Finish());
  const TickingClock slow(20 * kMillisecondNs);
  keeper_parts_.clock = &slow;
  keeper_ = std::make_unique<client::HbmKeeper>(keeper_parts_);
  ASSERT_TRUE(keeper_->Open(Long()).ok());
  constexpr std::uint32_t kBlocks = 60;
  for (std::uint32_t i = 0; i < kBlocks; i += 6) Store(1 + i, 6, "ada");
  for (const Key& key : Keys(1, kBlocks)) memd_->Evict(key);
  // There is no room below: each is asked for, and forgotten.
  CompletionEntry full = {};
  full.code = Code::kResourceExhausted;
  memd_->SetAnswer(Op::kWantGrants, full);
  std::vector<agentmem_reservation> taken;
  agentmem_reservation room;
  while (agentmem_reserve(client_, 3072, 0, &room, nullptr) == AGENTMEM_OK) {
    taken.push_back(room);
  }
  const std::uint64_t wish = link_.Wish(HbmWishKind::kEmpty, "ada", 0);
  keeper_->Step();
  const std::uint64_t first = pool_->counts().forgotten;
  EXPECT_GT(first, 0u);
  EXPECT_LT(first, kBlocks / 2);
  EXPECT_TRUE(StepUntilAnswered(wish));
  EXPECT_EQ(pool_->counts().forgotten, kBlocks);
  memd_->ClearAnswer(Op::kWantGrants);
  for (auto& one : taken) agentmem_abandon(client_, &one);
  keeper_.reset();  // before its clock
}

}  // namespace
}  // namespace agentmem
