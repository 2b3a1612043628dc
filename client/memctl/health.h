// Is all well between this node and the others? One word, and the reasons.
//
// Degraded: it works, and not as the operator asked for or should want: no RDMA
// where it was asked for or could be had, members out of reach, no agreement,
// peers without TLS, no fabric at all.
//
// Ownership: values. Threads: pure functions. Errors: none; who cannot be asked
// is of unknown health. Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_HEALTH_H_
#define AGENTMEM_CLIENT_MEMCTL_HEALTH_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/admin.pb.h"

namespace agentmem::memctl {

struct HealthReason {
  std::string name;  // stable: a key for scripts
  std::string text;  // what is so
  std::string remedy;
};

struct Health {
  enum class State { kOk, kDegraded, kUnknown };
  State state = State::kOk;
  std::vector<HealthReason> reasons;
};

const char* HealthName(Health::State state);

Health HealthOf(const absl::StatusOr<admin::v1::FabricSnapshot>& fabric);

// In its configuration, memd has no [cluster].
bool IsAlone(const admin::v1::FabricSnapshot& fabric);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_HEALTH_H_
