#include "client/hbm_slabs.h"

#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace agentmem::client {
namespace {

using testing::UnorderedElementsAre;

constexpr std::uint64_t kSlab = 64 << 10;
// Classes of 16, 24 and 64 KiB.
const std::size_t kSmall = SizeClassOf(16 << 10);
const std::size_t kOdd = SizeClassOf(24 << 10);
const std::size_t kLarge = SizeClassOf(64 << 10);

class HbmSlabsTest : public testing::Test {
 protected:
  void Add(std::uint64_t at, std::uint64_t bytes = kSlab) {
    slabs_.Add({DeviceAddress(at), bytes});
  }
  HbmSlabs::Slot Take(std::size_t size_class, std::uint32_t entry) {
    HbmSlabs::Slot slot;
    EXPECT_TRUE(slabs_.Take(size_class, entry, &slot));
    return slot;
  }
  bool IsFull(std::size_t size_class) {
    HbmSlabs::Slot slot;
    return !slabs_.Take(size_class, 0, &slot);
  }

  HbmSlabs slabs_;
};

TEST_F(HbmSlabsTest, SlotsOfASlabLieApartAndInIt) {
  Add(0x10000);
  EXPECT_TRUE(IsFull(SizeClassOf(96 << 10))) << "larger than the slab";
  std::set<std::uint64_t> at;
  for (std::uint32_t i = 0; i < 4; ++i) at.insert(Take(kSmall, i).at.value());
  EXPECT_THAT(at, UnorderedElementsAre(0x10000, 0x14000, 0x18000, 0x1c000));
  EXPECT_TRUE(IsFull(kSmall));
  EXPECT_TRUE(IsFull(kLarge)) << "it is of another class";
}

TEST_F(HbmSlabsTest, WhatDoesNotFitIsLeftAtTheEnd) {
  Add(0);
  EXPECT_EQ(Take(kOdd, 1).at.value(), 0u);
  EXPECT_EQ(Take(kOdd, 2).at.value(), 24u << 10);
  EXPECT_TRUE(IsFull(kOdd));
}

TEST_F(HbmSlabsTest, AnEmptySlabTakesAnotherClass) {
  Add(0);
  const HbmSlabs::Slot first = Take(kSmall, 1);
  const HbmSlabs::Slot second = Take(kSmall, 2);
  slabs_.GiveBack(first);
  EXPECT_TRUE(IsFull(kLarge));
  EXPECT_THAT(slabs_.EntriesOf(0), UnorderedElementsAre(2u));
  slabs_.GiveBack(second);
  EXPECT_EQ(Take(kLarge, 3).at.value(), 0u);
}

TEST_F(HbmSlabsTest, TheOldestSlabFillsFirstAndTheNewestGoesFirst) {
  Add(0);
  Add(1 << 20);
  const HbmSlabs::Slot first = Take(kLarge, 1);
  const HbmSlabs::Slot second = Take(kLarge, 2);
  EXPECT_EQ(second.at.value(), 1u << 20);
  slabs_.GiveBack(first);
  slabs_.GiveBack(second);
  EXPECT_EQ(Take(kLarge, 3).at.value(), 0u);
  HbmSlabs::Memory memory;
  ASSERT_TRUE(slabs_.RemoveEmpty(&memory));
  EXPECT_EQ(memory.at.value(), 1u << 20);
  EXPECT_EQ(slabs_.allocated_bytes(), kSlab);
  EXPECT_FALSE(slabs_.RemoveEmpty(&memory));
}

TEST_F(HbmSlabsTest, NoSlotOfAClosedSlabIsTakenAndItGoesWhenItIsEmpty) {
  Add(0);
  Add(1 << 20);
  const HbmSlabs::Slot kept = Take(kSmall, 1);
  const HbmSlabs::Slot other = Take(kSmall, 2);
  slabs_.Close(0);
  EXPECT_EQ(Take(kSmall, 3).slab, 1u);
  slabs_.GiveBack(kept);
  EXPECT_EQ(Take(kSmall, 4).slab, 1u) << "not the one that was given back";
  HbmSlabs::Memory memory;
  EXPECT_FALSE(slabs_.RemoveEmpty(&memory));
  slabs_.GiveBack(other);
  ASSERT_TRUE(slabs_.RemoveEmpty(&memory));
  EXPECT_EQ(memory.at.value(), 0u);
  Add(2 << 20);  // its place is used anew
  EXPECT_EQ(Take(kLarge, 5).at.value(), 2u << 20);
}

TEST_F(HbmSlabsTest, ASlabThatIsOpenedAgainIsAsItWas) {
  Add(0);
  Take(kSmall, 1);
  slabs_.Close(0);
  EXPECT_TRUE(IsFull(kSmall));
  EXPECT_THAT(slabs_.Open(), testing::IsEmpty());
  slabs_.Reopen(0);
  EXPECT_EQ(Take(kSmall, 2).at.value(), 16u << 10);
  EXPECT_THAT(slabs_.Open(), testing::ElementsAre(0u));
  EXPECT_EQ(slabs_.used(0), 2u);
}

}  // namespace
}  // namespace agentmem::client
