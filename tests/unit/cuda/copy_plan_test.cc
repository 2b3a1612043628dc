#include "cuda/copy_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "tests/unit/cuda/scripted_device.h"

namespace agentmem {
namespace {

constexpr std::uint32_t kKiB = 1 << 10;

TEST(SplitBySizeTest, EachFragmentGoesOneWayByItsSize) {
  std::mt19937_64 random(1);
  for (const std::uint32_t crossover :
       {kKernelNever, 1u, 4 * kKiB, 5000u, 64 * kKiB, kKernelAlways}) {
    std::vector<Fragment> fragments;
    std::map<std::uint64_t, std::uint32_t> wanted;
    for (std::uint64_t i = 0; i < 500; ++i) {
      const std::uint32_t sizes[] = {1,         4 * kKiB - 1,  4 * kKiB,  5000,
                                     64 * kKiB, 64 * kKiB + 1, UINT32_MAX};
      const std::uint32_t bytes = sizes[random() % std::size(sizes)];
      fragments.push_back({DeviceAddress(i << 32), nullptr, bytes});
      wanted[i << 32] = bytes;
    }
    const FragmentSplit split = SplitBySize(fragments, crossover);
    EXPECT_EQ(split.kernel.size() + split.engine.size(), fragments.size());
    for (const Fragment& fragment : split.kernel) {
      EXPECT_TRUE(fragment.bytes < crossover || crossover == kKernelAlways);
      EXPECT_EQ(wanted[fragment.device.value()], fragment.bytes);
      wanted.erase(fragment.device.value());
    }
    for (const Fragment& fragment : split.engine) {
      EXPECT_GE(fragment.bytes, crossover);
      EXPECT_NE(crossover, kKernelAlways);
      EXPECT_EQ(wanted[fragment.device.value()], fragment.bytes);
      wanted.erase(fragment.device.value());
    }
    EXPECT_TRUE(wanted.empty());
  }
}

TEST(SplitBySizeTest, NothingIsSplitIntoNothing) {
  const FragmentSplit split = SplitBySize({}, 4096);
  EXPECT_TRUE(split.kernel.empty());
  EXPECT_TRUE(split.engine.empty());
}

LadderRates Rates(std::initializer_list<CopyRates> steps) {
  LadderRates rates;
  std::copy(steps.begin(), steps.end(), rates.begin());
  return rates;
}

TEST(RuleOfTest, IsTheFirstSizeAtWhichTheEngineIsNotSlower) {
  EXPECT_EQ(RuleOf(Rates({{1, 20},
                          {2, 20},
                          {4, 20},
                          {8, 20},
                          {16, 20},
                          {32, 20},
                          {50, 20},
                          {50, 20},
                          {50, 20}}))
                .below,
            32 * kKiB);
}

TEST(RuleOfTest, OneBadSampleDoesNotMoveIt) {
  // The kernel at 2 KiB, the engine at 128 KiB.
  EXPECT_EQ(RuleOf(Rates({{1, 20},
                          {2, 1},
                          {4, 20},
                          {8, 20},
                          {16, 20},
                          {32, 20},
                          {50, 20},
                          {15, 20},
                          {50, 20}}))
                .below,
            32 * kKiB);
}

TEST(RuleOfTest, TheKernelMustBeFasterByMoreThanNoise) {
  LadderRates rates;
  rates.fill({1000, 1020});
  EXPECT_EQ(RuleOf(rates).below, kKernelNever);
  rates.fill({1000, 1040});
  EXPECT_EQ(RuleOf(rates).below, kKernelAlways);
}

TEST(RuleOfTest, SmallOnesAreStagedWhereThatIsFaster) {
  LadderRates rates;
  rates.fill({20, 35, 50});
  rates[7] = rates[8] = {52, 35, 50};
  EXPECT_EQ(RuleOf(rates), (SplitRule{128 * kKiB, CopyMethod::kStaged}));
  // Alike: the plainer one.
  rates.fill({20, 50, 50});
  EXPECT_EQ(RuleOf(rates), (SplitRule{kKernelAlways, CopyMethod::kKernel}));
  // Never, if the engine is faster than both.
  rates.fill({51, 35, 50});
  EXPECT_EQ(RuleOf(rates).below, kKernelNever);
  // Of each size by that which loses less over all of them.
  rates.fill({10, 50, 40});
  rates[0] = {10, 30, 40};
  EXPECT_EQ(RuleOf(rates).small, CopyMethod::kKernel);
}

TEST(RuleOfTest, RatesOfNothingAreNoDivisionByZero) {
  EXPECT_EQ(RuleOf({}).below, kKernelNever);
}

class MeasureCrossoverTest : public ::testing::Test {
 protected:
  MeasureCrossoverTest() {
    // The engine is as fast as the kernel at 10,000 and at 50,000 bytes.
    Costs(Direction::kToHost, {300, 0.02}, {0, 0.05});
    Costs(Direction::kToDevice, {1500, 0.02}, {0, 0.05});
    bounds_.bytes = 4 << 20;
  }

  void Costs(Direction direction, ScriptedDevice::Cost engine,
             ScriptedDevice::Cost kernel) {
    device_.cost(direction, CopyMethod::kCopyEngine) = engine;
    device_.cost(direction, CopyMethod::kKernel) = kernel;
  }
  Outcome Measure() {
    return MeasureCrossover(&device_, clock_, bounds_, &found_);
  }
  void ExpectNothingLeft() {
    EXPECT_EQ(device_.left(), 0u);
    EXPECT_EQ(device_.broken, "");
  }

  ManualClock clock_;
  ScriptedDevice device_{&clock_};
  MeasureBounds bounds_;
  Crossovers found_;
};

TEST_F(MeasureCrossoverTest, FindsWhereTheEngineBeginsToBeFaster) {
  const Outcome outcome = Measure();
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  EXPECT_EQ(found_.to_host.rule.below, 16 * kKiB);
  EXPECT_EQ(found_.to_device.rule.below, 64 * kKiB);
  ExpectNothingLeft();
}

TEST_F(MeasureCrossoverTest, GivesTheRatesThatItSaw) {
  bounds_ = {};
  ASSERT_TRUE(Measure().ok());
  for (std::size_t step = 0; step < kCrossoverLadder.size(); ++step) {
    const double bytes = kCrossoverLadder[step];
    const CopyRates& host = found_.to_host.rates[step];
    const CopyRates& device = found_.to_device.rates[step];
    // An event is asked for each microsecond of some hundred.
    EXPECT_NEAR(host.engine, bytes / (300 + bytes * 0.02) * 1e9, 3e8) << bytes;
    EXPECT_NEAR(device.engine, bytes / (1500 + bytes * 0.02) * 1e9, 3e8);
    EXPECT_NEAR(host.kernel, 20e9, 2e8);
    EXPECT_NEAR(device.kernel, 20e9, 2e8);
  }
}

TEST_F(MeasureCrossoverTest, AKernelThatIsNeverFasterNeverCopies) {
  Costs(Direction::kToHost, {300, 0.02}, {400, 0.05});
  ASSERT_TRUE(Measure().ok());
  EXPECT_EQ(found_.to_host.rule.below, kKernelNever);
  EXPECT_EQ(found_.to_device.rule.below, 64 * kKiB);
}

TEST_F(MeasureCrossoverTest, AKernelThatIsAlwaysFasterAlwaysCopies) {
  Costs(Direction::kToDevice, {3000, 0.05}, {0, 0.05});
  ASSERT_TRUE(Measure().ok());
  EXPECT_EQ(found_.to_host.rule.below, 16 * kKiB);
  EXPECT_EQ(found_.to_device.rule.below, kKernelAlways);
}

TEST_F(MeasureCrossoverTest, AHiccupInOneRoundIsNotSeen) {
  ASSERT_TRUE(Measure().ok());
  const Crossovers calm = found_;
  // Four copies to begin with, then three rounds of 36: one half of the sizes
  // in the first, the other in the last.
  for (int copy = 5; copy <= 22; ++copy) {
    device_.hiccups[device_.copies + copy] = 3 * kMillisecondNs;
  }
  for (int copy = 77 + 18; copy <= 112; ++copy) {
    device_.hiccups[device_.copies + copy] = 3 * kMillisecondNs;
  }
  ASSERT_TRUE(Measure().ok());
  EXPECT_EQ(found_, calm);
}

TEST_F(MeasureCrossoverTest, WhatOnlyTheFirstCopyPaysIsNoRate) {
  bounds_.rounds = 1;
  ASSERT_TRUE(Measure().ok());
  const Crossovers calm = found_;
  for (int copy = 1; copy <= 4; ++copy) {
    device_.hiccups[device_.copies + copy] = 50 * kMillisecondNs;
  }
  ASSERT_TRUE(Measure().ok());
  EXPECT_EQ(found_, calm);
}

TEST_F(MeasureCrossoverTest, NoFragmentFollowsItsNeighbour) {
  bounds_.bytes = kMeasureBytesMin;
  ASSERT_TRUE(Measure().ok());
  EXPECT_EQ(device_.neighbours, 0u);
  EXPECT_EQ(device_.least_fragments, 8u);
}

TEST_F(MeasureCrossoverTest, TakesNoMoreBytesThanItMay) {
  bounds_.bytes = (4 << 20) - 1;
  ASSERT_TRUE(Measure().ok());
  EXPECT_EQ(device_.allocated_bytes_max, 2u << 20);
  EXPECT_EQ(device_.copied_bytes_max, 2u << 20);
}

TEST_F(MeasureCrossoverTest, TooNarrowBoundsAreRefusedBeforeAnythingIsTaken) {
  bounds_.bytes = kMeasureBytesMin - 1;
  EXPECT_EQ(Measure().code, Code::kInvalidArgument);
  bounds_ = {};
  bounds_.rounds = 0;
  EXPECT_EQ(Measure().code, Code::kInvalidArgument);
  EXPECT_EQ(device_.calls, 0);
}

TEST_F(MeasureCrossoverTest, EndsInItsTimeWithTheRoundsThatThereWere) {
  bounds_.rounds = 1'000'000;
  bounds_.time_max = 300 * kMillisecondNs;
  const Outcome outcome = Measure();
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  EXPECT_EQ(found_.to_host.rule.below, 16 * kKiB);
  EXPECT_GE(clock_.Now(), bounds_.time_max);
  EXPECT_LT(clock_.Now(), bounds_.time_max + 30 * kMillisecondNs);
  ExpectNothingLeft();
}

TEST_F(MeasureCrossoverTest, NotEvenOneRoundInItsTimeIsNoAnswer) {
  bounds_.time_max = 10 * kMillisecondNs;
  const Outcome outcome = Measure();
  EXPECT_EQ(outcome.code, Code::kDeadlineExceeded);
  EXPECT_NE(outcome.message.find("scripted"), std::string::npos)
      << outcome.message;
  EXPECT_EQ(found_, Crossovers());
  ExpectNothingLeft();
}

TEST_F(MeasureCrossoverTest, ACopyThatDoesNotEndEndsTheMeasurement) {
  device_.stuck = true;
  EXPECT_EQ(Measure().code, Code::kDeadlineExceeded);
  ExpectNothingLeft();
}

TEST_F(MeasureCrossoverTest, TimeThatPassesBetweenCopiesCountsToo) {
  // Copies that are done when they are first asked for.
  for (const Direction direction : {Direction::kToHost, Direction::kToDevice}) {
    Costs(direction, {}, {});
  }
  bounds_.time_max = 20 * kMicrosecondNs;
  EXPECT_EQ(Measure().code, Code::kDeadlineExceeded);
  ExpectNothingLeft();
}

TEST_F(MeasureCrossoverTest, AFailureAtAnyCallIsToldAndLeavesNothing) {
  bounds_.bytes = kMeasureBytesMin;
  ASSERT_TRUE(Measure().ok());
  const int calls = device_.calls;
  // Registered and allocated, and a Copy and a Record for each sample.
  EXPECT_EQ(calls, 2 + 2 * (4 + 3 * 9 * 4));
  for (int call = 1; call <= calls; ++call) {
    SCOPED_TRACE(call);
    device_.calls = 0;
    device_.fail_call = call;
    found_ = {};
    const Outcome outcome = Measure();
    ASSERT_EQ(outcome.code, Code::kUnavailable);
    ASSERT_NE(outcome.message.find("of scripted"), std::string::npos);
    ASSERT_EQ(device_.calls, call) << "it went on";
    ASSERT_EQ(found_, Crossovers());
    ASSERT_EQ(device_.left(), 0u);
    ASSERT_EQ(device_.broken, "");
  }
}

TEST_F(MeasureCrossoverTest, ACopyThatFailsIsToldAndLeavesNothing) {
  for (const int query : {1, 2, 500, 5000}) {
    SCOPED_TRACE(query);
    device_.queries = 0;
    device_.fail_query = query;
    const Outcome outcome = Measure();
    EXPECT_EQ(outcome.code, Code::kUnavailable);
    EXPECT_EQ(outcome.message, "Query of scripted: the device was lost");
    EXPECT_EQ(found_, Crossovers());
    ExpectNothingLeft();
  }
}

}  // namespace
}  // namespace agentmem
