// What the cases of the suite `region` share: agents' memory through the
// public library, in a memd of the benchmark's own.
//
// Ownership: borrows the daemon and the result. Threads: thread-compatible.
// Errors: the library's, as statuses. Cost: see each.
#ifndef AGENTMEM_BENCHMARKS_REGION_BENCH_H_
#define AGENTMEM_BENCHMARKS_REGION_BENCH_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agentmem/agentmem.hpp"
#include "benchmarks/case_result.h"
#include "benchmarks/memd_child.h"
#include "benchmarks/samples.h"
#include "benchmarks/stopwatch.h"
#include "benchmarks/suites.h"

namespace agentmem::bench {

inline constexpr std::uint64_t kRegionPage = 64 << 10;
inline constexpr std::uint64_t kMiB = 1 << 20;

struct RegionScale {
  std::uint64_t dram;   // memd's
  std::uint64_t small;  // of two regions that are to cost the same
  std::uint64_t large;
  std::uint64_t whole;  // of the region that is read from end to end
  std::uint64_t paged;  // pages written and read at random, each
  int samples;          // of what is fast
  int resumes;
  int agents;  // hibernated ones
  int storm;   // of them, woken at once
};

// An agent that is open, with its one region.
struct OpenMemory {
  Agent agent;
  Region region;
};

class RegionBench {
 public:
  // `daemon`: how others of it are started.
  RegionBench(const RegionScale& scale, const MemdOptions& daemon,
              MemdChild* memd, SuiteResult* result)
      : scale_(scale), daemon_(daemon), memd_(memd), result_(result) {}

  // Regions that later cases read: filled and committed.
  absl::Status SetUp();
  absl::Status AddFaults();
  absl::Status AddResumes();
  absl::Status AddResumeAll();
  absl::Status AddCommits();
  absl::Status AddAppends();
  absl::Status AddForks();
  absl::Status AddWriteBarrier();
  absl::Status AddWatch();
  absl::Status AddPaging();
  absl::Status AddIdleAgents();
  absl::Status AddWakeStorm();

 private:
  static absl::StatusOr<Client> ConnectTo(const MemdChild& memd);
  absl::StatusOr<Client> Connect() const { return ConnectTo(*memd_); }
  static absl::StatusOr<OpenMemory> Open(Client* client,
                                         const std::string& name,
                                         std::uint64_t bytes, bool write);
  absl::Status MakeFilled(Client* client, const std::string& name,
                          std::uint64_t bytes);
  absl::Status FirstPages(const std::string& name, std::uint64_t bytes,
                          Samples* samples);
  // All of agent `name` is in the store alone, and not in the page cache.
  absl::Status Hibernate(Client* client, const std::string& name) const;
  static absl::Status Append(const MemdChild& memd, std::uint64_t kept);
  static absl::Status CheckAppends(const MemdChild& memd, std::uint64_t kept);
  absl::Status AddForkBytes();
  absl::Status AddWorkingSet(double whole_ns);
  absl::Status MakeAgents(Client* client, int count);
  static absl::StatusOr<double> Wake(Client* client, int agent);
  absl::StatusOr<std::vector<double>> WakeTogether(int from, int count) const;
  static absl::Status CommitOnePage(OpenMemory* memory, std::uint64_t at,
                                    std::uint64_t seed, Samples* samples);
  // A case without single operations.
  CaseResult* Add(const std::string& name, double value,
                  const std::string& unit);
  // A case of single operations: its value is their median.
  CaseResult* Add(const std::string& name, Samples* samples);

  const RegionScale scale_;
  const MemdOptions daemon_;
  MemdChild* const memd_;
  SuiteResult* const result_;
  const Stopwatch stopwatch_;
  int agents_made_ = 0;
};

inline absl::Status ToAbsl(const Status& status) {
  if (status) return absl::OkStatus();
  return MakeStatus(static_cast<absl::StatusCode>(status.code()),
                    status.message());
}

// Words that differ from page to page and say nothing to a compressor.
void FillWords(std::byte* bytes, std::uint64_t count, std::uint64_t seed);
// The process's share of the memory it has mapped ("self" for this one).
std::uint64_t PssBytes(const std::string& process);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_REGION_BENCH_H_
