// Suite `pool`: blocks that are written into other nodes' memory.
#include "base/status.h"
#include "benchmarks/pool_bench.h"

namespace agentmem::bench {
namespace {

constexpr std::size_t kLarge = 1 << 20;
constexpr int kFillersMax = 3;  // times all of DRAM

}  // namespace

// Ours over the raw operation, which sends from memory that was registered and
// filled before: as a put does whose bytes were made in a reservation, and one
// that copies them does not.
absl::StatusOr<double> PoolBench::MeasurePuts(const std::string& name,
                                              PoolBlocks* blocks, bool copied) {
  const PoolRun run = RunOf(kLarge, 1);
  Tracked ours;
  Tracked raw;
  AGENTMEM_ASSIGN_OR_RETURN(
      const CaseResult* const row,
      AddRow(name, Unit::MegabytesPerSecond(kLarge), &ours, &raw,
             {ours.Track(PutSide(blocks, run, copied)),
              raw.Track(RawSide(RawEndpoint::Kind::kWrite, kLarge, run, 1))}));
  return row->Ratio();
}

// Other blocks take their places in DRAM; then all of it is read back.
absl::Status PoolBench::CheckPuts(const std::string& name, PoolBlocks* blocks,
                                  bool lose_a_node) {
  PoolBlocks others(setup_.client.get(), kLarge, ~seed_, 1);
  for (int i = 0; i < kFillersMax; ++i) {
    AGENTMEM_ASSIGN_OR_RETURN(const std::size_t below, blocks->CountInPool());
    if (below == blocks->count()) break;
    AGENTMEM_RETURN_IF_ERROR(others.Fill(scale_.dram_bytes / kLarge));
  }
  if (lose_a_node) setup_.cluster->node(1)->Kill();
  AGENTMEM_ASSIGN_OR_RETURN(const PoolCheck check, blocks->CheckAll());
  std::string text =
      std::to_string(check.from_pool) + " of " +
      std::to_string(blocks->count()) + " blocks read back from the pool" +
      (lose_a_node ? " after one of the two other nodes was killed" : "") +
      ", every byte compared";
  if (check.lost != 0) {
    text += "; " + std::to_string(check.lost) +
            " are lost: " + StatusMessage(check.first_lost);
  }
  if (check.lost != 0 && !lose_a_node) return DataLoss(name + ": " + text);
  Bar(name, check.from_pool == blocks->count(), text);
  return absl::OkStatus();
}

absl::Status PoolBench::AddPuts() {
  const std::string name = "remote_put/1048576";
  AGENTMEM_RETURN_IF_ERROR(SetUp(2));
  PoolBlocks blocks(setup_.client.get(), kLarge, seed_);
  AGENTMEM_ASSIGN_OR_RETURN(const double ratio, MeasurePuts(name, &blocks));
  Bar(name, ratio >= 0.75,
      "at least 0.75 of fi_write with FI_DELIVERY_COMPLETE, committed in one "
      "copy, it is " +
          Decimal(ratio));
  AGENTMEM_RETURN_IF_ERROR(
      MeasurePuts("remote_put_copied/1048576", &blocks, /*copied=*/true)
          .status());
  return CheckPuts(name, &blocks, false);
}

// That there were two copies shows when the node with one of them is lost.
absl::Status PoolBench::AddPutsTwice() {
  const std::string name = "remote_put_two_copies/1048576";
  AGENTMEM_RETURN_IF_ERROR(SetUp(3));
  PoolBlocks blocks(setup_.client.get(), kLarge, seed_);
  AGENTMEM_ASSIGN_OR_RETURN(const double ratio, MeasurePuts(name, &blocks));
  Bar(name, ratio >= 0.4,
      "at least 0.40 of one fi_write with FI_DELIVERY_COMPLETE, it is " +
          Decimal(ratio));
  return CheckPuts(name, &blocks, true);
}

}  // namespace agentmem::bench
