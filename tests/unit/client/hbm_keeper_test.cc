// What the keeper does with what memd says, round by round, by a clock that is
// moved by hand.
#include "client/hbm_keeper.h"

#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/client/hbm_test_base.h"

namespace agentmem {
namespace {

using client::HbmPool;
using testing::AllOf;
using testing::Each;
using testing::SizeIs;

constexpr agentmem_tier kHbm = AGENTMEM_TIER_HBM;
constexpr agentmem_tier kDram = AGENTMEM_TIER_DRAM;
constexpr HbmWishKind kEmpty = HbmWishKind::kEmpty;
constexpr HbmWishKind kBringBack = HbmWishKind::kBringBack;

class HbmKeeperTest : public HbmTest {
 protected:
  bool IsPublished(std::uint32_t number) {
    return client_->reader().ClassBelow(Keys(number, 1)[0]).has_value();
  }
  void Mend() {
    device_.Disarm();
    device_.Mend();
  }
  // What was granted ahead is used up, and memd does not answer.
  std::vector<agentmem_reservation> PauseWithoutGrants() {
    FillDram();
    std::vector<agentmem_reservation> taken;
    agentmem_reservation room;
    while (taken.size() < kGrantEntries &&
           agentmem_reserve(client_, 3072, 0, &room, nullptr) == AGENTMEM_OK) {
      taken.push_back(room);
    }
    memd_->Pause();
    memd_->ClearAnswer(Op::kWantGrants);
    return taken;
  }
  // Says that DRAM is full, to whoever asks for room.
  void FillDram() {
    CompletionEntry full = {};
    full.code = Code::kResourceExhausted;
    memd_->SetAnswer(Op::kWantGrants, full);
  }
};

TEST_F(HbmKeeperTest, MemdSaysHowMuchAndHearsWhatIsThere) {
  EXPECT_EQ(link_.wanted, 1u << 20);
  EXPECT_EQ(pool_->counts().budget_bytes, 1u << 20);
  Store(1, 3, "ada");
  Store(4, 2, "");
  keeper_->Step();
  EXPECT_EQ(link_.uses["ada"].blocks, 3u);
  EXPECT_EQ(link_.uses["ada"].bytes, 3u * 3072);
  EXPECT_EQ(link_.uses.size(), 1u);
  EXPECT_EQ(link_.allocated, 2 * kSlab);
}

TEST_F(HbmKeeperTest, ChangesAreToldTogetherAndNotWhenThereAreNone) {
  Store(1, 1, "ada");
  keeper_->Step();
  const int reports = link_.reports;
  EXPECT_GE(keeper_->Step(), 500 * kMillisecondNs);
  EXPECT_EQ(link_.reports, reports);
  Store(2, 1, "ada");
  const DurationNs pause = keeper_->Step();
  EXPECT_EQ(link_.reports, reports) << "told just before";
  EXPECT_LE(pause, 5 * kMillisecondNs);
  Store(3, 1, "bob");
  clock_.Advance(5 * kMillisecondNs);
  keeper_->Step();
  EXPECT_EQ(link_.reports, reports + 1);
  EXPECT_EQ(link_.uses["ada"].blocks, 2u);
  EXPECT_EQ(link_.uses["bob"].blocks, 1u);
}

TEST_F(HbmKeeperTest, WhoWaitsForAHumanIsGoneInOneRound) {
  Store(1, 4, "ada");
  Store(5, 2, "bob");
  keeper_->Step();
  ASSERT_EQ(PoolBytes(), 2 * kSlab);
  const std::uint64_t wish = link_.Wish(kEmpty, "ada", In(kSecondNs));
  keeper_->Step();
  ASSERT_TRUE(link_.answers.contains(wish));
  EXPECT_EQ(link_.answers[wish].bytes, 0u);
  EXPECT_EQ(PoolBytes(), kSlab);
  EXPECT_EQ(link_.allocated, kSlab);
  EXPECT_EQ(keeper_->emptied(), 1u);
  EXPECT_EQ(keeper_->emptied_late(), 0u);
  EXPECT_THAT(Load(5, 2, "bob"), Each(kHbm));
}

TEST_F(HbmKeeperTest, WhoReasonsAgainHasItsBlocksBack) {
  Store(1, 5, "ada");
  const std::uint64_t left = link_.Wish(kEmpty, "ada", In(kSecondNs));
  ASSERT_TRUE(StepUntilAnswered(left));
  ASSERT_EQ(PoolBytes(), 0u);
  const std::uint64_t back = link_.Wish(kBringBack, "ada", kNoDeadline);
  ASSERT_TRUE(StepUntilAnswered(back));
  EXPECT_EQ(link_.answers[back].blocks, 5u);
  EXPECT_EQ(pool_->counts().brought_back, 5u);
  const std::uint64_t in = device_.counts().bytes_to_device;
  EXPECT_THAT(Load(1, 5, "ada"), AllOf(SizeIs(5), Each(kHbm)));
  EXPECT_EQ(device_.counts().bytes_to_device, in);
}

TEST_F(HbmKeeperTest, WhatIsBelowDramIsFetchedForWhoComesBack) {
  Store(1, 2, "ada");
  ASSERT_TRUE(StepUntilAnswered(link_.Wish(kEmpty, "ada", In(kSecondNs))));
  const Key key = Keys(2, 1)[0];
  const std::string bytes = memd_->BytesOf(key);
  memd_->Evict(key);
  memd_->AddBelow(key, bytes);
  const std::uint64_t back = link_.Wish(kBringBack, "ada", kNoDeadline);
  keeper_->Step();
  memd_->AwaitCount(Op::kPrefetch, 1);
  EXPECT_EQ(memd_->Last(Op::kPrefetch).key, key);
  EXPECT_FALSE(link_.answers.contains(back));
  memd_->AddResident(key, bytes);  // as memd does then
  ASSERT_TRUE(StepUntilAnswered(back));
  EXPECT_EQ(link_.answers[back].blocks, 2u);
}

TEST_F(HbmKeeperTest, WhoComesBackDoesNotWaitForOthersCopies) {
  Store(1, 2, "ada");
  ASSERT_TRUE(StepUntilAnswered(link_.Wish(kEmpty, "ada", In(kSecondNs))));
  device_.Hold();
  const std::uint64_t ada = link_.Wish(kBringBack, "ada", kNoDeadline);
  keeper_->Step();
  const std::uint64_t bob = link_.Wish(kBringBack, "bob", kNoDeadline);
  keeper_->Step();
  EXPECT_TRUE(link_.answers.contains(bob));
  EXPECT_FALSE(link_.answers.contains(ada));
  device_.Run();
  ASSERT_TRUE(StepUntilAnswered(ada));
}

TEST_F(HbmKeeperTest, WhatIsNowhereDoesNotHoldUpWhoComesBack) {
  Store(1, 3, "ada");
  ASSERT_TRUE(StepUntilAnswered(link_.Wish(kEmpty, "ada", In(kSecondNs))));
  memd_->Evict(Keys(2, 1)[0]);
  const std::uint64_t back = link_.Wish(kBringBack, "ada", kNoDeadline);
  ASSERT_TRUE(StepUntilAnswered(back));
  EXPECT_EQ(link_.answers[back].blocks, 2u);
}

TEST_F(HbmKeeperTest, WhoComesBackTakesNoRoomOfOthers) {
  link_.SetBudget(2 * kSlab);
  keeper_->Step();
  Store(1, 6, "ada");
  ASSERT_TRUE(StepUntilAnswered(link_.Wish(kEmpty, "ada", In(kSecondNs))));
  Store(11, 6, "bob");
  const std::uint64_t back = link_.Wish(kBringBack, "ada", kNoDeadline);
  ASSERT_TRUE(StepUntilAnswered(back));
  EXPECT_EQ(link_.answers[back].blocks, 2u);
  EXPECT_THAT(Load(11, 6, "bob"), Each(kHbm));
  const std::vector<agentmem_tier> tiers = Load(1, 2, "ada");
  EXPECT_THAT(tiers, Each(kHbm)) << "its first ones";
}

TEST_F(HbmKeeperTest, WhatIsOnlyHereIsWrittenBelowBeforeItLeaves) {
  Store(1, 4, "ada", BlockClass::kState);
  const std::string first = memd_->BytesOf(Keys(1, 1)[0]);
  for (const Key& key : Keys(1, 3)) memd_->Evict(key);
  ASSERT_FALSE(IsPublished(1));
  const std::uint64_t wish = link_.Wish(kEmpty, "ada", In(kSecondNs));
  ASSERT_TRUE(StepUntilAnswered(wish));
  EXPECT_EQ(PoolBytes(), 0u);
  EXPECT_EQ(pool_->counts().demoted, 3u);
  EXPECT_EQ(pool_->counts().dropped, 1u);
  EXPECT_TRUE(IsPublished(3));
  EXPECT_EQ(memd_->BytesOf(Keys(1, 1)[0]), first);
  EXPECT_EQ(memd_->Last(Op::kPublish).block_class, BlockClass::kState);
  EXPECT_THAT(Load(1, 4, ""), Each(kDram));
}

// Another's store stands behind all that its engine computes. (With a block of
// hers the slab stays: the device lets go of memory behind everything.)
TEST_F(HbmKeeperTest, WhoLeavesDoesNotStandBehindAnothersEngine) {
  Store(1, 3, "ada", BlockClass::kState);
  Store(4, 1, "bob");
  for (const Key& key : Keys(1, 3)) memd_->Evict(key);
  device_.Hold();
  const auto store = NewStore();
  const std::vector<Key> keys = Keys(11, 1);
  const std::vector<std::uint32_t> pages = Pages(1);
  ASSERT_TRUE(store->Post({keys, pages}, engine_, Long()).ok());
  const std::uint64_t wish = link_.Wish(kEmpty, "ada", In(kSecondNs));
  for (int i = 0; i < 1000 && !link_.answers.contains(wish); ++i) {
    keeper_->Step();
    device_.StepStream(device_.properties().down, 100);
    clock_.Advance(kMillisecondNs);
  }
  EXPECT_TRUE(link_.answers.contains(wish));
  EXPECT_EQ(pool_->counts().demoted, 3u);
  device_.Run();
  EXPECT_TRUE(store->Wait(Long()).ok());
}

TEST_F(HbmKeeperTest, WhatDramHasNoRoomForStaysIfItIsStateAndIsToldLate) {
  Store(1, 2, "ada", BlockClass::kState);
  Store(3, 2, "bob");
  for (const Key& key : Keys(1, 4)) memd_->Evict(key);
  // What was granted ahead is used up.
  agentmem_reservation room[16];
  int taken = 0;
  FillDram();
  while (taken < 16 && agentmem_reserve(client_, 3072, 0, &room[taken],
                                        nullptr) == AGENTMEM_OK) {
    ++taken;
  }
  const std::uint64_t ada = link_.Wish(kEmpty, "ada", In(kSecondNs));
  const std::uint64_t bob = link_.Wish(kEmpty, "bob", In(kSecondNs));
  ASSERT_TRUE(StepUntilAnswered(bob));
  EXPECT_EQ(pool_->counts().forgotten, 2u);
  for (int i = 0; i < 20; ++i) {
    clock_.Advance(100 * kMillisecondNs);
    keeper_->Step();
  }
  EXPECT_FALSE(link_.answers.contains(ada));
  EXPECT_EQ(pool_->UseOf("ada").blocks, 2u);
  memd_->ClearAnswer(Op::kWantGrants);
  for (int i = 0; i < taken; ++i) agentmem_abandon(client_, &room[i]);
  ASSERT_TRUE(StepUntilAnswered(ada));
  EXPECT_EQ(keeper_->emptied_late(), 1u);
  EXPECT_GE(link_.answers[ada].took_ns, 2u * kSecondNs);
  EXPECT_TRUE(IsPublished(1));
}

TEST_F(HbmKeeperTest, AMemdThatIsLateLosesNoBlocksButOneThatStaysSoDoes) {
  Store(1, 3, "ada");
  for (const Key& key : Keys(1, 3)) memd_->Evict(key);
  std::vector<agentmem_reservation> room = PauseWithoutGrants();
  const std::uint64_t slow = link_.Wish(kEmpty, "ada", In(kSecondNs));
  keeper_->Step();
  keeper_->Step();
  EXPECT_EQ(pool_->counts().forgotten, 0u);
  EXPECT_EQ(pool_->UseOf("ada").blocks, 3u);
  memd_->Resume();
  for (auto& one : room) agentmem_abandon(client_, &one);
  ASSERT_TRUE(StepUntilAnswered(slow));
  EXPECT_EQ(pool_->counts().demoted, 3u);
  EXPECT_TRUE(IsPublished(1));
  Store(4, 2, "bob");
  for (const Key& key : Keys(4, 2)) memd_->Evict(key);
  room = PauseWithoutGrants();
  const std::uint64_t stuck = link_.Wish(kEmpty, "bob", In(kSecondNs));
  for (int i = 0; i < 20 && !link_.answers.contains(stuck); ++i) {
    keeper_->Step();
    clock_.Advance(100 * kMillisecondNs);
  }
  EXPECT_TRUE(link_.answers.contains(stuck));
  EXPECT_EQ(pool_->counts().forgotten, 2u);
  memd_->Resume();
  for (auto& one : room) agentmem_abandon(client_, &one);
  // Late again, later: that is no reason to lose them at once.
  clock_.Advance(kSecondNs);
  keeper_->Step();
  Store(6, 2, "cid");
  for (const Key& key : Keys(6, 2)) memd_->Evict(key);
  room = PauseWithoutGrants();
  const std::uint64_t late = link_.Wish(kEmpty, "cid", In(kSecondNs));
  keeper_->Step();
  EXPECT_EQ(pool_->counts().forgotten, 2u);
  EXPECT_EQ(pool_->UseOf("cid").blocks, 2u);
  memd_->Resume();
  for (auto& one : room) agentmem_abandon(client_, &one);
  EXPECT_TRUE(StepUntilAnswered(late));
}

TEST_F(HbmKeeperTest, ACopyThatUsesABlockIsWaitedFor) {
  Store(1, 4, "ada");
  keeper_->Step();
  device_.Hold();
  const auto load = LoadOf("");
  const std::vector<Key> keys = Keys(1, 2);
  const std::vector<std::uint32_t> pages = Pages(2);
  ASSERT_TRUE(load->Post({keys, pages}, engine_, Long()).ok());
  const std::uint64_t wish = link_.Wish(kEmpty, "ada", In(5 * kMillisecondNs));
  EXPECT_LE(keeper_->Step(), kMillisecondNs) << "it looks again soon";
  EXPECT_EQ(pool_->UseOf("ada").blocks, 2u);
  clock_.Advance(10 * kMillisecondNs);
  keeper_->Step();
  EXPECT_FALSE(link_.answers.contains(wish));
  EXPECT_EQ(link_.uses["ada"].blocks, 2u) << "memd hears of those that left";
  device_.Run();
  ASSERT_TRUE(load->Wait(Long()).ok());
  ExpectLoaded(2);
  keeper_->Step();
  EXPECT_TRUE(link_.answers.contains(wish));
  EXPECT_EQ(keeper_->emptied_late(), 1u);
  EXPECT_EQ(link_.answers[wish].took_ns, 10u * kMillisecondNs);
  EXPECT_EQ(PoolBytes(), 0u);
}

TEST_F(HbmKeeperTest, ALaterWishTakesThePlaceOfAnEarlierOne) {
  Store(1, 3, "ada");
  client::HbmBlock pinned;
  ASSERT_TRUE(pool_->Find(Keys(2, 1)[0], 3072, client::HbmAgent(), &pinned));
  const std::uint64_t left = link_.Wish(kEmpty, "ada", In(kSecondNs));
  keeper_->Step();
  const std::uint64_t back = link_.Wish(kBringBack, "ada", kNoDeadline);
  ASSERT_TRUE(StepUntilAnswered(back));
  EXPECT_FALSE(link_.answers.contains(left));
  pool_->EndUse(pinned);
  keeper_->Step();
  EXPECT_EQ(link_.answers[back].blocks, 3u);
  EXPECT_THAT(Load(1, 3, "ada"), Each(kHbm));
}

TEST_F(HbmKeeperTest, WhoLeavesAgainBeforeAllIsBackIsRememberedWhole) {
  Store(1, 4, "ada");
  ASSERT_TRUE(StepUntilAnswered(link_.Wish(kEmpty, "ada", In(kSecondNs))));
  const Key last = Keys(4, 1)[0];
  const std::string bytes = memd_->BytesOf(last);
  memd_->Evict(last);
  memd_->AddBelow(last, bytes);  // comes later than the others
  device_.Hold();
  link_.Wish(kBringBack, "ada", kNoDeadline);
  keeper_->Step();
  const std::uint64_t left = link_.Wish(kEmpty, "ada", In(kSecondNs));
  keeper_->Step();
  EXPECT_FALSE(link_.answers.contains(left)) << "copies are under way";
  device_.Run();
  ASSERT_TRUE(StepUntilAnswered(left));
  EXPECT_EQ(pool_->UseOf("ada").blocks, 0u);
  memd_->AddResident(last, bytes);
  const std::uint64_t back = link_.Wish(kBringBack, "ada", kNoDeadline);
  ASSERT_TRUE(StepUntilAnswered(back));
  EXPECT_EQ(link_.answers[back].blocks, 4u);
}

TEST_F(HbmKeeperTest, AWishForWhomItDoesNotKnowIsAnswered) {
  const std::uint64_t empty = link_.Wish(kEmpty, "nobody", In(kSecondNs));
  keeper_->Step();
  EXPECT_TRUE(link_.answers.contains(empty));
  const std::uint64_t back = link_.Wish(kBringBack, "nobody", kNoDeadline);
  keeper_->Step();
  EXPECT_TRUE(link_.answers.contains(back));
  link_.Wish(static_cast<HbmWishKind>(9), "nobody", In(kSecondNs));
  keeper_->Step();
}

TEST_F(HbmKeeperTest, ABudgetThatShrinksIsMetAndTold) {
  Store(1, 6, "");
  Store(11, 6, "");
  keeper_->Step();
  ASSERT_EQ(PoolBytes(), 3 * kSlab);
  link_.SetBudget(kSlab);
  ASSERT_TRUE(StepUntil([&] { return link_.allocated == kSlab; }));
  EXPECT_EQ(PoolBytes(), kSlab);
  EXPECT_EQ(pool_->counts().dropped, 8u);
  link_.SetBudget(0);
  ASSERT_TRUE(StepUntil([&] { return link_.allocated == 0; }));
  EXPECT_THAT(Load(1, 6, ""), Each(kDram));
}

TEST_F(HbmKeeperTest, WhatHadNoRoomBecauseNothingIsBelowGetsSome) {
  link_.SetBudget(kSlab);
  keeper_->Step();
  Store(1, 4, "");
  for (const Key& key : Keys(1, 4)) memd_->Evict(key);
  Store(5, 1, "");
  EXPECT_EQ(pool_->counts().filled, 4u);
  // (Published is not enough: until memd's answer is heard, it is in use.)
  ASSERT_TRUE(StepUntil([&] { return keeper_->Step() > 100 * kMillisecondNs; }))
      << "nothing is under way";
  EXPECT_TRUE(IsPublished(1));
  Store(6, 1, "");
  EXPECT_EQ(pool_->counts().filled, 5u);
  EXPECT_EQ(pool_->counts().demoted, 1u);
}

TEST_F(HbmKeeperTest, WhoNeedsMemoryGetsItFromThePool) {
  Store(1, 6, "");
  const std::uint64_t had = PoolBytes();
  EXPECT_FALSE(keeper_->MakeRoom(had - 1, client::Deadline::After(0)));
  keeper_->Step();
  EXPECT_EQ(PoolBytes(), had - kSlab);
  EXPECT_TRUE(keeper_->MakeRoom(had - 1, client::Deadline::After(0)));
  clock_.Advance(2 * kSecondNs);
}

TEST_F(HbmKeeperTest, ANewMemdIsToldAllOfIt) {
  Store(1, 2, "ada");
  Store(3, 1, "bob");
  keeper_->Step();
  client::HbmBlock pinned;
  ASSERT_TRUE(pool_->Find(Keys(1, 1)[0], 3072, client::HbmAgent(), &pinned));
  link_.Wish(kEmpty, "ada", In(kSecondNs));
  keeper_->Step();
  // Dies in the midst of a wish.
  link_.lost = true;
  link_.wishes.clear();
  link_.uses.clear();
  link_.refusal = Fail(Code::kUnavailable, "dead");
  clock_.Advance(2 * kSecondNs);
  keeper_->Step();
  EXPECT_GE(link_.opens, 2);
  EXPECT_THAT(Load(3, 1, "bob"), Each(kHbm)) << "what is there stays";
  link_.refusal = {};
  link_.budget = 1 << 19;
  ASSERT_TRUE(StepUntil([&] { return link_.uses.contains("bob"); }));
  EXPECT_EQ(met_, 1);
  EXPECT_EQ(pool_->counts().budget_bytes, 1u << 19);
  EXPECT_EQ(link_.uses["bob"].blocks, 1u);
  EXPECT_EQ(link_.uses["ada"].blocks, 1u);
  EXPECT_TRUE(link_.answers.empty());
  pool_->EndUse(pinned);
  ASSERT_TRUE(StepUntilAnswered(link_.Wish(kEmpty, "ada", In(kSecondNs))));
}

TEST_F(HbmKeeperTest, AReportThatIsRefusedIsNotRepeatedAtOnce) {
  keeper_->Step();
  Store(1, 2, "ada");
  clock_.Advance(5 * kMillisecondNs);
  link_.report_refusal = Fail(Code::kResourceExhausted, "too many agents");
  const int reports = link_.reports;
  EXPECT_GE(keeper_->Step(), 100 * kMillisecondNs);
  link_.Wish(kEmpty, "bob", In(kSecondNs));  // rings
  for (int i = 0; i < 10; ++i) keeper_->Step();
  EXPECT_EQ(link_.reports, reports + 1);
  link_.report_refusal = {};
  clock_.Advance(110 * kMillisecondNs);
  keeper_->Step();
  EXPECT_EQ(link_.uses["ada"].blocks, 2u);
}

TEST_F(HbmKeeperTest, ThatAnAgentHasNothingLeftIsToldThoughAReportIsRefused) {
  Store(1, 2, "ada");
  keeper_->Step();
  ASSERT_EQ(link_.uses["ada"].blocks, 2u);
  keeps_.clear();
  link_.SetBudget(0);
  keeper_->Step();
  ASSERT_EQ(pool_->UseOf("ada").blocks, 0u);
  link_.report_refusal = Fail(Code::kDeadlineExceeded, "late");
  const int reports = link_.reports;
  clock_.Advance(5 * kMillisecondNs);
  keeper_->Step();
  ASSERT_GT(link_.reports, reports);
  ASSERT_EQ(link_.uses["ada"].blocks, 2u);
  link_.report_refusal = {};
  clock_.Advance(110 * kMillisecondNs);
  keeper_->Step();
  EXPECT_EQ(link_.uses["ada"].blocks, 0u);
}

TEST_F(HbmKeeperTest, AThreadSleepsWhileReportsAreRefused) {
  link_.report_refusal = Fail(Code::kResourceExhausted, "too many agents");
  Store(1, 1, "ada");
  ASSERT_TRUE(keeper_->Start().ok());
  const client::Deadline deadline = client::Deadline::After(2 * kSecondNs);
  while (link_.sleeps == 0 && !deadline.Passed()) std::this_thread::yield();
  EXPECT_GT(link_.sleeps, 0);
  EXPECT_TRUE(keeper_->Stop());
}

TEST_F(HbmKeeperTest, WhoWasAwayStoresAgainAfterMemdDied) {
  Store(1, 2, "ada");
  ASSERT_TRUE(StepUntilAnswered(link_.Wish(kEmpty, "ada", In(kSecondNs))));
  link_.lost = true;
  clock_.Advance(2 * kSecondNs);
  ASSERT_TRUE(StepUntil([&] { return link_.opens == 2; }));
  Store(3, 2, "ada");
  EXPECT_EQ(pool_->UseOf("ada").blocks, 2u);
}

TEST_F(HbmKeeperTest, IdleItSleepsASecondAndSweepsWhenItWakes) {
  keeper_->Step();
  const int sweeps = sweeps_;
  EXPECT_EQ(keeper_->Step(), kSecondNs);
  EXPECT_EQ(sweeps_, sweeps + 1);
}

TEST_F(HbmKeeperTest, AtItsEndStateIsWrittenBelowAndCacheIsNot) {
  Store(1, 2, "", BlockClass::kState);
  Store(3, 2, "");
  for (const Key& key : Keys(1, 4)) memd_->Evict(key);
  EXPECT_TRUE(keeper_->Finish());
  AwaitResident(Keys(1, 1)[0]);
  EXPECT_TRUE(IsPublished(2));
  EXPECT_FALSE(IsPublished(3));
  EXPECT_EQ(link_.closes, 1);
}

TEST_F(HbmKeeperTest, AMemdThatHangsDoesNotKeepTheDevice) {
  ASSERT_TRUE(keeper_->Finish());
  keeper_parts_.finish_ns = 20 * kMillisecondNs;
  keeper_ = std::make_unique<client::HbmKeeper>(keeper_parts_);
  ASSERT_TRUE(keeper_->Open(Long()).ok());
  Store(1, 2, "ada", BlockClass::kState);
  for (const Key& key : Keys(1, 2)) memd_->Evict(key);
  device_.Hold();
  link_.Wish(kEmpty, "ada", In(kSecondNs));
  keeper_->Step();  // has room, and copies
  memd_->Pause();
  device_.Run();
  const client::Deadline soon = client::Deadline::After(5 * kSecondNs);
  EXPECT_TRUE(keeper_->Finish());
  EXPECT_FALSE(soon.Passed());
  keeper_.reset();
  memd_->Resume();
}

TEST_F(HbmKeeperTest, AtItsEndStateIsWrittenToTheMemdThatIsThereNow) {
  Store(1, 2, "", BlockClass::kState);
  for (const Key& key : Keys(1, 2)) memd_->Evict(key);
  link_.lost = true;
  const int opens = link_.opens;
  EXPECT_TRUE(keeper_->Finish());
  EXPECT_EQ(link_.opens, opens + 1);
  EXPECT_EQ(met_, 1);
  AwaitResident(Keys(1, 1)[0]);
  EXPECT_TRUE(IsPublished(2));
  // With nothing to write it does not look for one.
  link_.lost = true;
  pool_->SetBudget(0);
  pool_->GiveBack(HbmPool::Empty::kFreed);
  EXPECT_TRUE(keeper_->Finish());
  EXPECT_EQ(link_.opens, opens + 1);
}

TEST_F(HbmKeeperTest, AThreadDoesItAndEndsWhenItIsTold) {
  ASSERT_TRUE(keeper_->Start().ok());
  EXPECT_TRUE(keeper_->Stop());
  EXPECT_GE(link_.reports, 0);
  EXPECT_EQ(link_.closes, 1);
}

// Whatever fails, no wrong byte is seen, and the wish is answered in the end.
TEST_F(HbmKeeperTest, FailedCopiesOfTheKeeperLoseNothing) {
  for (const HostDevice::Point point :
       {HostDevice::Point::kPost, HostDevice::Point::kCopy,
        HostDevice::Point::kRecord, HostDevice::Point::kRegister}) {
    for (std::uint64_t nth = 1; nth <= 4; ++nth) {
      pool_->Return("ada");
      Store(1, 3, "ada", BlockClass::kState);
      ASSERT_EQ(pool_->UseOf("ada").blocks, 3u);
      const std::vector<Key> keys = Keys(1, 3);
      std::vector<std::string> bytes;
      for (const Key& key : keys) {
        bytes.push_back(memd_->BytesOf(key));
        memd_->Evict(key);
      }
      device_.FailNth({point, nth, Code::kInternal});
      link_.Wish(kEmpty, "ada", In(kSecondNs));
      for (int i = 0; i < 5; ++i) {
        keeper_->Step();
        device_.Drain();
      }
      Mend();
      ASSERT_TRUE(StepUntilAnswered(link_.numbers));
      EXPECT_EQ(PoolBytes(), 0u);
      for (std::size_t i = 0; i < keys.size(); ++i) {
        EXPECT_EQ(memd_->BytesOf(keys[i]), bytes[i]);
      }
      device_.FailNth({point, nth, Code::kInternal});
      link_.Wish(kBringBack, "ada", kNoDeadline);
      for (int i = 0; i < 5; ++i) {
        keeper_->Step();
        device_.Drain();
      }
      Mend();
      ASSERT_TRUE(StepUntilAnswered(link_.numbers));
      ExpectPoolIsRight(keys);
      Mend();
      link_.Wish(kEmpty, "ada", In(kSecondNs));
      ASSERT_TRUE(StepUntilAnswered(link_.numbers));
    }
  }
}

}  // namespace
}  // namespace agentmem
