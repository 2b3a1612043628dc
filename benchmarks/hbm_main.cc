// hbm_bench: the suite `hbm` as a program of its own, which a machine with a
// GPU runs without anything but its driver (./dev gpu-bundle).
#include <cstdio>
#include <cstring>
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
    "Usage: hbm_bench [--quick] [--only GROUP] [--output FILE.json]\n"
    "       hbm_bench --which   the GPU's name; 77 and the reason if none\n"
    "       hbm_bench --host    where there is no GPU, by the host device\n";

// 0: there is one.
int Which(bool say) {
  std::unique_ptr<Device> gpu;
  const Outcome opened = OpenDevice(0, &gpu);
  if (!opened.ok()) {
    std::printf("SKIPPED: %s\n", opened.message.c_str());
    return kSkipped;
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

int Run(const SuiteOptions& options, const std::string& output) {
  // A machine that is lent may be taken back before the suite has ended.
  SuiteOptions telling = options;
  telling.so_far = [&output](const SuiteResult& result) {
    (void)WriteFile(output, Json(result));  // Publish says what is wrong
  };
  const auto result = RunHbmSuite(telling);
  absl::Status done = result.status();
  if (done.ok()) done = Publish(*result, output);
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
    } else {
      std::fprintf(stderr, "%s", kUsage);
      return 2;
    }
  }
  if (!host) {
    if (const int none = Which(false); none != 0) return none;
  }
  return Run(options, output);
}
