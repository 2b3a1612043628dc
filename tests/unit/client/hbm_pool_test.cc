#include "client/hbm_pool.h"

#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "cuda/host_device.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace agentmem::client {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t kBlock = 16 << 10;
constexpr std::uint64_t kSlab = 64 << 10;  // four of them

Key KeyOf(std::uint32_t number) { return Key{number, {number, 2, 3}}; }

// Does something else while memory is allocated.
class BusyDevice final : public Device {
 public:
  explicit BusyDevice(Device* device) : device_(device) {}

  Outcome Allocate(std::uint64_t bytes, DeviceAddress* memory) override {
    if (meanwhile) meanwhile();
    return device_->Allocate(bytes, memory);
  }
  void Free(DeviceAddress memory) override { device_->Free(memory); }
  Outcome Register(std::span<char> host, Registration what) override {
    return device_->Register(host, what);
  }
  Outcome Copy(const CopyBatch& batch, Stream stream) override {
    return device_->Copy(batch, stream);
  }
  Outcome Record(Stream stream, Event* event) override {
    return device_->Record(stream, event);
  }
  EventState Query(Event event, Outcome* why) override {
    return device_->Query(event, why);
  }
  Outcome Wait(Stream stream, Event event) override {
    return device_->Wait(stream, event);
  }
  const DeviceProperties& properties() const override {
    return device_->properties();
  }

  std::function<void()> meanwhile;

 private:
  Device* const device_;
};

class HbmPoolTest : public testing::Test {
 protected:
  HbmPoolTest() { Open(4 * kSlab); }
  ~HbmPoolTest() override {
    pool_.reset();
    EXPECT_EQ(device_.counts().allocated_bytes, 0u);
    EXPECT_EQ(device_.broken_rules(), 0u) << device_.first_broken_rule();
  }

  void Open(std::uint64_t budget, std::uint64_t wanted = 256 << 20) {
    HbmPool::Options options;
    options.device = &busy_;
    options.clock = &clock_;
    options.wanted_bytes = wanted;
    options.slab_bytes = kSlab;
    options.granule_bytes = kBlock;
    options.is_below = [this](const Key& key, BlockClass) {
      return !only_here_.contains(key.group);
    };
    pool_ = std::make_unique<HbmPool>(std::move(options));
    pool_->SetBudget(budget);
    pool_->OnChange([this] { ++told_; });
  }
  HbmFill Begin(std::uint32_t number, HbmBlock* block,
                HbmAgent agent = HbmAgent(),
                HbmCause cause = HbmCause::kStore) {
    HbmNew what;
    what.key = KeyOf(number);
    what.bytes = kBlock;
    what.block_class = block_class_;
    what.agent = agent;
    return pool_->BeginFill(what, cause, block);
  }
  bool Add(std::uint32_t number, HbmAgent agent = HbmAgent()) {
    HbmBlock block;
    if (Begin(number, &block, agent) != HbmFill::kBegun) return false;
    pool_->EndFill(block, true);
    return true;
  }
  void AddAll(std::uint32_t first, std::uint32_t count,
              HbmAgent agent = HbmAgent()) {
    for (std::uint32_t i = 0; i < count; ++i) {
      EXPECT_TRUE(Add(first + i, agent)) << first + i;
    }
  }
  bool Has(std::uint32_t number, HbmAgent agent = HbmAgent()) {
    HbmBlock block;
    if (!pool_->Find(KeyOf(number), kBlock, agent, &block)) return false;
    pool_->EndUse(block);
    return true;
  }
  std::set<std::uint32_t> All() {
    std::set<std::uint32_t> all;
    for (std::uint32_t i = 0; i < 100; ++i) {
      if (Has(i)) all.insert(i);
    }
    return all;
  }
  HbmBlock Pin(std::uint32_t number) {
    HbmBlock block;
    EXPECT_TRUE(pool_->Find(KeyOf(number), kBlock, HbmAgent(), &block));
    return block;
  }
  std::uint64_t Allocated() { return device_.counts().allocated_bytes; }
  HbmUse Use(const char* agent) { return pool_->UseOf(agent); }
  std::vector<std::uint32_t> NumbersOf(
      const std::vector<HbmPool::Remembered>& had) {
    std::vector<std::uint32_t> numbers;
    for (const auto& one : had) numbers.push_back(one.key.group);
    return numbers;
  }

  HostDevice device_{HostDevice::Options()};
  BusyDevice busy_{&device_};
  ManualClock clock_{kSecondNs};
  std::set<std::uint32_t> only_here_;
  BlockClass block_class_ = BlockClass::kCache;
  int told_ = 0;
  std::unique_ptr<HbmPool> pool_;
};

TEST_F(HbmPoolTest, ABlockIsFoundWhenItsFillHasEndedAndNotBefore) {
  HbmBlock block;
  ASSERT_EQ(Begin(1, &block), HbmFill::kBegun);
  EXPECT_FALSE(Has(1));
  HbmBlock other;
  EXPECT_EQ(Begin(1, &other), HbmFill::kTaken);
  pool_->EndFill(block, true);
  EXPECT_TRUE(Has(1));
  EXPECT_EQ(Begin(1, &other), HbmFill::kThere);
  EXPECT_EQ(other.at, block.at);
  pool_->EndUse(other);
  EXPECT_EQ(pool_->counts().filled, 1u);
}

TEST_F(HbmPoolTest, AFillThatFailedLeavesNothing) {
  HbmBlock block;
  ASSERT_EQ(Begin(1, &block), HbmFill::kBegun);
  pool_->EndFill(block, false);
  EXPECT_FALSE(Has(1));
  EXPECT_EQ(pool_->counts().used_bytes, 0u);
  EXPECT_TRUE(Add(1));
}

TEST_F(HbmPoolTest, ABlockOfAnotherLengthIsNotFound) {
  ASSERT_TRUE(Add(1));
  HbmBlock block;
  EXPECT_FALSE(pool_->Find(KeyOf(1), kBlock - 1, HbmAgent(), &block));
  HbmNew what;
  what.key = KeyOf(1);
  what.bytes = kBlock - 1;
  EXPECT_EQ(pool_->BeginFill(what, HbmCause::kStore, &block), HbmFill::kOther);
}

TEST_F(HbmPoolTest, ABlockOfAnotherTagIsNotFound) {
  HbmNew what;
  what.key = KeyOf(1);
  what.bytes = kBlock;
  what.tag = 7;
  HbmBlock block;
  ASSERT_EQ(pool_->BeginFill(what, HbmCause::kStore, &block), HbmFill::kBegun);
  pool_->EndFill(block, true);
  EXPECT_FALSE(Has(1)) << "as a plain one";
  EXPECT_FALSE(pool_->Find(what.key, kBlock, HbmAgent(), &block, 8));
  ASSERT_TRUE(pool_->Find(what.key, kBlock, HbmAgent(), &block, 7));
  pool_->EndUse(block);
  ASSERT_EQ(pool_->BeginFill(what, HbmCause::kStore, &block), HbmFill::kThere);
  pool_->EndUse(block);
  what.tag = 8;
  EXPECT_EQ(pool_->BeginFill(what, HbmCause::kStore, &block), HbmFill::kOther);
}

TEST_F(HbmPoolTest, TheLeastRecentlyUsedGivesWayAndTheBudgetIsKept) {
  pool_->SetBudget(kSlab);
  AddAll(1, 4);
  EXPECT_TRUE(Has(1));
  AddAll(5, 2);
  EXPECT_THAT(All(), ElementsAre(1, 4, 5, 6));
  EXPECT_EQ(Allocated(), kSlab);
  EXPECT_EQ(pool_->counts().dropped, 2u);
}

TEST_F(HbmPoolTest, WhatIsInUseDoesNotLeave) {
  pool_->SetBudget(kSlab);
  AddAll(1, 4);
  std::vector<HbmBlock> pinned = {Pin(1), Pin(2), Pin(3)};
  ASSERT_TRUE(Add(5));
  pinned.push_back(Pin(5));
  EXPECT_FALSE(Add(6));
  for (const HbmBlock& block : pinned) pool_->EndUse(block);
  EXPECT_TRUE(Add(6));
  EXPECT_THAT(All(), ElementsAre(2, 3, 5, 6));
}

TEST_F(HbmPoolTest, WhatIsOnlyHereDoesNotGiveWayAndIsSentBelow) {
  pool_->SetBudget(kSlab);
  AddAll(1, 4);
  only_here_ = {1, 2, 3, 4};
  told_ = 0;
  EXPECT_FALSE(Add(5));
  EXPECT_GT(told_, 0);
  const std::vector<HbmBlock> written = pool_->TakeToWrite(2);
  ASSERT_EQ(written.size(), 2u);
  EXPECT_EQ(written[0].key, KeyOf(1));
  only_here_ = {3, 4};
  EXPECT_FALSE(Add(5)) << "they are being written";
  for (const HbmBlock& block : written) {
    pool_->EndWrite(block, HbmWritten::kBelow);
  }
  EXPECT_TRUE(Add(5));
  EXPECT_EQ(pool_->counts().demoted, 1u);
  EXPECT_TRUE(Has(3));
}

TEST_F(HbmPoolTest, ASlabOfAnotherClassIsTakenWhenAllOfItIsColder) {
  pool_->SetBudget(2 * kSlab);
  AddAll(1, 8);
  EXPECT_TRUE(Has(2));
  HbmNew what;
  what.key = KeyOf(50);
  what.bytes = kSlab;
  HbmBlock block;
  // Of the first slab, block 2 is the warmest of all; so the second goes.
  ASSERT_EQ(pool_->BeginFill(what, HbmCause::kStore, &block), HbmFill::kBegun);
  EXPECT_THAT(All(), ElementsAre(1, 2, 3, 4));
  pool_->EndFill(block, true);
  EXPECT_EQ(Allocated(), 2 * kSlab);
}

TEST_F(HbmPoolTest, WhenTheBudgetShrinksTheColdestSlabIsFreed) {
  AddAll(1, 12);
  ASSERT_EQ(Allocated(), 3 * kSlab);
  for (const std::uint32_t i : {1, 2, 3, 4, 9}) EXPECT_TRUE(Has(i));
  pool_->SetBudget(2 * kSlab);
  EXPECT_TRUE(pool_->GiveBack(HbmPool::Empty::kKept));
  EXPECT_EQ(Allocated(), 2 * kSlab);
  EXPECT_THAT(All(), ElementsAre(1, 2, 3, 4, 9, 10, 11, 12));
  pool_->SetBudget(0);
  EXPECT_TRUE(pool_->GiveBack(HbmPool::Empty::kKept));
  EXPECT_EQ(Allocated(), 0u);
  EXPECT_FALSE(Add(20));
}

TEST_F(HbmPoolTest, ABudgetThatShrinksBelowWhatIsInUseIsMetWhenTheUseEnds) {
  AddAll(1, 8);
  const HbmBlock first = Pin(2);
  const HbmBlock second = Pin(6);
  pool_->SetBudget(kSlab);
  EXPECT_FALSE(pool_->GiveBack(HbmPool::Empty::kKept));
  EXPECT_EQ(Allocated(), 2 * kSlab);
  EXPECT_TRUE(Add(20)) << "in the slab that stays";
  EXPECT_EQ(Allocated(), 2 * kSlab);
  told_ = 0;
  pool_->EndUse(first);
  pool_->EndUse(second);
  EXPECT_GT(told_, 0) << "one of them is waited for";
  EXPECT_TRUE(pool_->GiveBack(HbmPool::Empty::kKept));
  EXPECT_EQ(Allocated(), kSlab);
}

TEST_F(HbmPoolTest, ABudgetThatGrowsAgainKeepsWhatHasNotLeft) {
  AddAll(1, 4);
  const HbmBlock pinned = Pin(1);
  only_here_ = {2, 3};
  pool_->SetBudget(0);
  EXPECT_FALSE(pool_->GiveBack(HbmPool::Empty::kKept));
  EXPECT_FALSE(Has(4));
  pool_->SetBudget(kSlab);
  EXPECT_TRUE(pool_->GiveBack(HbmPool::Empty::kKept));
  pool_->EndUse(pinned);
  EXPECT_TRUE(pool_->GiveBack(HbmPool::Empty::kKept));
  EXPECT_THAT(All(), ElementsAre(1, 2, 3));
  EXPECT_TRUE(Add(5)) << "the slab takes blocks again";
}

TEST_F(HbmPoolTest, WhatIsStateStaysUntilItIsBelow) {
  block_class_ = BlockClass::kState;
  AddAll(1, 4);
  only_here_ = {3};
  pool_->SetBudget(0);
  EXPECT_FALSE(pool_->GiveBack(HbmPool::Empty::kKept));
  for (const HbmWritten written : {HbmWritten::kNoRoom, HbmWritten::kNot}) {
    const auto blocks = pool_->TakeToWrite(8);
    ASSERT_EQ(blocks.size(), 1u);
    EXPECT_EQ(blocks[0].block_class, BlockClass::kState);
    pool_->EndWrite(blocks[0], written);
    EXPECT_FALSE(pool_->GiveBack(HbmPool::Empty::kKept));
    EXPECT_THAT(All(), ElementsAre(3));
  }
  EXPECT_GT(pool_->counts().allocated_bytes, 0u) << "beyond the budget";
  pool_->EndWrite(pool_->TakeToWrite(8)[0], HbmWritten::kBelow);
  EXPECT_TRUE(pool_->GiveBack(HbmPool::Empty::kKept));
  EXPECT_EQ(pool_->counts().demoted, 1u);
  EXPECT_EQ(pool_->counts().forgotten, 0u);
}

TEST_F(HbmPoolTest, WhatIsCacheIsForgottenWhenThereIsNoRoomBelow) {
  AddAll(1, 4);
  only_here_ = {3};
  pool_->SetBudget(0);
  EXPECT_FALSE(pool_->GiveBack(HbmPool::Empty::kKept));
  pool_->EndWrite(pool_->TakeToWrite(8)[0], HbmWritten::kNot);
  EXPECT_TRUE(Has(3)) << "memd was not to be had; that is no want of room";
  pool_->EndWrite(pool_->TakeToWrite(8)[0], HbmWritten::kNoRoom);
  EXPECT_TRUE(pool_->GiveBack(HbmPool::Empty::kKept));
  EXPECT_EQ(pool_->counts().forgotten, 1u);
  EXPECT_EQ(pool_->counts().dropped, 3u);
}

TEST_F(HbmPoolTest, ABudgetBeyondWhatWasWantedIsNotUsed) {
  pool_.reset();
  Open(1ULL << 40, 2 * kSlab);
  AddAll(1, 12);
  EXPECT_EQ(Allocated(), 2 * kSlab);
}

TEST_F(HbmPoolTest, ASmallBudgetGetsASmallSlab) {
  pool_->SetBudget(kBlock + 100);
  ASSERT_TRUE(Add(1));
  EXPECT_EQ(Allocated(), kBlock);
  pool_->SetBudget(kSlab + kBlock);
  AddAll(2, 4);
  EXPECT_EQ(Allocated(), kSlab + kBlock);
  EXPECT_THAT(All(), ElementsAre(1, 2, 3, 4, 5));
}

TEST_F(HbmPoolTest, WithoutMemoryItWorksWithinWhatItHasAndAsksLater) {
  AddAll(1, 4);
  device_.FailNth({HostDevice::Point::kAllocate, 1, Code::kResourceExhausted});
  AddAll(5, 4);
  EXPECT_EQ(Allocated(), kSlab);
  EXPECT_THAT(All(), ElementsAre(5, 6, 7, 8));
  clock_.Advance(2 * kSecondNs);
  AddAll(9, 1);
  EXPECT_EQ(Allocated(), 2 * kSlab);
  EXPECT_TRUE(Has(5));
}

TEST_F(HbmPoolTest, ACeilingIsABudgetForAWhile) {
  AddAll(1, 8);
  pool_->SetCeiling(kSlab, kSecondNs);
  EXPECT_TRUE(pool_->GiveBack(HbmPool::Empty::kKept));
  EXPECT_EQ(Allocated(), kSlab);
  EXPECT_TRUE(Add(20));
  EXPECT_EQ(Allocated(), kSlab);
  clock_.Advance(kSecondNs);
  AddAll(21, 4);
  EXPECT_EQ(Allocated(), 2 * kSlab);
}

TEST_F(HbmPoolTest, WhoLeavesTakesAlongWhatIsItsAlone) {
  const HbmAgent ada = pool_->OpenAgent("ada");
  const HbmAgent bob = pool_->OpenAgent("bob");
  AddAll(1, 3, ada);
  AddAll(4, 2, bob);
  EXPECT_TRUE(Has(2, bob));
  EXPECT_TRUE(Add(6));
  EXPECT_EQ(Use("ada").blocks, 3u);
  EXPECT_EQ(Use("bob").bytes, 3 * kBlock);
  pool_->Leave("ada");
  EXPECT_FALSE(pool_->HasLeft("ada"));
  pool_->GiveBack(HbmPool::Empty::kKept);
  EXPECT_TRUE(pool_->HasLeft("ada"));
  EXPECT_EQ(Use("ada").blocks, 0u);
  EXPECT_EQ(Use("ada").bytes, 0u);
  EXPECT_THAT(All(), ElementsAre(2, 4, 5, 6));
  // In the order in which they came; the shared one, too.
  EXPECT_THAT(NumbersOf(pool_->Return("ada")), ElementsAre(1, 2, 3));
  EXPECT_THAT(NumbersOf(pool_->Return("ada")), IsEmpty());
  pool_->CloseAgent(ada);
  pool_->CloseAgent(bob);
}

TEST_F(HbmPoolTest, WhoIsAwayStoresNothingHereUntilItLoads) {
  const HbmAgent ada = pool_->OpenAgent("ada");
  ASSERT_TRUE(Add(1, ada));
  HbmBlock late;
  ASSERT_EQ(Begin(2, &late, ada), HbmFill::kBegun);
  pool_->Leave("ada");
  EXPECT_FALSE(Add(3, ada));
  pool_->GiveBack(HbmPool::Empty::kKept);
  EXPECT_FALSE(pool_->HasLeft("ada")) << "one is being filled";
  pool_->EndFill(late, true);
  pool_->GiveBack(HbmPool::Empty::kKept);
  EXPECT_TRUE(pool_->HasLeft("ada"));
  EXPECT_THAT(All(), IsEmpty());
  EXPECT_FALSE(Has(1, ada));
  EXPECT_TRUE(Add(3, ada));
  EXPECT_EQ(Use("ada").blocks, 1u);
  pool_->CloseAgent(ada);
}

TEST_F(HbmPoolTest, WhoLeavesWhileMemoryIsAllocatedForItHasNothing) {
  const HbmAgent ada = pool_->OpenAgent("ada");
  ASSERT_TRUE(Add(1, ada));
  busy_.meanwhile = [this] { pool_->Leave("ada"); };
  EXPECT_EQ(pool_->counts().blocks, 1u);
  AddAll(2, 3);
  EXPECT_FALSE(Add(5, ada));
  pool_->GiveBack(HbmPool::Empty::kKept);
  EXPECT_EQ(Use("ada").blocks, 0u);
  EXPECT_THAT(All(), ElementsAre(2, 3, 4));
  pool_->CloseAgent(ada);
}

TEST_F(HbmPoolTest, WhatIsRememberedHasABoundAndTheFirstIsForgottenFirst) {
  pool_->SetBudget(1ULL << 30);
  const HbmAgent ada = pool_->OpenAgent("ada");
  const HbmAgent bob = pool_->OpenAgent("bob");
  const HbmAgent eve = pool_->OpenAgent("eve");
  // As many entries as it keeps are 4096.
  AddAll(1000, 2000, ada);
  pool_->Leave("ada");
  pool_->GiveBack(HbmPool::Empty::kKept);
  AddAll(4000, 2000, bob);
  pool_->Leave("bob");
  pool_->GiveBack(HbmPool::Empty::kKept);
  AddAll(8000, 100, eve);
  pool_->Leave("eve");
  EXPECT_THAT(pool_->Return("ada"), IsEmpty());
  EXPECT_EQ(pool_->Return("bob").size(), 2000u);
  EXPECT_EQ(pool_->Return("eve").size(), 100u);
  pool_->CloseAgent(ada);
  pool_->CloseAgent(bob);
  pool_->CloseAgent(eve);
}

TEST_F(HbmPoolTest, WhoComesBackBeforeItHasLeftKeepsTheRest) {
  const HbmAgent ada = pool_->OpenAgent("ada");
  AddAll(1, 3, ada);
  const HbmBlock pinned = Pin(2);
  pool_->Leave("ada");
  pool_->GiveBack(HbmPool::Empty::kKept);
  EXPECT_FALSE(pool_->HasLeft("ada"));
  EXPECT_THAT(NumbersOf(pool_->Return("ada")), ElementsAre(1, 2, 3));
  pool_->EndUse(pinned);
  pool_->GiveBack(HbmPool::Empty::kKept);
  EXPECT_THAT(All(), ElementsAre(2));
  pool_->CloseAgent(ada);
}

TEST_F(HbmPoolTest, WhatALoadTakesUpIsNotLeavingAnyMore) {
  const HbmAgent ada = pool_->OpenAgent("ada");
  const HbmAgent bob = pool_->OpenAgent("bob");
  AddAll(1, 2, ada);
  only_here_ = {1, 2};
  pool_->Leave("ada");
  EXPECT_TRUE(Has(1, bob));
  only_here_.clear();
  pool_->GiveBack(HbmPool::Empty::kKept);
  EXPECT_THAT(All(), ElementsAre(1));
  EXPECT_EQ(Use("bob").blocks, 1u);
  pool_->CloseAgent(ada);
  pool_->CloseAgent(bob);
}

TEST_F(HbmPoolTest, ABlockOfVeryManyIsEverybodys) {
  std::vector<HbmAgent> agents;
  for (int i = 0; i < 70; ++i) {
    agents.push_back(pool_->OpenAgent("agent" + std::to_string(i)));
  }
  ASSERT_TRUE(Add(1, agents[0]));
  for (const HbmAgent agent : agents) EXPECT_TRUE(Has(1, agent));
  for (int i = 0; i < 64; ++i) pool_->Leave("agent" + std::to_string(i));
  pool_->GiveBack(HbmPool::Empty::kKept);
  EXPECT_TRUE(Has(1));
  for (const HbmAgent agent : agents) pool_->CloseAgent(agent);
}

TEST_F(HbmPoolTest, AnAllocationThatFailsLiftsNoCeiling) {
  AddAll(1, 4);
  const std::uint64_t had = pool_->counts().allocated_bytes;
  device_.FailNth({HostDevice::Point::kAllocate, 1, Code::kResourceExhausted});
  busy_.meanwhile = [this] { pool_->SetCeiling(0, kSecondNs); };
  HbmBlock block;
  EXPECT_EQ(Begin(5, &block, HbmAgent(), HbmCause::kBringBack),
            HbmFill::kNoRoom);
  busy_.meanwhile = nullptr;
  ASSERT_EQ(pool_->counts().allocated_bytes, had);
  EXPECT_TRUE(pool_->GiveBack(HbmPool::Empty::kKept));
  EXPECT_EQ(pool_->counts().allocated_bytes, 0u);
}

TEST_F(HbmPoolTest, WhatMemdDidNotHearIsToldAgainThoseThatAreGoneFirst) {
  const HbmAgent ada = pool_->OpenAgent("ada");
  const HbmAgent bob = pool_->OpenAgent("bob");
  AddAll(1, 1, ada);
  AddAll(2, 1, bob);
  pool_->EndTelling(pool_->TakeChanged(8), true);
  pool_->CloseAgent(ada);
  pool_->Leave("ada");
  pool_->GiveBack(HbmPool::Empty::kKept);
  pool_->Return("ada");  // nothing is remembered any more
  AddAll(3, 1, bob);
  std::vector<HbmUse> uses = pool_->TakeChanged(8);
  ASSERT_EQ(uses.size(), 2u);
  pool_->EndTelling(uses, false);
  uses = pool_->TakeChanged(8, HbmPool::Telling::kGoneAlone);
  ASSERT_EQ(uses.size(), 1u);
  EXPECT_STREQ(uses[0].agent, "ada");
  EXPECT_EQ(uses[0].blocks, 0u);
  pool_->EndTelling(uses, true);
  uses = pool_->TakeChanged(8, HbmPool::Telling::kGoneAlone);
  ASSERT_EQ(uses.size(), 1u);
  EXPECT_STREQ(uses[0].agent, "bob");
  pool_->EndTelling(uses, true);
  EXPECT_THAT(pool_->TakeChanged(8), IsEmpty());
  pool_->CloseAgent(bob);
}

TEST_F(HbmPoolTest, ChangesAreToldOnceAndAllOfThemToANewMemd) {
  const HbmAgent ada = pool_->OpenAgent("ada");
  const HbmAgent bob = pool_->OpenAgent("bob");
  AddAll(1, 2, ada);
  std::vector<HbmUse> uses = pool_->TakeChanged(8);
  ASSERT_EQ(uses.size(), 1u);
  EXPECT_STREQ(uses[0].agent, "ada");
  EXPECT_EQ(uses[0].bytes, 2 * kBlock);
  EXPECT_THAT(pool_->TakeChanged(8), IsEmpty());
  AddAll(3, 1, bob);
  AddAll(4, 1, ada);
  EXPECT_EQ(pool_->TakeChanged(1).size(), 1u);
  EXPECT_EQ(pool_->TakeChanged(8).size(), 1u);
  pool_->AllChanged();
  EXPECT_EQ(pool_->TakeChanged(8).size(), 2u);
  pool_->CloseAgent(ada);
  pool_->CloseAgent(bob);
}

TEST_F(HbmPoolTest, AnAgentOfWhichNothingIsKnownIsForgotten) {
  for (std::size_t i = 0; i < 3 * kHbmAgentsMax; ++i) {
    const HbmAgent agent = pool_->OpenAgent("agent" + std::to_string(i));
    ASSERT_NE(agent, HbmAgent()) << i;
    pool_->CloseAgent(agent);
  }
}

TEST_F(HbmPoolTest, WhatIsBroughtBackTakesOnlyRoomThatIsFree) {
  pool_->SetBudget(kSlab);
  AddAll(1, 3);
  HbmBlock block;
  ASSERT_EQ(Begin(10, &block, HbmAgent(), HbmCause::kBringBack),
            HbmFill::kBegun);
  pool_->EndFill(block, true);
  EXPECT_EQ(Begin(11, &block, HbmAgent(), HbmCause::kBringBack),
            HbmFill::kNoRoom);
  EXPECT_THAT(All(), ElementsAre(1, 2, 3, 10));
  EXPECT_EQ(pool_->counts().brought_back, 1u);
  EXPECT_EQ(pool_->counts().filled, 3u);
}

TEST_F(HbmPoolTest, WhatIsEmptyIsFreedWhenAskedFor) {
  const HbmAgent ada = pool_->OpenAgent("ada");
  AddAll(1, 4, ada);
  ASSERT_TRUE(Add(9));
  pool_->Leave("ada");
  EXPECT_TRUE(pool_->GiveBack(HbmPool::Empty::kKept));
  EXPECT_EQ(Allocated(), 2 * kSlab);
  EXPECT_TRUE(pool_->GiveBack(HbmPool::Empty::kFreed));
  EXPECT_EQ(Allocated(), kSlab);
  EXPECT_TRUE(Has(9));
  pool_->CloseAgent(ada);
}

TEST_F(HbmPoolTest, AtItsEndStateThatIsOnlyHereIsSentBelow) {
  AddAll(1, 1);
  block_class_ = BlockClass::kState;
  AddAll(2, 2);
  only_here_ = {1, 2};
  pool_->SendStateDown();
  const auto blocks = pool_->TakeToWrite(8);
  ASSERT_EQ(blocks.size(), 1u);
  EXPECT_EQ(blocks[0].key, KeyOf(2));
  pool_->EndWrite(blocks[0], HbmWritten::kBelow);
  EXPECT_THAT(pool_->TakeToWrite(8), IsEmpty());
}

}  // namespace
}  // namespace agentmem::client
