// KV blocks between GPU memory and host memory, at the level of cuda/device.h.
#include <algorithm>
#include <bit>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "benchmarks/hbm_bench.h"
#include "benchmarks/pool_seed.h"
#include "benchmarks/suites.h"
#include "cuda/host_device.h"
#include "cuda/open_device.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kCopyBytesMin = 8 * kMiB;
constexpr std::uint64_t kCopyBytesMax = 4096 * kMiB;

absl::StatusOr<HbmScale> ScaleOf(const SuiteOptions& options, bool gpu) {
  HbmScale scale = options.quick ? HbmScale{16 * kMiB, 16 * kMiB, 2, 100}
                   : gpu         ? HbmScale{1024 * kMiB, 2048 * kMiB, 5, 5000}
                                 : HbmScale{64 * kMiB, 64 * kMiB, 5, 5000};
  if (options.copy_bytes == 0) return scale;
  if (options.copy_bytes < kCopyBytesMin ||
      options.copy_bytes > kCopyBytesMax) {
    return InvalidArgument("--copy-mib is " +
                           std::to_string(options.copy_bytes / kMiB) +
                           ", allowed are 8 to 4096");
  }
  scale.bytes = std::bit_floor(options.copy_bytes);
  scale.layer_bytes = std::min(scale.layer_bytes, 2 * scale.bytes);
  return scale;
}

struct Group {
  const char* name;
  // What was measured before it is told all the same.
  bool may_fail;
  absl::Status (HbmBench::*add)();
};

constexpr Group kGroups[] = {
    {"offload onload", false, &HbmBench::AddCopies},
    {"bidirectional", false, &HbmBench::AddBidirectional},
    {"fp8_offload fp8_onload", true, &HbmBench::AddFp8},
    {"layerwise_load", false, &HbmBench::AddLayerwiseLoad},
    {"layerwise_load end_to_end", true, &HbmBench::AddLayerwiseCompute},
    {"sm_share", true, &HbmBench::AddShares},
};

bool Wanted(const SuiteOptions& options, std::string_view group) {
  return group.find(options.only) != std::string_view::npos;
}

}  // namespace

absl::StatusOr<SuiteResult> RunHbmSuite(const SuiteOptions& options) {
  SuiteResult result;
  result.suite = "hbm";
  result.machine = DescribeMachine();
  std::unique_ptr<Device> gpu;
  const Outcome opened = OpenDevice(0, &gpu);
  AGENTMEM_ASSIGN_OR_RETURN(const HbmScale scale,
                            ScaleOf(options, opened.ok()));
  HostDevice::Options host_options;
  host_options.memory_bytes = 2 * kCopyBytesMax + 64 * kMiB;
  HostDevice host(std::move(host_options));
  Device* const device = opened.ok() ? gpu.get() : &host;
  result.device = device->properties().name;
  const std::uint64_t seed = FreshSeed(&result);
  if (!opened.ok()) {
    result.notes.push_back("no GPU was used: " + opened.message);
    result.notes.push_back(
        "logic only: copies are the host device's, by one thread; their rates "
        "and ratios say nothing, and no bar but submit_overhead's is met or "
        "missed");
  }
  HbmBench bench(device, !opened.ok(), scale, seed, &result);
  if (Wanted(options, "submit_overhead")) {
    AGENTMEM_RETURN_IF_ERROR(bench.AddSubmitOverhead(&host, "host"));
    if (opened.ok()) {
      AGENTMEM_RETURN_IF_ERROR(bench.AddSubmitOverhead(gpu.get(), "gpu"));
    }
    result.notes.push_back(
        "submit_overhead: CPU time of the posting thread, a fragment: split "
        "by size, two posts, their events; batches of 64 and 1024. The bar is "
        "for the host device");
  }
  bool set_up = false;
  for (const Group& group : kGroups) {
    if (!Wanted(options, group.name)) continue;
    if (!set_up) AGENTMEM_RETURN_IF_ERROR(bench.SetUp());
    set_up = true;
    const absl::Status added = (bench.*group.add)();
    if (added.ok()) {
      if (options.so_far) options.so_far(result);
      continue;
    }
    const std::string why =
        std::string(group.name) + ": " + StatusMessage(added);
    // What others have shown is told all the same.
    if (!group.may_fail || added.code() == absl::StatusCode::kDataLoss) {
      if (result.failure.empty()) result.failure = why;
      result.notes.push_back("FAILED: " + why);
    } else {
      result.notes.push_back("NOT MEASURED: " + why);
    }
    if (options.so_far) options.so_far(result);
    if (added.code() == absl::StatusCode::kUnavailable) break;  // it was lost
  }
  return result;
}

}  // namespace agentmem::bench
