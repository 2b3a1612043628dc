// Other nodes' memory: what it costs beside the wire.
#include <string_view>

#include "base/status.h"
#include "benchmarks/pool_bench.h"
#include "benchmarks/pool_seed.h"

namespace agentmem::bench {
namespace {

struct Group {
  const char* name;
  absl::Status (PoolBench::*add)();
};

constexpr Group kGroups[] = {
    {"remote_get/65536", &PoolBench::AddSmallGets},
    {"remote_get/1048576", &PoolBench::AddLargeGets},
    {"remote_get_batch", &PoolBench::AddBatches},
    {"remote_put/1048576", &PoolBench::AddPuts},
    {"remote_put_two_copies", &PoolBench::AddPutsTwice},
    {"encrypted_get", &PoolBench::AddEncryptedGets},
    {"idle_cpu", &PoolBench::AddIdle},
    {"failover", &PoolBench::AddFailover},
    {"attach_elsewhere", &PoolBench::AddAttach},
};

}  // namespace

absl::StatusOr<SuiteResult> RunPoolSuite(const SuiteOptions& options) {
  SuiteResult result;
  result.suite = "pool";
  result.machine = DescribeMachine();
  PoolBench bench(options, FreshSeed(&result), &result);
  result.notes.push_back(
      "baselines: libfabric alone (tcp;ofi_rxm) between two processes, which "
      "look for 50 us before they sleep, as memd does; rounds in turn");
  for (const Group& group : kGroups) {
    if (std::string_view(group.name).find(options.only) ==
        std::string_view::npos) {
      continue;
    }
    AGENTMEM_RETURN_IF_ERROR((bench.*group.add)());
  }
  return result;
}

}  // namespace agentmem::bench
