// The way to other nodes, as the running memd sees it.
#include "client/memctl/doctor.h"
#include "client/memctl/health.h"
#include "client/memctl/human_text.h"

namespace agentmem::memctl {

std::vector<Finding> CheckFabric(
    const absl::StatusOr<admin::v1::FabricSnapshot>& fabric) {
  if (!fabric.ok()) return {};
  std::vector<Finding> findings;
  const Health health = HealthOf(fabric);
  for (const HealthReason& reason : health.reasons) {
    findings.push_back({reason.name, reason.level, Printable(reason.text),
                        Printable(reason.remedy)});
  }
  if (IsAlone(*fabric)) {
    findings.push_back(
        {"fabric", Level::kOk, "this node is alone: no [cluster]", ""});
    return findings;
  }
  if (findings.empty()) {
    findings.push_back({"fabric", Level::kOk,
                        Printable(fabric->provider()) + ", " +
                            std::to_string(fabric->pool().peers_size()) +
                            " peers up",
                        ""});
  }
  // Of memd's limits and devices, which need not be memctl's.
  const Level level = fabric->rdma_asked() ? Level::kProblem : Level::kNote;
  for (const auto& problem : fabric->devices().problems()) {
    findings.push_back({"rdma_memd", level, Printable(problem.found()),
                        Printable(problem.remedy())});
  }
  if (fabric->pool().corrupt() > 0) {
    findings.push_back(
        {"pool_corrupt", Level::kProblem,
         std::to_string(fabric->pool().corrupt()) +
             " copies from other nodes failed their checksum",
         "look at memd's log for the node, and at its memory (edac-util)"});
  }
  return findings;
}

}  // namespace agentmem::memctl
