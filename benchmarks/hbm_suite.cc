// KV blocks between GPU memory and host memory, at the level of cuda/device.h.
#include <algorithm>
#include <bit>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "benchmarks/hbm_bench.h"
#include "benchmarks/hbm_groups.h"
#include "benchmarks/hbm_post.h"
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
  scale.begin = MonotonicNowNs();
  scale.budget_ns = static_cast<DurationNs>(options.seconds) * kSecondNs;
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

// Those that need the memory of SetUp.
std::vector<HbmGroup> DeviceGroups(HbmBench* bench) {
  const auto of = [bench](absl::Status (HbmBench::*add)()) {
    return [bench, add]() -> absl::Status {
      AGENTMEM_RETURN_IF_ERROR(bench->SetUp());
      return (bench->*add)();
    };
  };
  return {
      {"offload onload", false, HbmBench::CopyBars(), of(&HbmBench::AddCopies),
       HbmBench::CopyCases()},
      {"bidirectional", false, HbmBench::BidirectionalBars(),
       of(&HbmBench::AddBidirectional)},
      {"fp8_offload fp8_onload", true, HbmBench::Fp8Bars(),
       of(&HbmBench::AddFp8)},
      {"layerwise_load", false, HbmBench::LayerBars(),
       of(&HbmBench::AddLayerwiseLoad)},
      {"layerwise_load end_to_end", true, HbmBench::LayerComputeBars(),
       of(&HbmBench::AddLayerwiseCompute)},
      {"sm_share", true, HbmBench::ShareBars(), of(&HbmBench::AddShares),
       HbmBench::ShareBars().size()},
      // Last: it needs most beside the device.
      {"kv_store kv_load", false, HbmBench::KvBars(), of(&HbmBench::AddKv),
       HbmBench::KvCases()},
  };
}

HbmGroup SubmitGroup(HbmBench* bench, Device* device, const char* name,
                     std::vector<Bar> bars) {
  return {"submit_overhead", false, std::move(bars),
          [=] { return bench->AddSubmitOverhead(device, name); }, 0};
}

void AddNotes(const SuiteOptions& options, const Outcome& opened,
              SuiteResult* result) {
  if (!opened.ok()) {
    result->notes.push_back("no GPU was used: " + opened.message);
    result->notes.push_back(
        "logic only: copies are the host device's, by one thread; their rates "
        "and ratios say nothing, and no bar but submit_overhead's is met or "
        "missed");
  }
  if (std::string_view("kv_store kv_load").find(options.only) !=
      std::string_view::npos) {
    result->notes.push_back(
        "kv_store, kv_load: agentmem_kv_store and agentmem_kv_load until all "
        "is acknowledged; blocks of 2 MiB (of 4 MiB in fragments of 2 MiB) in "
        "a shared memfd, and for a memd a thread in this process");
  }
  if (std::string_view("submit_overhead").find(options.only) !=
      std::string_view::npos) {
    result->notes.push_back(
        "submit_overhead: CPU time of the posting thread, a fragment: split "
        "by size, two posts, their events; batches of 64 and 1024. The bar is "
        "for the host device, in nanoseconds");
  }
}

}  // namespace

absl::StatusOr<SuiteResult> RunHbmSuite(const SuiteOptions& options) {
  SuiteResult result;
  result.suite = "hbm";
  result.machine = DescribeMachine();
  std::unique_ptr<Device> gpu;
  const Outcome opened = OpenDevice(0, &gpu);
  if (!opened.ok() && options.needs_gpu) return ToAbsl(opened);
  AGENTMEM_ASSIGN_OR_RETURN(const HbmScale scale,
                            ScaleOf(options, opened.ok()));
  HostDevice::Options host_options;
  host_options.memory_bytes = 2 * kCopyBytesMax + 64 * kMiB;
  HostDevice host(std::move(host_options));
  Device* const device = opened.ok() ? gpu.get() : &host;
  result.device = device->properties().name;
  const std::uint64_t seed = FreshSeed(&result);
  AddNotes(options, opened, &result);
  // Not taken down when the device does not end what it has begun: that waits.
  auto bench =
      std::make_unique<HbmBench>(device, !opened.ok(), scale, seed, &result);
  std::vector<HbmGroup> groups = {
      SubmitGroup(bench.get(), &host, "host", HbmBench::SubmitBars())};
  if (opened.ok()) {
    groups.push_back(SubmitGroup(bench.get(), gpu.get(), "gpu", {}));
  }
  for (HbmGroup& group : DeviceGroups(bench.get())) {
    groups.push_back(std::move(group));
  }
  bench->Expect(CasesOf(options, groups), [&options, &result] {
    if (options.so_far) options.so_far(result);
  });
  const auto is_lost = [device] { return IsLost(device); };
  if (!RunHbmGroups(options, groups, is_lost, &result)) {
    (void)bench.release();
    (void)gpu.release();
  }
  // Of the host device they say nothing.
  if (!opened.ok()) {
    std::erase_if(result.bars,
                  [](const Bar& bar) { return !bar.measured.has_value(); });
  }
  return result;
}

}  // namespace agentmem::bench
