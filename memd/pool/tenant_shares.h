// How much of the memory that a node lends is taken by each tenant's blocks
// that may not leave, and whether one may take more: as long as what it has is
// at most kTimes what is left for all.
//
// So one tenant alone gets all but a thirty-third of it, and whatever it does
// the next one finds room; nobody has to be told shares. (Dynamic thresholds,
// as switches share their buffers: Choudhury and Hahne, IEEE/ACM Transactions
// on Networking 6(2), 1998.)
//
// Ownership: a value. Threads: thread-compatible. Errors: none. Cost: O(1).
#ifndef AGENTMEM_MEMD_POOL_TENANT_SHARES_H_
#define AGENTMEM_MEMD_POOL_TENANT_SHARES_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "base/check.h"

namespace agentmem {

class TenantShares {
 public:
  static constexpr std::uint64_t kTimes = 32;

  // `left`: bytes that are free, or of blocks that may leave.
  bool MayTake(std::uint64_t tenant, std::uint64_t bytes,
               std::uint64_t left) const {
    return bytes <= left && Of(tenant) + bytes <= kTimes * (left - bytes);
  }
  void Take(std::uint64_t tenant, std::uint64_t bytes) {
    taken_[tenant] += bytes;
  }
  void Give(std::uint64_t tenant, std::uint64_t bytes) {
    const auto found = taken_.find(tenant);
    AGENTMEM_CHECK(found != taken_.end() && found->second >= bytes);
    found->second -= bytes;
    if (found->second == 0) taken_.erase(found);
  }
  std::uint64_t Of(std::uint64_t tenant) const {
    const auto found = taken_.find(tenant);
    return found == taken_.end() ? 0 : found->second;
  }
  std::uint64_t All() const {
    std::uint64_t all = 0;
    for (const auto& [tenant, bytes] : taken_) all += bytes;
    return all;
  }

 private:
  absl::flat_hash_map<std::uint64_t, std::uint64_t> taken_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_TENANT_SHARES_H_
