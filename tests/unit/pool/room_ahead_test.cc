// Room at a peer for blocks to come: how much of it is kept, and for how long.
#include "memd/pool/room_ahead.h"

#include <gtest/gtest.h>

#include "memd/pool/pool_timing.h"

namespace agentmem {
namespace {

class RoomAheadTest : public ::testing::Test {
 protected:
  // Asks for what is wanted and gets it; how many.
  std::uint32_t Fetch() {
    std::uint32_t count = 0;
    while (const auto wanted = room_.Ask()) {
      for (std::uint32_t i = 0; i < wanted->count; ++i) {
        room_.Came(wanted->size_class, {next_, next_, now_});
        ++next_;
      }
      count += wanted->count;
    }
    return count;
  }
  static std::uint8_t Class(std::uint64_t bytes) {
    return static_cast<std::uint8_t>(SizeClassOf(bytes));
  }

  RoomAhead room_;
  TimeNs now_ = kSecondNs;
  std::uint64_t next_ = 100;
};

TEST_F(RoomAheadTest, OnePutOfASizeAsksForNothingAndASecondOneDoes) {
  EXPECT_FALSE(room_.Take(Class(4096), now_).has_value());
  EXPECT_EQ(Fetch(), 0u);
  EXPECT_FALSE(room_.Take(Class(8192), now_).has_value());
  EXPECT_EQ(Fetch(), 0u) << "another size";
  EXPECT_FALSE(room_.Take(Class(4096), now_ + kAheadNs - 1).has_value());
  EXPECT_EQ(Fetch(), kAheadCountMin);
  const auto place = room_.Take(Class(4096), now_);
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->offset, 100u);
  EXPECT_FALSE(room_.Take(Class(8192), now_ + 2 * kAheadNs).has_value());
  EXPECT_EQ(Fetch(), 0u) << "they are too far apart";
}

TEST_F(RoomAheadTest, HalfOfItIsAskedForAtATime) {
  room_.Take(Class(4096), now_);
  room_.Take(Class(4096), now_);
  ASSERT_EQ(Fetch(), kAheadCountMin);
  EXPECT_TRUE(room_.Take(Class(4096), now_).has_value());
  EXPECT_EQ(Fetch(), 0u);
  EXPECT_TRUE(room_.Take(Class(4096), now_).has_value());
  EXPECT_EQ(Fetch(), kAheadCountMin / 2);
}

TEST_F(RoomAheadTest, APutThatFindsNoneDoublesItUpToItsBounds) {
  for (const std::uint64_t bytes : {4096, 1 << 20, 4 << 20}) {
    std::uint32_t most = 0;
    for (int i = 0; i < 200; ++i) {
      while (room_.Take(Class(bytes), now_).has_value()) {
      }
      most = std::max(most, Fetch());
    }
    EXPECT_EQ(most,
              std::min<std::uint64_t>(kAheadCountMax, kAheadBytesMax / bytes));
  }
}

TEST_F(RoomAheadTest, WhatIsOldIsNotUsed) {
  while (Fetch() < kAheadCountMax / 2) {
    while (room_.Take(Class(4096), now_).has_value()) {
    }
  }
  now_ += kAheadNs;
  EXPECT_FALSE(room_.Take(Class(4096), now_).has_value());
  EXPECT_EQ(Fetch(), 0u);
}

TEST_F(RoomAheadTest, APeerThatRefusesIsLeftAloneForAWhile) {
  room_.Take(Class(4096), now_);
  room_.Take(Class(4096), now_);
  const auto wanted = room_.Ask();
  ASSERT_TRUE(wanted.has_value());
  room_.Refused(*wanted, now_);
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(room_.Take(Class(4096), now_).has_value());
    EXPECT_EQ(Fetch(), 0u);
  }
  now_ += kAheadNs - 1;
  room_.Take(Class(4096), now_);
  EXPECT_EQ(Fetch(), 0u);
  room_.Take(Class(4096), ++now_);
  EXPECT_EQ(Fetch(), kAheadCountMin);
}

}  // namespace
}  // namespace agentmem
