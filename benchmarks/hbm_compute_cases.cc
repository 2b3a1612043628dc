// Copies beside computing: layers that are used while the next ones come, and
// what copies take from a kernel that runs beside them.
#include <sched.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/clock.h"
#include "benchmarks/busy_work.h"
#include "benchmarks/hbm_bench.h"
#include "benchmarks/hbm_bytes.h"
#include "benchmarks/hbm_model.h"

namespace agentmem::bench {
namespace {

constexpr double kEndToEndBar = 1.10;  // of the longer of load and compute
constexpr double kDmaShareBar = 1.03;
constexpr double kKernelShareBar = 1.10;
constexpr std::uint64_t kShareBytes = 64 << 20;
constexpr double kShareNs = 100e6;  // of computing, on a GPU

}  // namespace

absl::StatusOr<double> HbmBench::Compute(BusyWork* work, std::uint64_t steps,
                                         const Way& beside) {
  // A stream of the device's own on which these cases copy nothing.
  const Stream stream = device_->properties().to_host;
  HbmPost copies(device_);
  HbmPost computing(device_);
  const TimeNs start = MonotonicNowNs();
  AGENTMEM_RETURN_IF_ERROR(work->Post(steps, stream));
  AGENTMEM_RETURN_IF_ERROR(computing.Record(stream));
  for (bool done = false; !done;) {
    if (beside != nullptr) AGENTMEM_RETURN_IF_ERROR(beside(&copies));
    AGENTMEM_ASSIGN_OR_RETURN(done, computing.OldestPassed());
    if (!done) ::sched_yield();
  }
  const TimeNs end = MonotonicNowNs();
  AGENTMEM_RETURN_IF_ERROR(copies.Await());
  return static_cast<double>(end - start);
}

// How many steps take about `ns`.
absl::StatusOr<std::uint64_t> HbmBench::StepsOf(BusyWork* work, double ns) {
  constexpr std::uint64_t kTrial = 64;
  double least = 0;
  for (int i = 0; i < 4; ++i) {  // the first loads the kernel
    AGENTMEM_ASSIGN_OR_RETURN(const double taken,
                              Compute(work, kTrial, nullptr));
    if (i == 1 || (i > 1 && taken < least)) least = taken;
  }
  const double steps = ns / std::max(least, 1.0) * kTrial;
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(steps));
}

absl::Status HbmBench::AddLayerwiseCompute() {
  HbmMemory memory(device_);
  AGENTMEM_RETURN_IF_ERROR(memory.Take(scale_.layer_bytes));
  BusyWork work(device_, !logic_only_);
  AGENTMEM_RETURN_IF_ERROR(work.Start());
  const std::size_t per_layer = scale_.layer_bytes / kLayers / kLayerFragment;
  std::vector<Fragment> fragments =
      ScatteredFragments(memory.device(), memory.source(), kLayerFragment);
  const Stream copying = device_->properties().to_device;
  const Stream computing = device_->properties().to_host;
  // All layers come; with steps, each is computed on once it is there.
  const auto pipeline = [&](std::uint64_t steps) -> Way {
    return [&, steps](HbmPost* post) -> absl::Status {
      for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
        AGENTMEM_RETURN_IF_ERROR(post->CopySplit(
            Direction::kToDevice,
            std::span(fragments).subspan(layer * per_layer, per_layer),
            crossovers_.to_device.rule));
        if (steps == 0) continue;
        AGENTMEM_RETURN_IF_ERROR(post->WaitForNewest(computing));
        AGENTMEM_RETURN_IF_ERROR(work.Post(steps, computing));
      }
      return post->Record(steps == 0 ? copying : computing);
    };
  };
  AGENTMEM_ASSIGN_OR_RETURN(const double trial, Timed(pipeline(0)));
  AGENTMEM_ASSIGN_OR_RETURN(const std::uint64_t steps,
                            StepsOf(&work, trial / kLayers));
  Samples load, compute, both, in_turn;
  for (int round = 0; round < scale_.rounds; ++round) {
    AGENTMEM_ASSIGN_OR_RETURN(const double load_ns, Timed(pipeline(0)));
    AGENTMEM_ASSIGN_OR_RETURN(const double compute_ns,
                              Compute(&work, steps * kLayers, nullptr));
    const std::uint64_t seed = seed_++;
    AGENTMEM_RETURN_IF_ERROR(PrepareOnload(memory, seed, kLayerFragment));
    AGENTMEM_ASSIGN_OR_RETURN(const double both_ns, Timed(pipeline(steps)));
    AGENTMEM_RETURN_IF_ERROR(CheckOnload(memory, seed));
    load.Add(load_ns);
    compute.Add(compute_ns);
    both.Add(both_ns);
    in_turn.Add(load_ns + compute_ns);
  }
  const CaseResult* const row = AddTimes("layerwise_load/end_to_end", &both,
                                         "load, then compute", &in_turn);
  AddBar(row->name + " by the longer of the two",
         row->value / std::max(load.Percentile(0.5), compute.Percentile(0.5)),
         kEndToEndBar, false);
  return absl::OkStatus();
}

absl::Status HbmBench::AddShare(const std::string& name,
                                std::uint32_t fragment_bytes, CopyMethod method,
                                double bar) {
  BusyWork work(device_, !logic_only_);
  AGENTMEM_RETURN_IF_ERROR(work.Start());
  HbmMemory memory(device_);
  AGENTMEM_RETURN_IF_ERROR(memory.Take(std::min(scale_.bytes, kShareBytes)));
  const std::vector<Fragment> fragments =
      ScatteredFragments(memory.device(), memory.source(), fragment_bytes);
  AGENTMEM_ASSIGN_OR_RETURN(const std::uint64_t steps,
                            StepsOf(&work, logic_only_ ? 5e6 : kShareNs));
  std::uint64_t copied = 0;
  Samples alone, beside;
  double beside_ns = 0;
  for (int round = 0; round < scale_.rounds; ++round) {
    AGENTMEM_ASSIGN_OR_RETURN(const double alone_ns,
                              Compute(&work, steps, nullptr));
    alone.Add(alone_ns);
    const std::uint64_t seed = seed_++;
    AGENTMEM_RETURN_IF_ERROR(PrepareOnload(memory, seed, fragment_bytes));
    AGENTMEM_ASSIGN_OR_RETURN(
        const double ns,
        Compute(&work, steps, [&](HbmPost* post) -> absl::Status {
          // Two under way, so that the link does not rest. Nothing waits: the
          // end of the computing must be seen at once.
          if (post->pending() > 1) {
            AGENTMEM_ASSIGN_OR_RETURN(const bool passed, post->OldestPassed());
            if (!passed) return absl::OkStatus();
            copied += memory.source().size();
          }
          return post->Copy(Direction::kToDevice, method, fragments);
        }));
    AGENTMEM_RETURN_IF_ERROR(CheckOnload(memory, seed));
    beside.Add(ns);
    beside_ns += ns;
  }
  const CaseResult* const row =
      AddTimes("sm_share/" + name, &beside, "no copies beside", &alone);
  AddBar(row->name, row->Ratio(), bar, false);
  CaseResult rate;
  rate.name = "sm_share/" + name + "/copied";
  // Those under way at the end are left out.
  rate.value = static_cast<double>(copied) * 1e3 / beside_ns;
  rate.unit = "MB/s";
  rate.higher_is_better = true;
  result_->cases.push_back(std::move(rate));
  return absl::OkStatus();
}

absl::Status HbmBench::AddShares() {
  AGENTMEM_RETURN_IF_ERROR(
      AddShare("dma", 2 << 20, CopyMethod::kCopyEngine, kDmaShareBar));
  if (device_->properties().kernel_fragments_max == 0) return absl::OkStatus();
  return AddShare("kernel", 32 << 10, CopyMethod::kKernel, kKernelShareBar);
}

}  // namespace agentmem::bench
