// Is all well with this node, and between it and the others? One word, and the
// reasons.
//
// Degraded: not as the operator asked for or should want: nothing can be made
// durable, no RDMA where it was asked for or could be had, members out of
// reach, no agreement, peers without TLS, no fabric at all. The reasons that
// are problems are the doctor's, too, and its exit status.
//
// Ownership: values. Threads: pure functions. Errors: none; who cannot be asked
// is of unknown health. Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_HEALTH_H_
#define AGENTMEM_CLIENT_MEMCTL_HEALTH_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/memctl/doctor.h"
#include "proto/admin.pb.h"

namespace agentmem::memctl {

struct HealthReason {
  std::string name;  // stable: a key for scripts
  std::string text;  // what is so
  std::string remedy;
  // kProblem: something that was promised is not to be had now.
  Level level = Level::kNote;
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
