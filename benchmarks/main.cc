// agentmem_bench SUITE: measures, prints a table, writes it down.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string>

#include "base/status.h"
#include "benchmarks/raw_fabric.h"
#include "benchmarks/report.h"
#include "benchmarks/suites.h"

namespace agentmem::bench {
namespace {

struct Suite {
  const char* name;
  const char* what;
  absl::StatusOr<SuiteResult> (*run)(const SuiteOptions&);
};

constexpr Suite kSuites[] = {
    {"block", "hits, lookups and prefix matches in DRAM", RunBlockSuite},
    {"tiers", "put and get by tier and size, beside memcpy and RocksDB",
     RunTiersSuite},
    {"store", "the durable store alone, beside the bare disk", RunStoreSuite},
    {"region", "agents' memory: faults, resumes, commits, forks",
     RunRegionSuite},
    {"pool", "other nodes' memory, beside the bare fabric", RunPoolSuite},
    {"hbm", "GPU memory and host memory, beside pinned copies",
     RunHbmAndToHbmSuite},
};

std::string ProgramDirectory() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return self.parent_path().string();
}

void PrintSuites() {
  std::printf("Suites:\n");
  for (const Suite& suite : kSuites) {
    std::printf("  %-8s %s\n", suite.name, suite.what);
  }
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "agentmem_bench: %s\n", StatusMessage(status).c_str());
  return 1;
}

int Run(const Suite& suite, const SuiteOptions& options,
        const std::string& output) {
  SuiteOptions telling = options;
  telling.so_far = [&output](const SuiteResult& so_far) {
    (void)WriteFile(output, Json(so_far));  // Publish says what is wrong
  };
  const auto result = suite.run(telling);
  if (!result.ok()) return Fail(result.status());
  const absl::Status published = Publish(*result, output);
  if (!published.ok()) return Fail(published);
  if (!result->failure.empty()) return Fail(Internal(result->failure));
  return 0;
}

}  // namespace
}  // namespace agentmem::bench

int main(int argc, char** argv) {
  using namespace agentmem::bench;  // NOLINT(build/namespaces)
  CLI::App app{"agentmem_bench: measures against a memd of its own"};
  std::string name;
  std::string output;
  SuiteOptions options;
  options.memd = ProgramDirectory() + "/memd";
  app.add_option("suite", name, "which; without it: a list");
  app.add_option("--output", output,
                 "JSON; the table for README.md beside it (default: "
                 "build/bench/SUITE.json)");
  app.add_option("--memd", options.memd, "the daemon's program");
  app.add_flag("--quick", options.quick,
               "small sets, in seconds: does it run? The numbers mean little");
  app.add_option("--only", options.only,
                 "of suites `region`, `pool` and `hbm`: only groups of cases "
                 "whose name has this");
  std::uint64_t copy_mib = 0;
  app.add_option("--copy-mib", copy_mib,
                 "of suite `hbm`: how much a case copies (default: 1024; 64 "
                 "where there is no GPU)");
  std::string role;  // not for people: what this program starts itself as
  app.add_option(kRawFabricOption, role)->group("");
  CLI11_PARSE(app, argc, argv);
  if (!role.empty()) return RunRawFabricProcess(role);
  options.copy_bytes = copy_mib << 20;
  if (name.empty()) {
    PrintSuites();
    return 0;
  }
  if (access(options.memd.c_str(), X_OK) != 0) {
    std::fprintf(stderr, "agentmem_bench: no program %s; name it by --memd\n",
                 options.memd.c_str());
    return 2;
  }
  for (const Suite& suite : kSuites) {
    if (name != suite.name) continue;
    if (output.empty()) output = "build/bench/" + name + ".json";
    return Run(suite, options, output);
  }
  std::fprintf(stderr, "agentmem_bench: no suite '%s'\n", name.c_str());
  PrintSuites();
  return 2;
}
