// Suite `pool`: what daemons that are connected cost when nothing happens.
#include "base/status.h"
#include "benchmarks/pool_bench.h"
#include "benchmarks/processor_time.h"

namespace agentmem::bench {

absl::Status PoolBench::AddIdle() {
  AGENTMEM_RETURN_IF_ERROR(SetUp(2));
  // They have worked together; it is over.
  PoolBlocks blocks(setup_.client.get(), 64 << 10, seed_);
  AGENTMEM_RETURN_IF_ERROR(blocks.Fill(64));
  AGENTMEM_RETURN_IF_ERROR(AwaitQuiet(*setup_.cluster));
  AGENTMEM_ASSIGN_OR_RETURN(const double most,
                            BusiestFor(*setup_.cluster, scale_.idle_ms));
  CaseResult row;
  row.name = "idle_cpu";
  row.value = most;
  row.unit = "% of a core";
  result_->cases.push_back(row);
  Bar(row.name, most < 1,
      "under 1% of a core for each of two connected daemons, the busier one "
      "takes " +
          Decimal(most) + "%");
  return absl::OkStatus();
}

}  // namespace agentmem::bench
