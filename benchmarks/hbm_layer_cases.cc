// A model's KV blocks, which come layer by layer, and what a post costs.
#include <string>
#include <vector>

#include "base/clock.h"
#include "benchmarks/hbm_bench.h"
#include "benchmarks/hbm_bytes.h"
#include "benchmarks/hbm_model.h"
#include "benchmarks/thread_clock.h"

namespace agentmem::bench {
namespace {

constexpr double kFirstLayerBar = 0.05;

constexpr double kSubmitBarNs = 500;

}  // namespace

std::vector<Bar> HbmBench::LayerBars() {
  return {{"layerwise_load/first_layer", kFirstLayerBar, false}};
}

std::vector<Bar> HbmBench::SubmitBars() {
  return {{"submit_overhead/host/64", kSubmitBarNs, false},
          {"submit_overhead/host/1024", kSubmitBarNs, false}};
}

absl::Status HbmBench::AddLayerwiseLoad() {
  HbmMemory memory(device_);
  AGENTMEM_RETURN_IF_ERROR(memory.Take(scale_.layer_bytes));
  const std::size_t per_layer = scale_.layer_bytes / kLayers / kLayerFragment;
  std::vector<Fragment> fragments =
      ScatteredFragments(memory.device(), memory.source(), kLayerFragment);
  Samples first;
  Samples all;
  for (int round = 0; Another(round); ++round) {
    const std::uint64_t seed = seed_++;
    HbmPost post(device_);
    AGENTMEM_RETURN_IF_ERROR(PrepareOnload(memory, seed, kLayerFragment));
    const TimeNs start = MonotonicNowNs();
    TimeNs usable = 0;
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      AGENTMEM_RETURN_IF_ERROR(post.CopySplit(
          Direction::kToDevice,
          std::span(fragments).subspan(layer * per_layer, per_layer),
          crossovers_.to_device.rule));
      if (usable != 0) continue;
      AGENTMEM_ASSIGN_OR_RETURN(const bool passed, post.OldestPassed());
      if (passed) usable = MonotonicNowNs();
    }
    if (usable == 0) {
      AGENTMEM_RETURN_IF_ERROR(post.AwaitOldest());
      usable = MonotonicNowNs();
    }
    AGENTMEM_RETURN_IF_ERROR(post.Await());
    const TimeNs end = MonotonicNowNs();
    first.Add(static_cast<double>(usable - start));
    all.Add(static_cast<double>(end - start));
    AGENTMEM_RETURN_IF_ERROR(CheckOnload(memory, seed));
  }
  const CaseResult* const row =
      AddTimes("layerwise_load/first_layer", &first, "all layers", &all);
  MeasureBar(row->name, row->Ratio());
  return absl::OkStatus();
}

absl::Status HbmBench::AddSubmitOverhead(Device* device,
                                         const std::string& name) {
  constexpr std::uint64_t kBytes = 16 << 20;
  constexpr std::uint32_t kFragment = 4 << 10;
  HbmMemory memory(device);
  AGENTMEM_RETURN_IF_ERROR(memory.Take(kBytes));
  std::vector<Fragment> fragments =
      ScatteredFragments(memory.device(), memory.source(), kFragment);
  // Each second one is half as long, and goes by the kernel.
  for (std::size_t i = 0; i < fragments.size(); i += 2) {
    fragments[i].bytes = kFragment / 2;
  }
  std::vector<Fragment> batch;
  for (const std::size_t count : {64, 1024}) {
    Samples ns;
    double sum = 0;
    HbmPost post(device);
    for (int i = 0; i < scale_.submits; ++i) {
      const auto from = std::span(fragments).subspan(
          static_cast<std::size_t>(i) % (fragments.size() / count) * count,
          count);
      batch.assign(from.begin(), from.end());  // unsorted
      const DurationNs before = ThreadCpuNs();
      AGENTMEM_RETURN_IF_ERROR(post.CopySplit(
          Direction::kToDevice, batch, {kFragment, CopyMethod::kKernel}));
      const DurationNs after = ThreadCpuNs();
      const double each =
          static_cast<double>(after - before) / static_cast<double>(count);
      ns.Add(each);
      sum += each;
      AGENTMEM_RETURN_IF_ERROR(post.Await());
    }
    CaseResult row;
    row.name = "submit_overhead/" + name + "/" + std::to_string(count);
    row.p50_ns = ns.Percentile(0.5);
    row.p99_ns = ns.Percentile(0.99);
    row.p999_ns = ns.Percentile(0.999);
    row.value = sum / scale_.submits;
    row.unit = "ns";
    row.baseline = "bar";
    row.baseline_value = kSubmitBarNs;
    // (Of the host device it says something.)
    if (name == "host") FindBar(&result_->bars, row.name)->measured = row.value;
    result_->cases.push_back(std::move(row));
  }
  return absl::OkStatus();
}

}  // namespace agentmem::bench
