#include "memd/descriptor_budget.h"

#include <algorithm>

namespace agentmem {
namespace {

// The store's files (rocks_tuning.cc: max_open_files), strangers with theirs,
// the admin interface, and what a tenant has once.
constexpr std::uint64_t kOwn = 2048;
constexpr std::uint64_t kOwnOfTenant = 16;

}  // namespace

std::uint64_t DescriptorsOfEach(std::uint64_t limit, std::size_t tenants,
                                std::uint64_t fabric) {
  const std::uint64_t many = std::max<std::size_t>(1, tenants);
  const std::uint64_t own = kOwn + many * kOwnOfTenant + fabric;
  // Of a limit that hardly suffices for itself, half is still the clients'.
  const std::uint64_t spare = limit > 2 * own ? limit - own : limit / 2;
  return spare / many;
}

bool DescriptorAccount::Take(std::uint64_t count) {
  std::uint64_t taken = taken_.load();
  do {
    if (count > max_ || taken > max_ - count) return false;
  } while (!taken_.compare_exchange_weak(taken, taken + count));
  return true;
}

std::string DescriptorAccount::Describe(const std::string& tenant) const {
  return std::to_string(taken()) + " of the " + std::to_string(max_) +
         " descriptors that tenant \"" + tenant +
         "\" may have in memd are in use; close clients or regions, or raise "
         "memd's limit (ulimit -n, LimitNOFILE)";
}

}  // namespace agentmem
