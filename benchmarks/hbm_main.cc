// hbm_bench: the suite `hbm` as a program of its own, which a machine with a
// GPU runs without anything but its driver (./dev gpu-bundle).
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/status.h"
#include "benchmarks/report.h"
#include "benchmarks/suites.h"
#include "cuda/open_device.h"

namespace agentmem::bench {
namespace {

constexpr int kSkipped = 77;  // what test drivers take for "was skipped"
constexpr char kUsage[] =
    R"(Usage: hbm_bench [--quick] [--only GROUP] [--seconds N] [--host]
                 [--output FILE.json] [--bars FILE]
       hbm_bench --which
  --which    the GPU's name; 77 and the reason where there is no driver or no
             GPU; 1 and the reason if there is one that does not open
  --seconds  fewer rounds where all of them would take longer
  --host     without a GPU, by the host device
  --bars     how many bars were met, and which were not
)";

// Of one that does not open nobody may think that it was not there.
bool IsThereAGpu() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return false;
  int gpus = 0;
  const cudaError_t counted = cudaGetDeviceCount(&gpus);
  return counted == cudaSuccess ? gpus > 0 : counted != cudaErrorNoDevice;
}

// 0: there is one, and it opens.
int Which(bool say) {
  const bool is_there = IsThereAGpu();
  std::unique_ptr<Device> gpu;
  const Outcome opened = OpenDevice(0, &gpu);
  if (!opened.ok()) {
    std::printf("%s: %s\n", is_there ? "FAILED" : "SKIPPED",
                opened.message.c_str());
    return is_there ? 1 : kSkipped;
  }
  const DeviceProperties& of_gpu = gpu->properties();
  if (say) {
    std::printf("%s, sm_%u%u, %u multiprocessors, %llu MiB\n",
                of_gpu.name.c_str(), of_gpu.compute_major, of_gpu.compute_minor,
                of_gpu.multiprocessors,
                static_cast<unsigned long long>(of_gpu.memory_bytes >> 20));
  }
  return 0;
}

int Run(const SuiteOptions& options, const std::string& output,
        const std::string& bars) {
  const auto tell_bars = [&bars](const SuiteResult& result) {
    return bars.empty() ? absl::OkStatus()
                        : WriteFile(bars, BarsJson(result.bars));
  };
  // A machine that is lent may be taken back before the suite has ended.
  SuiteOptions telling = options;
  telling.so_far = [&](const SuiteResult& result) {
    // Errors are told at the end.
    (void)WriteFile(output, Json(result));
    (void)tell_bars(result);
  };
  const auto result = RunHbmSuite(telling);
  absl::Status done = result.status();
  if (done.ok()) done = Publish(*result, output);
  if (done.ok()) done = tell_bars(*result);
  if (done.ok() && !result->failure.empty()) done = Internal(result->failure);
  if (done.ok()) return 0;
  std::fprintf(stderr, "hbm_bench: %s\n", StatusMessage(done).c_str());
  return 1;
}

}  // namespace
}  // namespace agentmem::bench

int main(int argc, char** argv) {
  using namespace agentmem::bench;  // NOLINT(build/namespaces)
  SuiteOptions options;
  std::string output = "hbm.json";
  std::string bars;
  bool host = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool more = i + 1 < argc;
    if (argument == "--which") return Which(true);
    if (argument == "--quick") {
      options.quick = true;
    } else if (argument == "--host") {
      host = true;
    } else if (argument == "--only" && more) {
      options.only = argv[++i];
    } else if (argument == "--output" && more) {
      output = argv[++i];
    } else if (argument == "--seconds" && more) {
      options.seconds = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--bars" && more) {
      bars = argv[++i];
    } else {
      std::fprintf(stderr, "%s", kUsage);
      return 2;
    }
  }
  if (!host) {
    if (const int none = Which(false); none != 0) return none;
  }
  options.needs_gpu = !host;
  return Run(options, output, bars);
}
