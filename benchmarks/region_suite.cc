// Agents' memory: faults, resumes, commits, forks.
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <vector>

#include "base/status.h"
#include "benchmarks/page_cache.h"
#include "benchmarks/region_bench.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kFillBytes = 128 * kMiB;  // between two commits

RegionScale ScaleOf(const SuiteOptions& options) {
  if (options.quick) {
    return {128 * kMiB, 8 * kMiB, 64 * kMiB, 64 * kMiB, 1000, 50, 10, 200, 100};
  }
  return {1024 * kMiB, 64 * kMiB, 4096 * kMiB, 1024 * kMiB, 40'000,
          1000,        200,       100'000,     1000};
}

}  // namespace

void FillWords(std::byte* bytes, std::uint64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  auto* const words = reinterpret_cast<std::uint64_t*>(bytes);
  for (std::uint64_t i = 0; i < count / sizeof(*words); ++i) {
    words[i] = random();
  }
}

std::uint64_t PssBytes(const std::string& process) {
  std::ifstream file("/proc/" + process + "/smaps_rollup");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("Pss:", 0) == 0) return std::stoull(line.substr(4)) << 10;
  }
  return 0;
}

CaseResult* RegionBench::Add(const std::string& name, double value,
                             const std::string& unit) {
  CaseResult row;
  row.name = name;
  row.value = value;
  row.unit = unit;
  result_->cases.push_back(std::move(row));
  return &result_->cases.back();
}

CaseResult* RegionBench::Add(const std::string& name, Samples* samples) {
  CaseResult* const row = Add(name, samples->Percentile(0.5), "ns");
  row->p50_ns = row->value;
  row->p99_ns = samples->Percentile(0.99);
  row->p999_ns = samples->Percentile(0.999);
  return row;
}

absl::StatusOr<Client> RegionBench::ConnectTo(const MemdChild& memd) {
  ConnectOptions options;
  options.socket_path = memd.socket_path();
  options.name = "agentmem_bench";
  auto client = Client::Connect(options);
  if (!client) return ToAbsl(client.status());
  return std::move(*client);
}

absl::StatusOr<OpenMemory> RegionBench::Open(Client* client,
                                             const std::string& name,
                                             std::uint64_t bytes, bool write) {
  AgentOptions options;
  options.write = write;
  options.create = write;
  auto agent = client->Agents().Open(name, options);
  if (!agent) return ToAbsl(agent.status());
  RegionOptions wanted;
  wanted.bytes = write ? bytes : 0;
  auto region = agent->OpenRegion("heap", wanted);
  if (!region) return ToAbsl(region.status());
  if (region->data() == nullptr) {
    return FailedPrecondition(
        "regions are not paged here (no userfaultfd): nothing to measure");
  }
  return OpenMemory{std::move(*agent), std::move(*region)};
}

absl::Status RegionBench::MakeFilled(Client* client, const std::string& name,
                                     std::uint64_t bytes) {
  AGENTMEM_ASSIGN_OR_RETURN(OpenMemory memory, Open(client, name, bytes, true));
  for (std::uint64_t at = 0; at < bytes; at += kFillBytes) {
    FillWords(memory.region.data() + at, std::min(kFillBytes, bytes - at), at);
    const auto version = memory.region.Commit();
    if (!version) return ToAbsl(version.status());
  }
  return absl::OkStatus();
}

absl::Status RegionBench::SetUp() {
  AGENTMEM_ASSIGN_OR_RETURN(Client client, Connect());
  AGENTMEM_RETURN_IF_ERROR(MakeFilled(&client, "small", scale_.small));
  AGENTMEM_RETURN_IF_ERROR(MakeFilled(&client, "large", scale_.large));
  return MakeFilled(&client, "whole", scale_.whole);
}

absl::Status RegionBench::Hibernate(Client* client,
                                    const std::string& name) const {
  const auto done = client->Agents().Hibernate(name);
  if (!done) return ToAbsl(done.status());
  DropPageCache(memd_->state_directory());
  return absl::OkStatus();
}

namespace {

struct Group {
  const char* name;
  bool reads;  // what SetUp wrote
  absl::Status (RegionBench::*add)();
};

constexpr Group kGroups[] = {
    {"fault", true, &RegionBench::AddFaults},
    {"resume_first_page", true, &RegionBench::AddResumes},
    {"resume_all", true, &RegionBench::AddResumeAll},
    {"commit", true, &RegionBench::AddCommits},
    {"append", false, &RegionBench::AddAppends},
    {"fork", true, &RegionBench::AddForks},
    {"write_barrier", false, &RegionBench::AddWriteBarrier},
    {"watch", false, &RegionBench::AddWatch},
    {"paging", false, &RegionBench::AddPaging},
    {"idle_agents", false, &RegionBench::AddIdleAgents},
    {"wake_storm", false, &RegionBench::AddWakeStorm},
};

}  // namespace

absl::StatusOr<SuiteResult> RunRegionSuite(const SuiteOptions& options) {
  SuiteResult result;
  result.suite = "region";
  result.machine = DescribeMachine();
  const RegionScale scale = ScaleOf(options);
  MemdOptions daemon;
  daemon.program = options.memd;
  daemon.dram_bytes = scale.dram;
  AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<MemdChild> memd,
                            MemdChild::Start(daemon));
  RegionBench bench(scale, daemon, memd.get(), &result);
  bool set_up = false;
  for (const Group& group : kGroups) {
    if (std::string_view(group.name).find(options.only) ==
        std::string_view::npos) {
      continue;
    }
    if (group.reads && !set_up) {
      AGENTMEM_RETURN_IF_ERROR(bench.SetUp());
      set_up = true;
    }
    AGENTMEM_RETURN_IF_ERROR((bench.*group.add)());
  }
  return result;
}

}  // namespace agentmem::bench
