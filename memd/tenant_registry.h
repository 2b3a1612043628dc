// What a tenant keeps for ever: its number (in records and keys of the store)
// and the secret that keys the names of its sequences and objects.
//
// Kept as the ref "tenant/<name>": version, number, secret. Made on first use.
//
// Ownership: borrows the RefStore. Threads: thread-compatible.
// Errors: FAILED_PRECONDITION (written by another version; both named), and
// what the RefStore says. Cost: blocks; at start only.
#ifndef AGENTMEM_MEMD_TENANT_REGISTRY_H_
#define AGENTMEM_MEMD_TENANT_REGISTRY_H_

#include <array>
#include <string>

#include "absl/status/statusor.h"
#include "memd/store/ref_store.h"

namespace agentmem {

struct TenantIdentity {
  TenantId id;
  std::array<std::uint8_t, 32> key = {};
};

absl::StatusOr<TenantIdentity> LoadOrMakeTenant(RefStore* refs,
                                                const std::string& name);

// NOT_FOUND: it was never made there.
absl::StatusOr<TenantIdentity> FindTenant(RefStore* refs,
                                          const std::string& name);

// In the store of a node whose refs are the cluster's: the identity is noted
// there, too. FAILED_PRECONDITION: the store is of another tenant of that name,
// or has that number for another one.
absl::Status MirrorTenant(RefStore* local, const std::string& name,
                          const TenantIdentity& identity);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TENANT_REGISTRY_H_
