#include "memd/proven_refs.h"

#include "base/log.h"
#include "base/status.h"

namespace agentmem {

absl::StatusOr<TenantIdentity> ProvenRefs::LoadFromCluster(
    const std::string& name) {
  AGENTMEM_ASSIGN_OR_RETURN(const TenantIdentity identity,
                            LoadOrMakeTenant(cluster_, name));
  // What the disk has is of this tenant, and of no other with its number.
  AGENTMEM_RETURN_IF_ERROR(MirrorTenant(local_, name, identity));
  return identity;
}

absl::StatusOr<TenantIdentity> ProvenRefs::LoadTenant(const std::string& name) {
  auto loaded = LoadFromCluster(name);
  if (loaded.status().code() != absl::StatusCode::kUnavailable) return loaded;
  auto noted = FindTenant(local_, name);
  if (noted.status().code() == absl::StatusCode::kNotFound) return loaded;
  AGENTMEM_RETURN_IF_ERROR(noted.status());
  LogWarning("tenant " + name + " is taken from this node's store: " +
             StatusMessage(loaded.status()) +
             "; what needs agreement is UNAVAILABLE until the cluster answers");
  unproven_.push_back(name);
  proven_ = false;
  return noted;
}

absl::Status ProvenRefs::Prove() {
  for (const std::string& name : unproven_) {
    AGENTMEM_RETURN_IF_ERROR(LoadFromCluster(name).status());
  }
  proven_.store(true, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status ProvenRefs::Check() const {
  if (proven()) return absl::OkStatus();
  return Unavailable(
      "this node started without its cluster's refs, and has not reached them "
      "since");
}

absl::StatusOr<Ref> ProvenRefs::Get(const std::string& name) {
  AGENTMEM_RETURN_IF_ERROR(Check());
  return cluster_->Get(name);
}

absl::StatusOr<Ref> ProvenRefs::Read(const std::string& name) {
  AGENTMEM_RETURN_IF_ERROR(Check());
  return cluster_->Read(name);
}

absl::StatusOr<Fence> ProvenRefs::AcquireFence(const std::string& name) {
  AGENTMEM_RETURN_IF_ERROR(Check());
  return cluster_->AcquireFence(name);
}

absl::StatusOr<std::uint64_t> ProvenRefs::CompareAndSwap(
    const std::string& name, std::uint64_t expected_version, Fence fence,
    const std::string& value) {
  AGENTMEM_RETURN_IF_ERROR(Check());
  return cluster_->CompareAndSwap(name, expected_version, fence, value);
}

absl::Status ProvenRefs::Commit(std::span<const RefChange> changes,
                                std::span<const RefBlock> blocks) {
  AGENTMEM_RETURN_IF_ERROR(Check());
  return cluster_->Commit(changes, blocks);
}

absl::StatusOr<std::vector<std::string>> ProvenRefs::List(
    const std::string& prefix) {
  AGENTMEM_RETURN_IF_ERROR(Check());
  return cluster_->List(prefix);
}

absl::StatusOr<std::vector<NamedRef>> ProvenRefs::ReadAll(
    std::span<const std::string> prefixes) {
  AGENTMEM_RETURN_IF_ERROR(Check());
  return cluster_->ReadAll(prefixes);
}

}  // namespace agentmem
