#include "memd/descriptor_budget.h"

#include <algorithm>

namespace agentmem {
namespace {

// The store's files (rocks_tuning.cc: max_open_files), strangers with theirs,
// the admin interface, and what a tenant has once.
constexpr std::uint64_t kOwn = 2048;
constexpr std::uint64_t kOwnOfTenant = 16;
// Socket, pidfd, the shared file, the doorbell.
constexpr std::uint64_t kOfClient = 4;
// Socket, pidfd, userfaultfd, eventfd, board; the port's file, its two
// eventfds, and the session's copies of these.
constexpr std::uint64_t kOfSession = 12;

}  // namespace

DescriptorBudget ShareDescriptors(std::uint64_t limit,
                                  std::uint64_t clients_max,
                                  std::size_t tenants) {
  const std::uint64_t many = std::max<std::size_t>(1, tenants);
  const std::uint64_t own = kOwn + many * kOwnOfTenant;
  // Of a limit that hardly suffices for itself, half is still the clients'.
  const std::uint64_t spare = limit > 2 * own ? limit - own : limit / 2;
  DescriptorBudget budget;
  budget.clients_max =
      std::clamp<std::uint64_t>(spare / 4 / kOfClient, 1, clients_max);
  budget.sessions_max = std::max<std::uint64_t>(
      1, std::min(spare / 4 / kOfSession, clients_max) / many);
  budget.regions_max = std::max<std::uint64_t>(1, spare / 2 / many);
  return budget;
}

}  // namespace agentmem
