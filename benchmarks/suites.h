// The suites, each a function from options to a table.
//
// Ownership: none. Threads: one. Errors: what could not be set up or measured.
// Cost: `block` at most 1.5 minutes, `tiers` 5, `store` 1, `region` 5, `pool`
// 4, `hbm` 4; quick: seconds, smaller sets.
#ifndef AGENTMEM_BENCHMARKS_SUITES_H_
#define AGENTMEM_BENCHMARKS_SUITES_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/case_result.h"

namespace agentmem::bench {

struct SuiteOptions {
  std::string memd;  // the program
  bool quick = false;
  // Suites `region`, `pool`, `hbm`: the groups whose names contain this.
  std::string only;
  // Suite `hbm`: of a copy; 0: as the device is. A power of two is taken of it.
  std::uint64_t copy_bytes = 0;
  // Suite `hbm`: cases have fewer rounds where all would take longer. 0: no
  // limit.
  std::uint64_t seconds = 0;
  // Suite `hbm`: a GPU that does not open is a failure, not the host device's
  // turn.
  bool needs_gpu = false;
  // Suite `hbm`: what there is after each case, for those who may be ended
  // before the suite does. May be empty.
  std::function<void(const SuiteResult&)> so_far = {};
};

// Blocks in DRAM: hits, lookups, prefix matches.
absl::StatusOr<SuiteResult> RunBlockSuite(const SuiteOptions& options);
// Put and get by tier and size.
absl::StatusOr<SuiteResult> RunTiersSuite(const SuiteOptions& options);
// The durable store without a daemon, beside the bare disk.
absl::StatusOr<SuiteResult> RunStoreSuite(const SuiteOptions& options);
// Agents' memory: faults, resumes, commits, forks.
absl::StatusOr<SuiteResult> RunRegionSuite(const SuiteOptions& options);
// Other nodes' memory: gets and puts beside the bare fabric.
absl::StatusOr<SuiteResult> RunPoolSuite(const SuiteOptions& options);
// KV blocks between GPU memory and host memory; no daemon.
absl::StatusOr<SuiteResult> RunHbmSuite(const SuiteOptions& options);
// The same, and then what comes into GPU memory from other nodes' memory and
// from the store, by daemons of its own.
absl::StatusOr<SuiteResult> RunHbmAndToHbmSuite(const SuiteOptions& options);
// That part of it: adds cases and notes; a case that fails is a failure of the
// result, which keeps what others have shown.
void AddToHbmCases(const SuiteOptions& options, SuiteResult* result);
// The part of RunPoolSuite that is of agents: adds cases and notes.
absl::Status AddAttachCases(const SuiteOptions& options, std::uint64_t seed,
                            SuiteResult* result);
// The parts of RunTiersSuite: they add cases and notes.
absl::Status AddDeviceCases(const SuiteOptions& options, SuiteResult* result);
absl::Status AddDramCases(const SuiteOptions& options, SuiteResult* result);
absl::Status AddPoolCases(const SuiteOptions& options, SuiteResult* result);
absl::Status AddStoreCases(const SuiteOptions& options, SuiteResult* result);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_SUITES_H_
