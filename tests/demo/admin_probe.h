// Asks memd for its numbers, as an administrator would: by running memctl.
//
// Ownership: none. Threads: thread-compatible. Errors: UNAVAILABLE when memctl
// fails or takes longer than a few seconds; its words are in the message. Cost:
// starts a process: tens of milliseconds.
#ifndef AGENTMEM_TESTS_DEMO_ADMIN_PROBE_H_
#define AGENTMEM_TESTS_DEMO_ADMIN_PROBE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace agentmem::demo {

// The demo's tenant at one moment.
struct TenantSample {
  std::uint64_t dram_bytes = 0;
  std::uint64_t store_bytes = 0;
  std::uint64_t dram_evictions = 0;
  std::uint64_t hbm_hits = 0;
  std::uint64_t pool_hits = 0;
  std::uint64_t store_reads = 0;
  std::uint64_t store_writes = 0;
  std::uint64_t clients = 0;
  std::uint64_t granted_bytes = 0;
  std::uint64_t pinned_bytes = 0;
  std::uint64_t held_bytes = 0;
  std::uint64_t limbo_bytes = 0;
  std::uint64_t puts_failed = 0;
  std::uint64_t corrupt_blocks = 0;

  // Does memd hold nothing for any client?
  bool Quiet() const {
    return clients == 0 && granted_bytes == 0 && pinned_bytes == 0 &&
           held_bytes == 0 && limbo_bytes == 0;
  }
};

// Blocks in HBM at one moment, as processes have told memd.
struct HbmSample {
  struct Process {
    std::int64_t pid = 0;
    std::uint64_t budget_bytes = 0;
    std::uint64_t allocated_bytes = 0;
  };
  struct Agent {
    std::string name;
    std::uint64_t bytes = 0;
    std::string wish;      // memd's last: "empty", "bring_back", ""
    bool is_open = false;  // it is not done yet
    bool is_late = false;  // it was not by its deadline
    std::uint64_t took_ns = 0;
  };

  // In the process that has it; an agent without bytes if none has.
  Agent Of(const std::string& name) const;

  std::vector<Process> processes;
  std::vector<Agent> agents;
};

// Of `memctl -o json hbm` and `memctl -o json hbm --agents`.
absl::StatusOr<HbmSample> ParseHbm(const std::string& processes,
                                   const std::string& agents);
// Of `memctl -o json tenants`.
absl::StatusOr<TenantSample> ParseTenants(const std::string& json);
// Of `memctl -o json clients`.
absl::StatusOr<std::vector<std::int64_t>> ParseClientPids(
    const std::string& json);

class AdminProbe {
 public:
  AdminProbe(std::string memctl, std::string socket_path)
      : memctl_(std::move(memctl)), socket_path_(std::move(socket_path)) {}

  absl::StatusOr<TenantSample> Sample() const;
  absl::StatusOr<std::vector<std::int64_t>> ClientPids() const;
  absl::StatusOr<HbmSample> Hbm() const;

 private:
  absl::StatusOr<std::string> Run(const std::vector<std::string>& words) const;

  const std::string memctl_;
  const std::string socket_path_;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_ADMIN_PROBE_H_
