#include "benchmarks/pool_bench.h"

#include <algorithm>
#include <cstdio>

#include "base/status.h"
#include "benchmarks/processor_time.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
// What both sides of a comparison do before they sleep; [pool] spin_us.
constexpr std::uint64_t kSpinUs = 50;
// Blocks of a burst are pinned together; of DRAM they may take an eighth.
constexpr std::uint64_t kBurstBytes = 16 * kMiB;
constexpr std::size_t kBurstSamplesMax = 64;
constexpr std::uint64_t kSlotBytes = 4096;  // of the smallest blocks

}  // namespace

PoolScale PoolScaleOf(const SuiteOptions& options) {
  if (options.quick) return {128 * kMiB, 512 * kMiB, 224 * kMiB, 2, 1, 1000, 2};
  return {128 * kMiB, 1536 * kMiB, 512 * kMiB, 9, 4, 5000, 20};
}

std::string Decimal(double number) {
  char text[32];
  std::snprintf(text, sizeof(text), number < 10 ? "%.2f" : "%.1f", number);
  return text;
}

Side Tracked::Track(const Side& side) {
  const auto run = [this, side](int round, Samples*) -> absl::StatusOr<double> {
    AGENTMEM_ASSIGN_OR_RETURN(const double ns, side.run(round, &samples));
    means.push_back(ns);
    return ns;
  };
  return {side.name, run};
}

absl::StatusOr<PoolSetup> PoolBench::StartNodes(std::size_t nodes,
                                                bool sealed) const {
  PoolClusterOptions options;
  options.program = options_.memd;
  options.nodes = nodes;
  options.dram_bytes = scale_.dram_bytes;
  options.slots = scale_.dram_bytes / kSlotBytes;
  options.export_bytes = scale_.export_bytes;
  options.spin_us = kSpinUs;
  options.sealed = sealed;
  PoolSetup setup;
  AGENTMEM_ASSIGN_OR_RETURN(setup.cluster, PoolCluster::Start(options));
  AGENTMEM_RETURN_IF_ERROR(AwaitQuiet(*setup.cluster));
  AGENTMEM_ASSIGN_OR_RETURN(Connection client,
                            Connection::Open(setup.cluster->socket_path(0)));
  setup.client = std::make_unique<Connection>(std::move(client));
  return setup;
}

absl::Status PoolBench::SetUp(std::size_t nodes) {
  setup_.client.reset();
  setup_.cluster.reset();
  AGENTMEM_ASSIGN_OR_RETURN(setup_, StartNodes(nodes, false));
  // The bare operation's memory was touched before, too.
  return AwaitQuiet(*setup_.cluster);
}

absl::StatusOr<RawFabric*> PoolBench::Raw() {
  if (raw_ != nullptr) return raw_.get();
  RawFabricOptions raw;
  raw.window_bytes = scale_.dram_bytes;
  raw.spin_ns = kSpinUs * kMicrosecondNs;
  AGENTMEM_ASSIGN_OR_RETURN(raw_, RawFabric::Start(raw, seed_));
  return raw_.get();
}

absl::StatusOr<PoolBlocks> PoolBench::FilledBlocks(const Connection* client,
                                                   std::size_t size) const {
  PoolBlocks blocks(client, size, seed_);
  // More than DRAM holds, and of the smallest no more than the index does.
  const std::uint64_t count =
      std::min(scale_.set_bytes / size, scale_.dram_bytes / kSlotBytes * 3 / 2);
  AGENTMEM_RETURN_IF_ERROR(blocks.Fill(count));
  return blocks;
}

PoolRun PoolBench::RunOf(std::size_t size, std::size_t group) const {
  PoolRun run;
  run.group = group;
  run.samples = std::clamp<std::size_t>(kBurstBytes / (size * group), 1,
                                        kBurstSamplesMax);
  run.bursts = scale_.burst_factor * (size * group < kMiB ? 4 : 1);
  return run;
}

Side PoolBench::GetSide(PoolBlocks* blocks, const PoolRun& run) const {
  return {"agentmem", [blocks, run](int, Samples* samples) {
            return blocks->TimeGets(run, samples);
          }};
}

Side PoolBench::PutSide(PoolBlocks* blocks, const PoolRun& run,
                        bool copied) const {
  return {"agentmem", [blocks, run, copied](int, Samples* samples) {
            return copied ? blocks->TimeCopiedPuts(run, samples)
                          : blocks->TimePuts(run, samples);
          }};
}

Side PoolBench::RawSide(RawEndpoint::Kind kind, std::size_t size,
                        const PoolRun& run, std::uint32_t depth) {
  RawFabricRun raw;
  raw.kind = kind;
  raw.depth = depth;
  raw.length = size;
  raw.group = run.group;
  raw.samples = run.samples;
  raw.bursts = run.bursts;
  const std::string name =
      kind == RawEndpoint::Kind::kRead ? "fi_read" : "fi_write, delivered";
  return {depth == 1 ? name : name + ", depth " + std::to_string(depth),
          [this, raw](int, Samples* samples) -> absl::StatusOr<double> {
            AGENTMEM_ASSIGN_OR_RETURN(RawFabric* const fabric, Raw());
            return fabric->Run(raw, samples);
          }};
}

absl::StatusOr<CaseResult*> PoolBench::AddRow(const std::string& name,
                                              const Unit& unit, Tracked* ours,
                                              Tracked* raw,
                                              std::vector<Side> sides) {
  AGENTMEM_ASSIGN_OR_RETURN(
      CaseResult row,
      Compare(name, unit, static_cast<int>(scale_.rounds), sides));
  row.p50_ns = ours->samples.Percentile(0.5);
  row.p99_ns = ours->samples.Percentile(0.99);
  row.p999_ns = ours->samples.Percentile(0.999);
  row.baseline = sides[1].name;
  row.baseline_value = unit.Of(Median(raw->means));
  row.baseline_p50_ns = raw->samples.Percentile(0.5);
  result_->cases.push_back(row);
  return &result_->cases.back();
}

void PoolBench::Bar(const std::string& name, bool holds,
                    const std::string& text) {
  result_->notes.push_back(name + ": " + text +
                           (holds ? ": holds" : ": MISSED"));
}

}  // namespace agentmem::bench
