// The cluster's refs, for a node that has its tenants noted on its own disk
// too: it can start without the cluster, and speaks to it only once the two are
// proven to mean the same tenants.
//
// A tenant that the cluster cannot be asked for is taken as it is noted here.
// Until Prove has compared all such with the cluster's, every call is
// UNAVAILABLE at once: under a number that the cluster has given to somebody
// else, a change would be of that one's refs.
//
// Ownership: borrows both. Threads: thread-safe, but LoadTenant: before all
// others. Errors: LoadTenant, Prove: FAILED_PRECONDITION: they mean different
// tenants (MirrorTenant); UNAVAILABLE: the cluster does not answer, and the
// tenant is not noted here; calls: as the cluster's. Cost: the cluster's.
#ifndef AGENTMEM_MEMD_PROVEN_REFS_H_
#define AGENTMEM_MEMD_PROVEN_REFS_H_

#include <atomic>
#include <span>
#include <string>
#include <vector>

#include "memd/store/ref_store.h"
#include "memd/tenant_registry.h"

namespace agentmem {

class ProvenRefs final : public RefStore {
 public:
  ProvenRefs(RefStore* cluster, RefStore* local)
      : cluster_(cluster), local_(local) {}

  absl::StatusOr<TenantIdentity> LoadTenant(const std::string& name);
  // One thread calls it; UNAVAILABLE: not yet.
  absl::Status Prove();
  bool proven() const { return proven_.load(std::memory_order_acquire); }

  absl::StatusOr<Ref> Get(const std::string& name) override;
  absl::StatusOr<Ref> Read(const std::string& name) override;
  absl::StatusOr<Fence> AcquireFence(const std::string& name) override;
  absl::StatusOr<std::uint64_t> CompareAndSwap(
      const std::string& name, std::uint64_t expected_version, Fence fence,
      const std::string& value) override;
  absl::Status Commit(std::span<const RefChange> changes,
                      std::span<const RefBlock> blocks) override;
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& prefix) override;
  absl::StatusOr<std::vector<NamedRef>> ReadAll(
      std::span<const std::string> prefixes) override;

 private:
  absl::Status Check() const;
  absl::StatusOr<TenantIdentity> LoadFromCluster(const std::string& name);

  RefStore* const cluster_;
  RefStore* const local_;
  std::vector<std::string> unproven_;  // names of tenants; constant after start
  std::atomic<bool> proven_ = true;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_PROVEN_REFS_H_
