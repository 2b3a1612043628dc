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
constexpr char kEndToEnd[] = "layerwise_load/end_to_end";
constexpr char kByTheLonger[] = " by the longer of the two";
constexpr std::uint64_t kShareBytes = 64 << 20;
constexpr double kShareNs = 100e6;  // of computing, on a GPU
// Of computing, at least so many times what one copy takes alone.
constexpr double kShareCopies = 8;
// Of their rate alone: what is slower beside a kernel says nothing of it. The
// link is theirs alone; multiprocessors are shared, launch by launch.
constexpr double kFairOnLink = 0.5;
constexpr double kFairOnMultiprocessors = 0.25;

using Bound = BusyWork::Bound;

}  // namespace

struct HbmBench::Share {
  const char* name;
  double bar;  // of the kernel's time with copies beside, by that without
  CopyMethod method;
  std::uint32_t fragment_bytes;
  Direction direction = Direction::kToDevice;
  Bound bound = Bound::kCompute;
};

namespace {

// On which no copies of this direction are: of the device's own.
Stream ComputingBeside(Direction direction, const DeviceProperties& of) {
  return direction == Direction::kToDevice ? of.to_host : of.to_device;
}

}  // namespace

const std::vector<HbmBench::Share>& HbmBench::Shares() {
  constexpr CopyMethod kDma = CopyMethod::kCopyEngine;
  constexpr CopyMethod kKernel = CopyMethod::kKernel;
  constexpr Direction kIn = Direction::kToDevice;
  constexpr Direction kOut = Direction::kToHost;
  static const std::vector<Share> shares = {
      {"sm_share/dma", 1.03, kDma, 2 << 20},
      {"sm_share/dma/to_host", 1.03, kDma, 2 << 20, kOut},
      {"sm_share/dma/memory_bound", 1.03, kDma, 2 << 20, kIn, Bound::kMemory},
      {"sm_share/kernel", 1.10, kKernel, 32 << 10},
      {"sm_share/kernel/to_host", 1.10, kKernel, 32 << 10, kOut},
      {"sm_share/kernel/memory_bound", 1.10, kKernel, 32 << 10, kIn,
       Bound::kMemory},
  };
  return shares;
}

std::vector<Bar> HbmBench::ShareBars() {
  std::vector<Bar> bars;
  for (const Share& share : Shares()) {
    bars.push_back({share.name, share.bar, false});
  }
  return bars;
}

std::vector<Bar> HbmBench::LayerComputeBars() {
  return {{std::string(kEndToEnd) + kByTheLonger, kEndToEndBar, false}};
}

absl::StatusOr<double> HbmBench::Compute(BusyWork* work, std::uint64_t steps,
                                         Stream stream, const Way& beside) {
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
absl::StatusOr<std::uint64_t> HbmBench::StepsOf(BusyWork* work, Stream stream,
                                                double ns) {
  constexpr std::uint64_t kTrial = 64;
  double least = 0;
  for (int i = 0; i < 4; ++i) {  // the first loads the kernel
    AGENTMEM_ASSIGN_OR_RETURN(const double taken,
                              Compute(work, kTrial, stream, nullptr));
    if (i == 1 || (i > 1 && taken < least)) least = taken;
  }
  const double steps = ns / std::max(least, 1.0) * kTrial;
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(steps));
}

absl::Status HbmBench::AddLayerwiseCompute() {
  HbmMemory memory(device_);
  AGENTMEM_RETURN_IF_ERROR(memory.Take(scale_.layer_bytes));
  BusyWork work(device_, !logic_only_, Bound::kCompute);
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
                            StepsOf(&work, computing, trial / kLayers));
  Samples load, compute, both, in_turn;
  for (int round = 0; Another(round); ++round) {
    AGENTMEM_ASSIGN_OR_RETURN(const double load_ns, Timed(pipeline(0)));
    AGENTMEM_ASSIGN_OR_RETURN(
        const double compute_ns,
        Compute(&work, steps * kLayers, computing, nullptr));
    const std::uint64_t seed = seed_++;
    AGENTMEM_RETURN_IF_ERROR(PrepareOnload(memory, seed, kLayerFragment));
    AGENTMEM_ASSIGN_OR_RETURN(const double both_ns, Timed(pipeline(steps)));
    AGENTMEM_RETURN_IF_ERROR(CheckOnload(memory, seed));
    load.Add(load_ns);
    compute.Add(compute_ns);
    both.Add(both_ns);
    in_turn.Add(load_ns + compute_ns);
  }
  const CaseResult* const row =
      AddTimes(kEndToEnd, &both, "load, then compute", &in_turn);
  MeasureBar(
      row->name + kByTheLonger,
      row->value / std::max(load.Percentile(0.5), compute.Percentile(0.5)));
  return absl::OkStatus();
}

absl::Status HbmBench::AddShare(const Share& share) {
  const bool to_host = share.direction == Direction::kToHost;
  const Stream computing =
      ComputingBeside(share.direction, device_->properties());
  BusyWork work(device_, !logic_only_, share.bound);
  AGENTMEM_RETURN_IF_ERROR(work.Start());
  HbmMemory memory(device_);
  AGENTMEM_RETURN_IF_ERROR(
      memory.Take(std::min(scale_.bytes / 4, kShareBytes)));
  const std::vector<Fragment> fragments = ScatteredFragments(
      memory.device(), to_host ? memory.output() : memory.source(),
      share.fragment_bytes);
  const Way copy = [&](HbmPost* post) {
    return post->Copy(share.direction, share.method, fragments);
  };
  AGENTMEM_ASSIGN_OR_RETURN(const double trial, Timed(copy));
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::uint64_t steps,
      StepsOf(&work, computing,
              std::max(logic_only_ ? 5e6 : kShareNs, kShareCopies * trial)));
  std::uint64_t copied = 0;
  Samples alone, beside, copy_alone;
  double beside_ns = 0;
  for (int round = 0; Another(round); ++round) {
    AGENTMEM_ASSIGN_OR_RETURN(const double alone_ns,
                              Compute(&work, steps, computing, nullptr));
    alone.Add(alone_ns);
    AGENTMEM_ASSIGN_OR_RETURN(const double copy_ns, Timed(copy));
    copy_alone.Add(copy_ns);
    const std::uint64_t seed = seed_++;
    AGENTMEM_RETURN_IF_ERROR(
        to_host ? PrepareOffload(memory, seed)
                : PrepareOnload(memory, seed, share.fragment_bytes));
    AGENTMEM_ASSIGN_OR_RETURN(
        const double ns,
        Compute(&work, steps, computing, [&](HbmPost* post) -> absl::Status {
          // Two under way, so that the link does not rest. Nothing waits: the
          // end of the computing must be seen at once.
          if (post->pending() > 1) {
            AGENTMEM_ASSIGN_OR_RETURN(const bool passed, post->OldestPassed());
            if (!passed) return absl::OkStatus();
            copied += memory.source().size();
          }
          return copy(post);
        }));
    AGENTMEM_RETURN_IF_ERROR(
        to_host ? CheckOffload(memory, seed, share.fragment_bytes)
                : CheckOnload(memory, seed));
    beside.Add(ns);
    beside_ns += ns;
  }
  const double ratio =
      AddTimes(share.name, &beside, "no copies beside", &alone)->Ratio();
  const auto bytes = static_cast<double>(memory.source().size());
  CaseResult rate;
  rate.name = std::string(share.name) + "/copied";
  // Those under way at the end are left out.
  rate.value = static_cast<double>(copied) * 1e3 / beside_ns;
  rate.unit = "MB/s";
  rate.higher_is_better = true;
  rate.baseline = "no kernel beside";
  rate.baseline_value = bytes * 1e3 / copy_alone.Percentile(0.5);
  const double fair = share.method == CopyMethod::kKernel
                          ? kFairOnMultiprocessors
                          : kFairOnLink;
  if (rate.Ratio() >= fair) {
    MeasureBar(share.name, ratio);
  } else if (!logic_only_) {
    result_->notes.push_back(
        std::string("NOT MEASURED: ") + share.name +
        ": beside the kernel less than " +
        (share.method == CopyMethod::kKernel ? "a quarter" : "half") +
        " was copied of what is copied alone");
  }
  result_->cases.push_back(std::move(rate));
  return absl::OkStatus();
}

absl::Status HbmBench::AddShares() {
  for (const Share& share : Shares()) {
    if (share.method == CopyMethod::kKernel &&
        device_->properties().kernel_fragments_max == 0) {
      continue;
    }
    AGENTMEM_RETURN_IF_ERROR(AddShare(share));
    TellSoFar();
  }
  return absl::OkStatus();
}

}  // namespace agentmem::bench
