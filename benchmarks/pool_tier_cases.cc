// The pool as a tier, in the suite `tiers`: all sizes.
#include "base/status.h"
#include "benchmarks/block_sizes.h"
#include "benchmarks/pool_bench.h"
#include "benchmarks/pool_seed.h"

namespace agentmem::bench {

absl::Status PoolBench::AddTier(std::size_t size) {
  AGENTMEM_RETURN_IF_ERROR(SetUp(2));
  const PoolRun run = RunOf(size, 1);
  const Unit unit = Unit::MegabytesPerSecond(static_cast<double>(size));
  {
    AGENTMEM_ASSIGN_OR_RETURN(PoolBlocks blocks, FilledBlocks(size));
    Tracked ours;
    Tracked raw;
    AGENTMEM_RETURN_IF_ERROR(
        AddRow("pool_get/" + SizeText(size), unit, &ours, &raw,
               {ours.Track(GetSide(&blocks, run)),
                raw.Track(RawSide(RawEndpoint::Kind::kRead, size, run, 1))})
            .status());
  }
  AGENTMEM_RETURN_IF_ERROR(SetUp(2));
  PoolBlocks blocks(setup_.client.get(), size, seed_);
  Tracked ours;
  Tracked raw;
  return AddRow("pool_put/" + SizeText(size), unit, &ours, &raw,
                {ours.Track(PutSide(&blocks, run, /*copied=*/true)),
                 raw.Track(RawSide(RawEndpoint::Kind::kWrite, size, run, 1))})
      .status();
}

absl::Status AddPoolCases(const SuiteOptions& options, SuiteResult* result) {
  PoolBench bench(options, FreshSeed(result), result);
  for (const std::size_t size : kBlockSizes) {
    AGENTMEM_RETURN_IF_ERROR(bench.AddTier(size));
  }
  result->notes.push_back(
      "pool_get: blocks that only another memd on loopback has, one at a time; "
      "pool_put: acknowledged when another memd has them; beside the bare "
      "libfabric operation between two processes, tcp;ofi_rxm, in the same "
      "wait mode");
  return absl::OkStatus();
}

}  // namespace agentmem::bench
