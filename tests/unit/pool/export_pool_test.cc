// The book of export extents: lives of records, who leaves when room is needed,
// and that no late word of a writer changes what is committed.
#include "memd/pool/export_pool.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

#include "proto/size_class.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kFirst = 1000;  // generation

class ExportPoolTest : public ::testing::Test {
 protected:
  static ExportPool::Name NameOf(std::uint32_t number) {
    return {7, Key{number, {1, 2, number}}};
  }
  ExportPool::Block Wanted(std::uint32_t number, std::uint32_t length,
                           BlockClass block_class = BlockClass::kCache) {
    ExportPool::Block block;
    block.name = NameOf(number);
    block.block_class = block_class;
    block.length = length;
    block.owner = 42;
    return block;
  }
  Code Put(std::uint32_t number, std::uint32_t length,
           BlockClass block_class = BlockClass::kCache) {
    ExportPool::Block block = Wanted(number, length, block_class);
    const Code code = pool_.Reserve(&block, now_);
    if (code != Code::kOk) return code;
    return pool_.Commit(block.name, block.generation, 99);
  }
  void ExpectSound() { EXPECT_EQ(pool_.CheckInvariants(), ""); }

  std::vector<char> memory_ = std::vector<char>(2 * kExtentBytes);
  ExportPool pool_{memory_, kFirst};
  TimeNs now_ = kSecondNs;
};

TEST_F(ExportPoolTest, RoomReservedAheadTakesTheBlockThatIsNamed) {
  ExportPool::Block room;
  room.length = 64 << 10;
  room.owner = 42;
  ASSERT_EQ(pool_.ReserveAhead(&room, now_), Code::kOk);
  EXPECT_EQ(pool_.ahead_bytes(), std::uint64_t{64 << 10});
  ExportPool::Block block = Wanted(1, 60'000, BlockClass::kState);
  block.generation = room.generation;
  block.copies = 2;
  EXPECT_EQ(pool_.Commit(block.name, block.generation, 99), Code::kNotFound)
      << "it has no name yet";
  block.owner = 43;
  EXPECT_EQ(pool_.NameReserved(block), Code::kNotFound) << "another's";
  block.owner = 42;
  for (const std::uint32_t length : {0, 1000, (64 << 10) + 1, 8 << 20}) {
    block.length = length;
    EXPECT_EQ(pool_.NameReserved(block), Code::kInvalidArgument) << length;
  }
  block.length = 60'000;
  ASSERT_EQ(pool_.NameReserved(block), Code::kOk);
  EXPECT_EQ(pool_.NameReserved(block), Code::kNotFound) << "once";
  EXPECT_EQ(pool_.ahead_bytes(), 0u);
  ASSERT_EQ(pool_.Commit(block.name, block.generation, 99), Code::kOk);
  const ExportPool::Block* const found = pool_.Find(NameOf(1));
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->length, 60'000u);
  EXPECT_EQ(found->offset, room.offset);
  EXPECT_EQ(found->copies, 2);
  EXPECT_EQ(pool_.state_blocks(), 1u);
  ExpectSound();
}

TEST_F(ExportPoolTest, RoomReservedAheadIsAPartOfAllAndComesBack) {
  ExportPool::Block room;
  room.length = 64 << 10;
  std::uint64_t taken = 0;
  while (pool_.ReserveAhead(&room, now_) == Code::kOk) taken += room.length;
  EXPECT_EQ(taken, pool_.capacity_bytes() / 8);
  ExpectSound();
  pool_.ExpireReservations(now_ + kReservationNs);
  EXPECT_EQ(pool_.ahead_bytes(), 0u);
  EXPECT_EQ(pool_.used_bytes(), 0u);
  ExpectSound();
}

TEST_F(ExportPoolTest, NoRoomIsReservedAheadWhereLittleIsLeft) {
  constexpr std::uint32_t kLength = 64 << 10;
  std::uint32_t count = 0;
  ExportPool::Block room;
  room.length = kLength;
  // Cache leaves when room is needed: there is no lack of it.
  while (pool_.room_bytes() > pool_.capacity_bytes() / 2) {
    ASSERT_EQ(Put(count++, kLength, BlockClass::kState), Code::kOk);
  }
  while (pool_.used_bytes() < pool_.capacity_bytes()) {
    ASSERT_EQ(Put(count++, kLength), Code::kOk);
  }
  EXPECT_EQ(pool_.ReserveAhead(&room, now_), Code::kOk);
  pool_.ExpireReservations(now_ + kReservationNs);
  while (pool_.room_bytes() >= pool_.capacity_bytes() / 4) {
    ASSERT_EQ(Put(count++, kLength, BlockClass::kState), Code::kOk);
  }
  EXPECT_EQ(pool_.ReserveAhead(&room, now_), Code::kResourceExhausted);
  EXPECT_EQ(Put(count, kLength, BlockClass::kState), Code::kOk)
      << "who has a block finds it";
  ExpectSound();
}

TEST_F(ExportPoolTest, StateThatFindsNoRoomIsCounted) {
  constexpr std::uint32_t kLength = 64 << 10;
  ExportPool::Block ahead = Wanted(0, kLength);
  ASSERT_EQ(pool_.ReserveAhead(&ahead, now_), Code::kOk);
  std::uint32_t count = 0;
  while (Put(count, kLength, BlockClass::kState) == Code::kOk) ++count;
  EXPECT_EQ(pool_.refused(), 1u);
  EXPECT_EQ(Put(count, 1 << 20), Code::kResourceExhausted);
  EXPECT_EQ(pool_.refused(), 1u) << "cache asks nobody to collect";
  ExportPool::Block named = Wanted(count, kLength, BlockClass::kState);
  named.generation = ahead.generation;
  EXPECT_EQ(pool_.NameReserved(named), Code::kResourceExhausted);
  EXPECT_EQ(pool_.refused(), 2u);
  ExpectSound();
}

TEST_F(ExportPoolTest, ADropAfterTheRoomWasReservedMeansItsBlockToo) {
  ExportPool::Block room;
  room.length = 5000;
  room.owner = 42;
  ASSERT_EQ(pool_.ReserveAhead(&room, now_), Code::kOk);
  ExportPool::Block block = Wanted(1, 5000);
  block.generation = room.generation;
  EXPECT_EQ(pool_.Drop(block.name, now_), Code::kNotFound);
  ASSERT_EQ(pool_.NameReserved(block), Code::kOk);
  EXPECT_EQ(pool_.Commit(block.name, block.generation, 99), Code::kNotFound);
  EXPECT_EQ(pool_.used_bytes(), 0u);
  ExpectSound();
}

TEST_F(ExportPoolTest, ABlockIsFoundOnlyOnceItIsCommitted) {
  ExportPool::Block block = Wanted(1, 5000);
  ASSERT_EQ(pool_.Reserve(&block, now_), Code::kOk);
  EXPECT_EQ(pool_.Find(NameOf(1)), nullptr);
  EXPECT_EQ(pool_.blocks(), 0u);
  ASSERT_EQ(pool_.Commit(block.name, block.generation, 99), Code::kOk);
  const ExportPool::Block* const found = pool_.Find(NameOf(1));
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->offset, block.offset);
  EXPECT_EQ(found->generation, block.generation);
  EXPECT_EQ(found->checksum, 99u);
  EXPECT_EQ(found->owner, 42u);
  ExpectSound();
}

TEST_F(ExportPoolTest, OnlyTheReservationsOwnNameAndGenerationCommitIt) {
  ExportPool::Block block = Wanted(1, 5000);
  ASSERT_EQ(pool_.Reserve(&block, now_), Code::kOk);
  EXPECT_EQ(pool_.Commit(NameOf(2), block.generation, 1), Code::kNotFound);
  EXPECT_EQ(pool_.Commit(NameOf(1), block.generation + 1, 1), Code::kNotFound);
  EXPECT_EQ(pool_.Commit(NameOf(1), block.generation, 1), Code::kOk);
  EXPECT_EQ(pool_.Commit(NameOf(1), block.generation, 2), Code::kNotFound);
  EXPECT_EQ(pool_.Find(NameOf(1))->checksum, 1u);
  ExpectSound();
}

TEST_F(ExportPoolTest, AReservationThatIsNotCommittedComesBackByItself) {
  ExportPool::Block block = Wanted(1, 5000);
  ASSERT_EQ(pool_.Reserve(&block, now_), Code::kOk);
  pool_.ExpireReservations(now_ + kReservationNs - 1);
  EXPECT_NE(pool_.used_bytes(), 0u);
  pool_.ExpireReservations(now_ + kReservationNs);
  EXPECT_EQ(pool_.used_bytes(), 0u);
  EXPECT_EQ(pool_.reservations(), 0u);
  EXPECT_EQ(pool_.reservations_expired(), 1u);
  EXPECT_EQ(pool_.Commit(block.name, block.generation, 1), Code::kNotFound);
  EXPECT_EQ(pool_.Find(NameOf(1)), nullptr);
  ExpectSound();
}

TEST_F(ExportPoolTest, ACommittedBlockOutlivesItsReservationsTime) {
  ASSERT_EQ(Put(1, 5000), Code::kOk);
  pool_.ExpireReservations(now_ + 10 * kReservationNs);
  EXPECT_NE(pool_.Find(NameOf(1)), nullptr);
  EXPECT_EQ(pool_.reservations_expired(), 0u);
}

TEST_F(ExportPoolTest, APlaceIsNotUsedAgainWhileItsWriterMayStillWrite) {
  ExportPool::Block first = Wanted(1, kMaxBlockBytes);
  ASSERT_EQ(pool_.Reserve(&first, now_), Code::kOk);
  EXPECT_EQ(pool_.Drop(NameOf(1), now_), Code::kNotFound);
  ExportPool::Block second = Wanted(1, kMaxBlockBytes);
  ASSERT_EQ(pool_.Reserve(&second, now_), Code::kOk);
  EXPECT_NE(first.offset, second.offset);
  ExportPool::Block third = Wanted(2, kMaxBlockBytes);
  EXPECT_EQ(pool_.Reserve(&third, now_), Code::kResourceExhausted);
  ExpectSound();
}

TEST_F(ExportPoolTest, OfTwoWritersOfAKeyTheFirstToCommitWinsAndBothHaveIt) {
  ExportPool::Block first = Wanted(1, 5000);
  ExportPool::Block second = Wanted(1, 5000, BlockClass::kState);
  ASSERT_EQ(pool_.Reserve(&first, now_), Code::kOk);
  ASSERT_EQ(pool_.Reserve(&second, now_), Code::kOk);
  EXPECT_EQ(pool_.Commit(first.name, first.generation, 11), Code::kOk);
  EXPECT_EQ(pool_.Commit(second.name, second.generation, 22),
            Code::kAlreadyExists);
  EXPECT_EQ(pool_.Find(NameOf(1))->checksum, 11u);
  EXPECT_EQ(pool_.Find(NameOf(1))->block_class, BlockClass::kState);
  EXPECT_EQ(pool_.reservations(), 0u);
  EXPECT_EQ(pool_.used_bytes(), SizeClassBytes(SizeClassOf(5000)));
  ExpectSound();
}

TEST_F(ExportPoolTest, ACommitAfterADropBringsNothingBack) {
  ExportPool::Block late = Wanted(1, 5000);
  ASSERT_EQ(pool_.Reserve(&late, now_), Code::kOk);
  EXPECT_EQ(pool_.Drop(NameOf(1), now_), Code::kNotFound);
  EXPECT_EQ(pool_.Commit(late.name, late.generation, 1), Code::kNotFound);
  EXPECT_EQ(pool_.Find(NameOf(1)), nullptr);
  EXPECT_EQ(pool_.used_bytes(), 0u);
  EXPECT_EQ(Put(1, 5000), Code::kOk) << "put after the drop, it counts";
  ExpectSound();
}

TEST_F(ExportPoolTest, RepairDoesNotBringBackWhatWasDroppedJustNow) {
  ASSERT_EQ(Put(1, 5000, BlockClass::kState), Code::kOk);
  ASSERT_EQ(pool_.Drop(NameOf(1), now_), Code::kOk);
  ExportPool::Block copy = Wanted(1, 5000, BlockClass::kState);
  EXPECT_EQ(pool_.Reserve(&copy, now_, /*repair=*/true), Code::kAborted);
  pool_.ExpireReservations(now_ + kReservationNs + 1);
  EXPECT_EQ(pool_.Reserve(&copy, now_, /*repair=*/true), Code::kOk);
  ExpectSound();
}

TEST_F(ExportPoolTest, ACopyThatLeavesIsNotADrop) {
  ExportPool::Block block = Wanted(1, 5000);
  ASSERT_EQ(pool_.Reserve(&block, now_), Code::kOk);
  ASSERT_EQ(pool_.Commit(block.name, block.generation, 1), Code::kOk);
  EXPECT_EQ(pool_.Leave(NameOf(1), block.generation + 1), Code::kNotFound);
  EXPECT_EQ(pool_.Leave(NameOf(1), block.generation), Code::kOk);
  ExportPool::Block back = Wanted(1, 5000);
  EXPECT_EQ(pool_.Reserve(&back, now_, /*repair=*/true), Code::kOk);
}

TEST_F(ExportPoolTest, ABlockThatIsThereIsNotWrittenAgainButItsClassRises) {
  ASSERT_EQ(Put(1, 5000), Code::kOk);
  ExportPool::Block again = Wanted(1, 5000, BlockClass::kState);
  EXPECT_EQ(pool_.Reserve(&again, now_), Code::kAlreadyExists);
  EXPECT_EQ(pool_.state_blocks(), 1u);
  again = Wanted(1, 5000, BlockClass::kCache);
  EXPECT_EQ(pool_.Reserve(&again, now_), Code::kAlreadyExists);
  EXPECT_EQ(pool_.state_blocks(), 1u) << "it never falls";
  ExpectSound();
}

TEST_F(ExportPoolTest, OfAnotherLengthACacheBlockGivesWayAndAStateBlockNot) {
  ASSERT_EQ(Put(1, 5000), Code::kOk);
  EXPECT_EQ(Put(1, 6000), Code::kOk);
  EXPECT_EQ(pool_.Find(NameOf(1))->length, 6000u);
  EXPECT_EQ(pool_.TakeEvicted().size(), 1u);
  ASSERT_EQ(Put(2, 5000, BlockClass::kState), Code::kOk);
  EXPECT_EQ(Put(2, 6000), Code::kAborted);
  EXPECT_EQ(pool_.Find(NameOf(2))->length, 5000u);
  ExpectSound();
}

TEST_F(ExportPoolTest, TheLeastRecentlyFoundLeavesFirstAndItsOwnerIsTold) {
  for (std::uint32_t i = 0; i < 8; ++i) {
    ASSERT_EQ(Put(i, 1 << 20), Code::kOk);
  }
  ASSERT_NE(pool_.Find(NameOf(0)), nullptr);
  ASSERT_EQ(Put(8, 1 << 20), Code::kOk);
  EXPECT_NE(pool_.Find(NameOf(0)), nullptr);
  EXPECT_EQ(pool_.Find(NameOf(1)), nullptr);
  const auto evicted = pool_.TakeEvicted();
  ASSERT_EQ(evicted.size(), 1u);
  EXPECT_EQ(evicted[0].name, NameOf(1));
  EXPECT_EQ(evicted[0].owner, 42u);
  EXPECT_TRUE(pool_.TakeEvicted().empty());
  ExpectSound();
}

TEST_F(ExportPoolTest, ALargeBlockDrivesOutSmallOnesBesideEachOther) {
  for (std::uint32_t i = 0; i < 256; ++i) {
    ASSERT_EQ(Put(i, 32 << 10), Code::kOk);
  }
  EXPECT_EQ(pool_.used_bytes(), pool_.capacity_bytes());
  ASSERT_EQ(Put(1000, 4 << 20), Code::kOk);
  EXPECT_EQ(pool_.evictions(), 128u);
  ExpectSound();
}

TEST_F(ExportPoolTest, StateBlocksNeverLeaveByThemselves) {
  ASSERT_EQ(Put(1, 4 << 20, BlockClass::kState), Code::kOk);
  ASSERT_EQ(Put(2, 2 << 20, BlockClass::kState), Code::kOk);
  ASSERT_EQ(Put(3, 1 << 20, BlockClass::kState), Code::kOk);
  for (std::uint32_t i = 10; i < 14; ++i) {
    EXPECT_EQ(Put(i, 1 << 20), Code::kOk);
    EXPECT_EQ(pool_.room_bytes(), std::uint64_t{1 << 20});
  }
  EXPECT_EQ(Put(20, 2 << 20), Code::kResourceExhausted);
  for (const std::uint32_t i : {1, 2, 3}) {
    EXPECT_NE(pool_.Find(NameOf(i)), nullptr);
  }
  EXPECT_EQ(pool_.Drop(NameOf(2), now_), Code::kOk);
  EXPECT_EQ(Put(20, 2 << 20), Code::kOk);
  ExpectSound();
}

// What one tenant fills with state, the next one finds room beside.
TEST_F(ExportPoolTest, NoTenantTakesAllThatDoesNotLeave) {
  constexpr std::uint32_t kLength = 64 << 10;
  const auto put = [&](std::uint64_t tenant, std::uint32_t number) {
    ExportPool::Block block = Wanted(number, kLength, BlockClass::kState);
    block.name.tenant = tenant;
    const Code code = pool_.Reserve(&block, now_);
    if (code != Code::kOk) return code;
    return pool_.Commit(block.name, block.generation, 99);
  };
  ExportPool::Block room;
  room.length = kLength;
  ASSERT_EQ(pool_.ReserveAhead(&room, now_), Code::kOk);
  std::vector<std::uint64_t> taken;
  std::uint32_t number = 0;
  for (const std::uint64_t tenant : {1, 2, 3}) {
    taken.push_back(0);
    while (put(tenant, number++) == Code::kOk) taken.back() += kLength;
    ExpectSound();
  }
  const std::uint64_t all = pool_.capacity_bytes();
  constexpr std::uint64_t kTimes = TenantShares::kTimes;
  // (But for what is reserved ahead.)
  EXPECT_GE(taken[0], all * kTimes / (kTimes + 1) - 2 * kLength);
  EXPECT_GE(taken[1], kLength);
  EXPECT_LE(taken[0], all * kTimes / (kTimes + 1));
  // What may leave is no way around it.
  ExportPool::Block cache = Wanted(9000, kLength);
  cache.name.tenant = 1;
  ASSERT_EQ(pool_.Reserve(&cache, now_), Code::kOk);
  ASSERT_EQ(pool_.Commit(cache.name, cache.generation, 99), Code::kOk);
  EXPECT_EQ(put(1, 9000), Code::kResourceExhausted);
  EXPECT_EQ(pool_.Find(cache.name)->block_class, BlockClass::kCache);
  ExportPool::Block state = Wanted(9001, kLength, BlockClass::kState);
  state.name.tenant = 1;
  state.owner = room.owner;
  state.generation = room.generation;
  EXPECT_EQ(pool_.NameReserved(state), Code::kResourceExhausted);
  // One that goes makes room for the next.
  ExportPool::Name first = NameOf(0);
  first.tenant = 1;
  EXPECT_EQ(pool_.Drop(first, now_), Code::kOk);
  ExpectSound();
}

TEST_F(ExportPoolTest, LengthsThatNoSlotHoldsAreRefused) {
  EXPECT_EQ(Put(1, 0), Code::kInvalidArgument);
  EXPECT_EQ(Put(1, kMaxBlockBytes + 1), Code::kInvalidArgument);
}

TEST_F(ExportPoolTest, AWalkMeetsEachCommittedBlockOnce) {
  std::set<std::uint32_t> left;
  for (std::uint32_t i = 0; i < 50; ++i) {
    ASSERT_EQ(Put(i, 3000), Code::kOk);
    if (i % 7 != 0) left.insert(i);
  }
  for (std::uint32_t i = 0; i < 50; i += 7) {
    ASSERT_EQ(pool_.Drop(NameOf(i), now_), Code::kOk);
  }
  ExportPool::Block reserved = Wanted(100, 3000);
  ASSERT_EQ(pool_.Reserve(&reserved, now_), Code::kOk);
  std::size_t cursor = 0;
  do {
    cursor = pool_.Walk(cursor, 3, [&](const ExportPool::Block& block) {
      EXPECT_EQ(left.erase(block.name.key.group), 1u);
    });
  } while (cursor != 0);
  EXPECT_TRUE(left.empty());
}

// Random operations against a model that knows what is committed.
TEST_F(ExportPoolTest, TheBooksAgreeWhateverHappensAndNoGenerationRepeats) {
  constexpr std::uint32_t kLengths[] = {100,     5000,    40'000,
                                        200'000, 900'000, 4'000'000};
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    ExportPool pool(memory_, kFirst);
    std::vector<ExportPool::Block> reserved;
    std::set<std::uint64_t> generations;
    TimeNs now = 0;
    for (int step = 0; step < 2000; ++step) {
      now += static_cast<DurationNs>(random() % (20 * kMillisecondNs));
      ExportPool::Block block = Wanted(
          static_cast<std::uint32_t>(random() % 60), kLengths[random() % 6]);
      if (random() % 8 == 0) block.block_class = BlockClass::kState;
      switch (random() % 5) {
        case 0:
        case 1:
          if (pool.Reserve(&block, now, random() % 4 == 0) == Code::kOk) {
            ASSERT_TRUE(generations.insert(block.generation).second);
            reserved.push_back(block);
          }
          break;
        case 2: {
          if (reserved.empty()) break;
          const std::size_t which = random() % reserved.size();
          const ExportPool::Block& chosen = reserved[which];
          const Code code = pool.Commit(chosen.name, chosen.generation, 5);
          if (code == Code::kOk) {
            EXPECT_EQ(pool.Find(chosen.name)->generation, chosen.generation);
          }
          reserved.erase(reserved.begin() + static_cast<std::ptrdiff_t>(which));
          break;
        }
        case 3:
          pool.Drop(block.name, now);
          EXPECT_EQ(pool.Find(block.name), nullptr);
          break;
        default:
          pool.ExpireReservations(now);
          pool.TakeEvicted();
          break;
      }
      ASSERT_EQ(pool.CheckInvariants(), "") << "step " << step;
      ASSERT_LE(pool.room_bytes(), pool.capacity_bytes());
    }
    // Nothing of it is left for ever.
    for (std::uint32_t i = 0; i < 60; ++i) pool.Drop(NameOf(i), now);
    pool.ExpireReservations(now + kReservationNs);
    EXPECT_EQ(pool.used_bytes(), 0u);
    EXPECT_EQ(pool.CheckInvariants(), "");
  }
}

}  // namespace
}  // namespace agentmem
