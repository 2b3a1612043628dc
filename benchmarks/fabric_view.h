// What a memd says of the memory that it lends and borrows: `memctl fabric`,
// asked as a program apart, since the benchmark forks and gRPC must not.
//
// Ownership: values. Threads: any. Errors: UNAVAILABLE if memctl, beside memd's
// program, does not answer. Cost: a process, about 10 ms.
#ifndef AGENTMEM_BENCHMARKS_FABRIC_VIEW_H_
#define AGENTMEM_BENCHMARKS_FABRIC_VIEW_H_

#include <cstdint>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "benchmarks/memd_child.h"

namespace agentmem::bench {

struct FabricView {
  std::uint64_t lent_blocks = 0;
  std::uint64_t moved = 0;
  std::uint64_t repaired = 0;
  std::set<std::string> peers_up;  // names of nodes
  std::set<std::string> members;   // of the cluster, with this node
};

absl::StatusOr<FabricView> ViewFabric(const MemdChild& memd);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_FABRIC_VIEW_H_
