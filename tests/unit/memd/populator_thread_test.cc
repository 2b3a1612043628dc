#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include "base/clock.h"
#include "memd/populator.h"
#include "proto/types.h"

namespace agentmem {
namespace {

constexpr DurationNs kPatienceNs = 20 * kSecondNs;

class PopulatorTest : public testing::Test {
 protected:
  static SharedMemory MakeData() {
    auto made = SharedMemory::Create("test", 4 * kExtentBytes,
                                     SharedMemory::Access::kClientsWrite);
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    return std::move(made).value();
  }
  // Its first page is there.
  bool IsTouched(std::uint32_t extent) const {
    const auto at = static_cast<off_t>(extent * kExtentBytes);
    return ::lseek(data_.fd(), at, SEEK_DATA) == at;
  }
  void AwaitTouched(std::uint32_t extent) const {
    const TimeNs end = MonotonicNowNs() + kPatienceNs;
    while (!IsTouched(extent)) {
      ASSERT_LT(MonotonicNowNs(), end) << "extent " << extent;
      ::sched_yield();
    }
  }

  const SharedMemory data_ = MakeData();
  Populator populator_;
  const std::size_t index_ = populator_.Add(&data_);
};

TEST_F(PopulatorTest, WhatIsLentIsNotTouchedAndThoseAfterItAre) {
  populator_.Lend(index_, 1);
  populator_.Ahead(index_, 0);
  AwaitTouched(0);
  AwaitTouched(3);  // in their order
  EXPECT_FALSE(IsTouched(1));
}

TEST_F(PopulatorTest, WhatIsLentAgainBeforeItWasTouchedAgainIsLeftAlone) {
  populator_.Lend(index_, 1);
  populator_.Again(index_, 1);
  populator_.Ahead(index_, 0);
  AwaitTouched(3);
  EXPECT_FALSE(IsTouched(1));
  populator_.TakeBack(index_, 1);
  populator_.Again(index_, 1);
  AwaitTouched(1);
}

}  // namespace
}  // namespace agentmem
