// How memd's descriptors are shared out, so that no client can use up those of
// the others: between connections for blocks, processes with agents, and open
// regions; the last two between tenants as well.
//
// Ownership: values. Threads: pure functions. Errors: none; a limit that is too
// small for what is configured shows as a smaller clients_max.
#ifndef AGENTMEM_MEMD_DESCRIPTOR_BUDGET_H_
#define AGENTMEM_MEMD_DESCRIPTOR_BUDGET_H_

#include <cstddef>
#include <cstdint>

namespace agentmem {

struct DescriptorBudget {
  std::uint64_t clients_max = 0;   // connections for blocks
  std::uint64_t sessions_max = 0;  // processes with agents, of a tenant
  std::uint64_t regions_max = 0;   // open ones, of a tenant
};

// `limit`: RLIMIT_NOFILE. `clients_max`: as configured; it counts connections
// for blocks, and processes with agents of all tenants apart from them.
DescriptorBudget ShareDescriptors(std::uint64_t limit,
                                  std::uint64_t clients_max,
                                  std::size_t tenants);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_DESCRIPTOR_BUDGET_H_
