// Suite `region`: what versions and forks take of the store, in a memd of their
// own. Measured from outside, after memd was ended and has started again: then
// nothing stands in a log and in a table.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "benchmarks/region_bench.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kAppends = 200;
constexpr std::uint64_t kAppend = 2 << 10;
constexpr std::uint64_t kKept = 10;
constexpr std::uint64_t kCollectMs = 20;

// What was written of a file: what was only reserved is a hole.
std::uint64_t DataBytes(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::uint64_t bytes = 0;
  off_t at = 0;
  while (file.valid() && (at = ::lseek(file.get(), at, SEEK_DATA)) >= 0) {
    const off_t end = ::lseek(file.get(), at, SEEK_HOLE);
    if (end <= at) break;
    bytes += static_cast<std::uint64_t>(end - at);
    at = end;
  }
  return bytes;
}

// Without what RocksDB says about itself.
std::uint64_t StoreBytes(const std::string& directory) {
  std::uint64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator entry(directory, error),
       end;
       entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (!entry->is_regular_file(error) || name.rfind("LOG", 0) == 0 ||
        name.rfind("OPTIONS", 0) == 0 || name.rfind("MANIFEST", 0) == 0) {
      continue;
    }
    bytes += DataBytes(entry->path());
  }
  return bytes;
}

}  // namespace

absl::Status RegionBench::Append(const MemdChild& memd, std::uint64_t kept) {
  AGENTMEM_ASSIGN_OR_RETURN(Client client, ConnectTo(memd));
  AGENTMEM_ASSIGN_OR_RETURN(OpenMemory memory,
                            Open(&client, "log", kMiB, true));
  if (kept != 0) {
    const Status retained = client.Agents().RetainLast("log", kept);
    if (!retained) return ToAbsl(retained);
  }
  for (std::uint64_t i = 0; i < kAppends; ++i) {
    FillWords(memory.region.data() + i * kAppend, kAppend, i);
    const auto version = memory.region.Commit();
    if (!version) return ToAbsl(version.status());
  }
  return absl::OkStatus();
}

// The last `kept` versions are there, each with what was appended.
absl::Status RegionBench::CheckAppends(const MemdChild& memd,
                                       std::uint64_t kept) {
  AGENTMEM_ASSIGN_OR_RETURN(Client client, ConnectTo(memd));
  auto agent = client.Agents().Open("log");
  if (!agent) return ToAbsl(agent.status());
  std::vector<std::byte> expected(kAppend);
  for (std::uint64_t i = kAppends - kept; i < kAppends; ++i) {
    RegionOptions options;
    options.version = i + 1;
    auto version = agent->OpenRegion("heap", options);
    if (!version) return ToAbsl(version.status());
    for (std::uint64_t j = 0; j <= i; ++j) {
      FillWords(expected.data(), kAppend, j);
      if (std::memcmp(version->data() + j * kAppend, expected.data(),
                      kAppend) != 0) {
        return DataLoss("version " + std::to_string(i + 1) +
                        " does not have append " + std::to_string(j));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status RegionBench::AddAppends() {
  for (const std::uint64_t kept : {kAppends, kKept}) {
    MemdOptions daemon = daemon_;
    daemon.dram_bytes = 64 * kMiB;
    daemon.collect_ms = kCollectMs;
    AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<MemdChild> memd,
                              MemdChild::Start(daemon));
    AGENTMEM_RETURN_IF_ERROR(memd->Restart());
    const std::uint64_t before = StoreBytes(memd->state_directory());
    AGENTMEM_RETURN_IF_ERROR(Append(*memd, kept == kAppends ? 0 : kept));
    // (It takes rounds of collection, all the while.)
    AGENTMEM_RETURN_IF_ERROR(CheckAppends(*memd, kept));
    AGENTMEM_RETURN_IF_ERROR(memd->Restart());
    const std::uint64_t after = StoreBytes(memd->state_directory());
    AGENTMEM_RETURN_IF_ERROR(CheckAppends(*memd, kept));
    CaseResult* const row =
        Add(kept == kAppends ? "append_200x2k" : "append_200x2k/last 10",
            static_cast<double>(after - std::min(before, after)), "bytes");
    row->baseline = "the final state";
    row->baseline_value = static_cast<double>(kAppends * kAppend);
  }
  result_->notes.push_back(
      "append_200x2k: at most 4 x with all versions, 2 x with the last 10");
  return absl::OkStatus();
}

absl::Status RegionBench::AddForkBytes() {
  constexpr std::uint64_t kForks = 1000;
  MemdOptions daemon = daemon_;
  daemon.dram_bytes = 64 * kMiB;
  AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<MemdChild> memd,
                            MemdChild::Start(daemon));
  {
    AGENTMEM_ASSIGN_OR_RETURN(Client client, ConnectTo(*memd));
    AGENTMEM_RETURN_IF_ERROR(MakeFilled(&client, "whole", scale_.small));
  }
  AGENTMEM_RETURN_IF_ERROR(memd->Restart());
  const std::uint64_t before = StoreBytes(memd->state_directory());
  {
    AGENTMEM_ASSIGN_OR_RETURN(Client client, ConnectTo(*memd));
    for (std::uint64_t i = 0; i < kForks; ++i) {
      const Status forked =
          client.Agents().Fork("whole", "fork-" + std::to_string(i));
      if (!forked) return ToAbsl(forked);
    }
  }
  AGENTMEM_RETURN_IF_ERROR(memd->Restart());
  const std::uint64_t after = StoreBytes(memd->state_directory());
  Add("fork_bytes",
      static_cast<double>(after > before ? after - before : 0) / kForks,
      "bytes");
  result_->notes.push_back("fork_bytes: under 4 KiB");
  return absl::OkStatus();
}

}  // namespace agentmem::bench
