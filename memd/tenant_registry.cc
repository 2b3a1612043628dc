#include "memd/tenant_registry.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>

#include "base/status.h"

namespace agentmem {
namespace {

constexpr std::uint32_t kVersion = 1;
constexpr char kPrefix[] = "tenant/";

struct TenantRecord {
  std::uint32_t version;
  std::uint32_t id;
  std::uint8_t key[32];
};
static_assert(sizeof(TenantRecord) == 40);

absl::StatusOr<TenantIdentity> Decode(const std::string& name,
                                      const std::string& value) {
  TenantRecord record = {};
  if (value.size() >= sizeof(record.version)) {
    std::memcpy(&record.version, value.data(), sizeof(record.version));
  }
  if (record.version != kVersion) {
    return FailedPrecondition(
        "ref " + name + " is of version " + std::to_string(record.version) +
        ", this memd reads version " + std::to_string(kVersion));
  }
  if (value.size() != sizeof(record)) {
    return DataLoss("ref " + name + " has " + std::to_string(value.size()) +
                    " bytes instead of " + std::to_string(sizeof(record)));
  }
  std::memcpy(&record, value.data(), sizeof(record));
  TenantIdentity identity;
  identity.id = TenantId(record.id);
  std::copy(std::begin(record.key), std::end(record.key), identity.key.begin());
  return identity;
}

}  // namespace

absl::StatusOr<TenantIdentity> FindTenant(RefStore* refs,
                                          const std::string& name) {
  const std::string ref_name = kPrefix + name;
  AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, refs->Get(ref_name));
  return Decode(ref_name, ref.value);
}

absl::StatusOr<TenantIdentity> LoadOrMakeTenant(RefStore* refs,
                                                const std::string& name) {
  const std::string ref_name = kPrefix + name;
  const auto existing = refs->Get(ref_name);
  if (existing.ok()) return Decode(ref_name, existing->value);
  if (existing.status().code() != absl::StatusCode::kNotFound) {
    return existing.status();
  }
  // Numbers are given once, to whatever node asks first: one more than the
  // highest so far.
  AGENTMEM_ASSIGN_OR_RETURN(const auto names, refs->List(kPrefix));
  std::uint32_t highest = 0;
  for (const std::string& other : names) {
    AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, refs->Get(other));
    AGENTMEM_ASSIGN_OR_RETURN(const auto decoded, Decode(other, ref.value));
    highest = std::max(highest, decoded.id.value());
  }
  TenantRecord record = {};
  record.version = kVersion;
  do {
    AGENTMEM_ASSIGN_OR_RETURN(const Fence number,
                              refs->AcquireFence("tenant-numbers"));
    record.id = static_cast<std::uint32_t>(number.value());
  } while (record.id <= highest);
  if (getrandom(record.key, sizeof(record.key), 0) != sizeof(record.key)) {
    return ErrnoStatus("getrandom");
  }
  const std::string value(reinterpret_cast<const char*>(&record),
                          sizeof(record));
  AGENTMEM_ASSIGN_OR_RETURN(const Fence fence, refs->AcquireFence(ref_name));
  const absl::Status made =
      refs->CompareAndSwap(ref_name, 0, fence, value).status();
  if (made.ok()) return Decode(ref_name, value);
  if (made.code() != absl::StatusCode::kAborted) return made;
  // Another node makes it at the same time. Its answer counts, or ours does in
  // a while.
  return LoadOrMakeTenant(refs, name);
}

absl::Status MirrorTenant(RefStore* local, const std::string& name,
                          const TenantIdentity& identity) {
  AGENTMEM_ASSIGN_OR_RETURN(const auto names, local->List(kPrefix));
  for (const std::string& other : names) {
    AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, local->Get(other));
    AGENTMEM_ASSIGN_OR_RETURN(const auto known, Decode(other, ref.value));
    const bool same_name = other == kPrefix + name;
    const bool same_id = known.id == identity.id;
    if (same_name && same_id && known.key == identity.key) {
      return absl::OkStatus();
    }
    if (!same_name && !same_id) continue;
    return FailedPrecondition(
        "this node's store has " + other + " under number " +
        std::to_string(known.id.value()) + ", the cluster has tenant \"" +
        name + "\" under number " + std::to_string(identity.id.value()) +
        (same_name && same_id ? " with another secret" : "") +
        ": the store is of another cluster, or of a node that was alone; give "
        "this node an empty state_directory");
  }
  TenantRecord record = {};
  record.version = kVersion;
  record.id = identity.id.value();
  std::copy(identity.key.begin(), identity.key.end(), std::begin(record.key));
  const std::string value(reinterpret_cast<const char*>(&record),
                          sizeof(record));
  const std::string ref_name = kPrefix + name;
  AGENTMEM_ASSIGN_OR_RETURN(const Fence fence, local->AcquireFence(ref_name));
  return local->CompareAndSwap(ref_name, 0, fence, value).status();
}

}  // namespace agentmem
