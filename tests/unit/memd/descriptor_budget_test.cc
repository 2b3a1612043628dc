#include "memd/descriptor_budget.h"

#include <gtest/gtest.h>

namespace agentmem {
namespace {

TEST(DescriptorBudgetTest, WhatIsConfiguredIsGivenWhereThereIsRoom) {
  const DescriptorBudget budget = ShareDescriptors(524288, 4096, 4);
  EXPECT_EQ(budget.clients_max, 4096u);
  EXPECT_EQ(budget.sessions_max, 1024u);
  EXPECT_GE(budget.regions_max, 65000u);
}

TEST(DescriptorBudgetTest, AllSharesTogetherStayBelowTheLimit) {
  for (const std::uint64_t limit :
       {256u, 1024u, 4096u, 5000u, 65536u, 1048576u}) {
    for (const std::uint64_t clients : {1u, 100u, 4096u, 1048576u}) {
      for (const std::size_t tenants : {1u, 3u, 10u}) {
        const DescriptorBudget budget =
            ShareDescriptors(limit, clients, tenants);
        EXPECT_GE(budget.clients_max, 1u);
        EXPECT_GE(budget.sessions_max, 1u);
        EXPECT_GE(budget.regions_max, 1u);
        EXPECT_LE(budget.clients_max, clients);
        EXPECT_LE(4 * budget.clients_max + 12 * tenants * budget.sessions_max +
                      tenants * budget.regions_max,
                  limit)
            << limit << " " << clients << " " << tenants;
      }
    }
  }
}

}  // namespace
}  // namespace agentmem
