#include "memd/descriptor_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

namespace agentmem {
namespace {

using ::testing::HasSubstr;

TEST(DescriptorBudgetTest, TheTenantsTogetherStayBelowTheLimit) {
  for (const std::uint64_t limit : {1024u, 4096u, 5000u, 65536u, 1048576u}) {
    for (const std::size_t tenants : {1u, 3u, 10u}) {
      const std::uint64_t each = DescriptorsOfEach(limit, tenants);
      EXPECT_GE(each, kDescriptorsOfClient + kDescriptorsOfSession);
      EXPECT_LE(tenants * each, limit) << limit << " " << tenants;
    }
  }
}

// 20000 is what containers often have.
TEST(DescriptorBudgetTest, AThousandProcessesWithARegionEachFitInto20000) {
  EXPECT_GE(DescriptorsOfEach(20000, 1),
            1000 * (kDescriptorsOfClient + kDescriptorsOfSession +
                    kDescriptorsOfRegion));
}

TEST(DescriptorBudgetTest, WhatTheFabricTakesIsNoTenants) {
  EXPECT_EQ(DescriptorsOfEach(20000, 2, 1000),
            DescriptorsOfEach(20000, 2) - 500);
}

TEST(DescriptorBudgetTest, AChargeThatDoesNotFitTakesNothing) {
  DescriptorAccount account(20);
  const DescriptorCharge first(&account, 12);
  EXPECT_TRUE(first.valid());
  EXPECT_FALSE(DescriptorCharge(&account, 12).valid());
  EXPECT_FALSE(DescriptorCharge(&account, ~std::uint64_t{0}).valid());
  EXPECT_EQ(account.taken(), 12u);
  EXPECT_THAT(account.Describe("chat"), HasSubstr("12 of the 20 descriptors"));
  EXPECT_TRUE(DescriptorCharge(&account, 8).valid());
  EXPECT_EQ(account.taken(), 12u);
}

TEST(DescriptorBudgetTest, AChargeMovesWithItsOwner) {
  DescriptorAccount account(20);
  DescriptorCharge kept;
  EXPECT_FALSE(kept.valid());
  {
    DescriptorCharge made(&account, 5);
    kept = std::move(made);
  }
  EXPECT_EQ(account.taken(), 5u);
  { const DescriptorCharge last(std::move(kept)); }
  EXPECT_EQ(account.taken(), 0u);
}

}  // namespace
}  // namespace agentmem
