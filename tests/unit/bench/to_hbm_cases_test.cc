#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "benchmarks/suites.h"

namespace agentmem::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;

TEST(ToHbmCasesTest, AfterALossBarsAreAnnouncedAndNothingIsTried) {
  SuiteOptions options;
  options.memd = "/nonexistent/memd";  // to start it would be a failure
  options.only = "pool_to_hbm";
  SuiteResult result;
  result.device_lost = true;
  AddToHbmCases(options, &result);
  EXPECT_EQ(result.failure, "");
  EXPECT_THAT(result.bars, ElementsAre(Field(&Bar::name, "pool_to_hbm"),
                                       Field(&Bar::name, "pool_to_hbm_roomy")));
  for (const Bar& bar : result.bars) EXPECT_FALSE(bar.measured.has_value());
  EXPECT_THAT(result.notes, ElementsAre(HasSubstr("the device was lost")));
}

}  // namespace
}  // namespace agentmem::bench
