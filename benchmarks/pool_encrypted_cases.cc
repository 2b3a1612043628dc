// Suite `pool`: blocks that are sealed before they leave their node, beside
// the same blocks in clear.
#include "base/status.h"
#include "benchmarks/pool_bench.h"

namespace agentmem::bench {
namespace {

constexpr std::size_t kMiddle = 256 << 10;
constexpr std::size_t kLarge = 1 << 20;
constexpr std::size_t kBatch = 64;

}  // namespace

absl::Status PoolBench::AddEncryptedGets() {
  AGENTMEM_RETURN_IF_ERROR(SetUp(2));
  AGENTMEM_ASSIGN_OR_RETURN(const PoolSetup sealed, StartNodes(2, true));
  AGENTMEM_RETURN_IF_ERROR(
      AddEncryptedGets("encrypted_get/1048576", sealed, kLarge, 1, 0.45));
  return AddEncryptedGets("encrypted_get_batch/64x262144", sealed, kMiddle,
                          kBatch, 0.7);
}

absl::Status PoolBench::AddEncryptedGets(const std::string& name,
                                         const PoolSetup& sealed,
                                         std::size_t size, std::size_t group,
                                         double least) {
  AGENTMEM_ASSIGN_OR_RETURN(PoolBlocks blocks,
                            FilledBlocks(sealed.client.get(), size));
  AGENTMEM_ASSIGN_OR_RETURN(PoolBlocks clear, FilledBlocks(size));
  const PoolRun run = RunOf(size, group);
  Tracked ours;
  Tracked theirs;
  Side baseline = GetSide(&clear, run);
  baseline.name = "the same in clear";
  AGENTMEM_ASSIGN_OR_RETURN(
      const CaseResult* const row,
      AddRow(name, Unit::MegabytesPerSecond(static_cast<double>(size * group)),
             &ours, &theirs,
             {ours.Track(GetSide(&blocks, run)), theirs.Track(baseline)}));
  Bar(name, row->Ratio() >= least,
      "at least " + Decimal(least) + " of the same in clear, it is " +
          Decimal(row->Ratio()));
  return absl::OkStatus();
}

}  // namespace agentmem::bench
