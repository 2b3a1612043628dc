#include "benchmarks/hbm_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"

namespace agentmem::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class HbmGroupsTest : public testing::Test {
 protected:
  HbmGroup Group(const std::string& name, bool may_fail, absl::Status answer) {
    return {name, may_fail, {{name + " bar", 1}}, [this, name, answer] {
              ran_.push_back(name);
              return answer;
            }};
  }
  bool Run(const std::vector<HbmGroup>& groups) {
    options_.so_far = [this](const SuiteResult& result) {
      failures_.push_back(result.failure);
    };
    return RunHbmGroups(
        options_, groups, [this] { return is_lost_; }, &result_);
  }

  SuiteOptions options_;
  SuiteResult result_;
  bool is_lost_ = false;  // what the device says when it is asked
  std::vector<std::string> ran_;
  std::vector<std::string> failures_;  // as they were told after each group
};

TEST_F(HbmGroupsTest, AGroupThatFailsEndsItselfAndNoOther) {
  EXPECT_TRUE(Run({Group("a", false, Internal("broken")),
                   Group("b", false, Internal("too")),
                   Group("c", false, absl::OkStatus())}));
  EXPECT_THAT(ran_, ElementsAre("a", "b", "c"));
  EXPECT_EQ(result_.failure, "a: broken");
  EXPECT_THAT(result_.notes,
              ElementsAre("FAILED: a: broken", "FAILED: b: too"));
}

TEST_F(HbmGroupsTest, WhatADeviceNeedNotHaveIsNotedAndNoFailure) {
  EXPECT_TRUE(
      Run({Group("a", true, FailedPrecondition("no kernels")),
           Group("b", true, ResourceExhausted("no memory")),
           Group("c", true,
                 MakeStatus(absl::StatusCode::kUnimplemented, "no code"))}));
  EXPECT_EQ(result_.failure, "");
  EXPECT_THAT(result_.notes, ElementsAre("NOT MEASURED: a: no kernels",
                                         "NOT MEASURED: b: no memory",
                                         "NOT MEASURED: c: no code"));
}

TEST_F(HbmGroupsTest, AGroupThatMayFailMayNotFailInAnyOtherWay) {
  for (const absl::Status& failure :
       {Internal("broken"), InvalidArgument("wrong"), Unavailable("away"),
        DeadlineExceeded("late")}) {
    result_ = SuiteResult();
    Run({Group("a", true, failure)});
    EXPECT_EQ(result_.failure, "a: " + StatusMessage(failure));
  }
}

TEST_F(HbmGroupsTest, ADeviceThatIsLostIsAFailureAndTheLastThingTried) {
  is_lost_ = true;
  for (const absl::Status& loss :
       {Unavailable("lost"), DeadlineExceeded("it hangs"),
        FailedPrecondition("no kernels")}) {
    result_ = SuiteResult();
    ran_.clear();
    EXPECT_FALSE(
        Run({Group("a", true, loss), Group("b", false, absl::OkStatus())}));
    EXPECT_THAT(ran_, ElementsAre("a"));
    EXPECT_TRUE(result_.device_lost);
    EXPECT_THAT(result_.failure, HasSubstr(StatusMessage(loss)));
    ASSERT_EQ(result_.bars.size(), 2u) << "also those of what was not tried";
    EXPECT_EQ(result_.bars[1].name, "b bar");
  }
}

TEST_F(HbmGroupsTest, ADeviceThatGoesOnIsUsedWhateverWasUnavailable) {
  EXPECT_TRUE(Run({Group("a", false, Unavailable("no module")),
                   Group("b", false, DeadlineExceeded("late")),
                   Group("c", false, absl::OkStatus())}));
  EXPECT_THAT(ran_, ElementsAre("a", "b", "c"));
  EXPECT_FALSE(result_.device_lost);
  EXPECT_EQ(result_.failure, "a: no module");
}

TEST_F(HbmGroupsTest, WrongBytesAreAFailureOfAnyGroup) {
  EXPECT_TRUE(Run({Group("a", true, DataLoss("byte 7"))}));
  EXPECT_EQ(result_.failure, "a: byte 7");
}

TEST_F(HbmGroupsTest, WhatThereIsIsToldAfterEachGroup) {
  Run({Group("a", false, absl::OkStatus()), Group("b", false, Internal("no")),
       Group("c", false, absl::OkStatus())});
  EXPECT_THAT(failures_, ElementsAre("", "b: no", "b: no"));
}

TEST_F(HbmGroupsTest, OnlyThoseThatAreWantedAreRunAndAnnounced) {
  options_.only = "load";
  Run({Group("offload onload", false, absl::OkStatus()),
       Group("sm_share", false, absl::OkStatus())});
  EXPECT_THAT(ran_, ElementsAre("offload onload"));
  ASSERT_EQ(result_.bars.size(), 1u);
  EXPECT_EQ(result_.bars[0].name, "offload onload bar");
}

}  // namespace
}  // namespace agentmem::bench
