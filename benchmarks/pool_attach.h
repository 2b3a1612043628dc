// An agent whose node has died, opened on another one: suite `pool`.
//
// Four roles: `away` dies while a process holds its region, `here` lends
// nothing, so that all that is read on it comes over the wire, from `there`;
// and etcd says who is a member, and who may write.
//
// Ownership: owns daemons, borrows the result. Threads: thread-compatible.
// Errors: what could not be set up; DATA_LOSS for wrong bytes. What a late
// commit is answered is told in the result. Cost: seconds.
#ifndef AGENTMEM_BENCHMARKS_POOL_ATTACH_H_
#define AGENTMEM_BENCHMARKS_POOL_ATTACH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agentmem/agentmem.hpp"
#include "base/clock.h"
#include "benchmarks/case_result.h"
#include "benchmarks/etcd_child.h"
#include "benchmarks/pool_cluster.h"
#include "benchmarks/samples.h"
#include "benchmarks/suites.h"

namespace agentmem::bench {

class PoolAttach {
 public:
  PoolAttach(const SuiteOptions& options, std::uint64_t seed,
             SuiteResult* result);

  absl::Status Add();

 private:
  struct Memory {
    Agent agent;
    Region region;
  };

  absl::Status Start();
  absl::StatusOr<Client> Connect(std::size_t node) const;
  // `bytes`: of a region that is made.
  absl::StatusOr<Memory> Open(Client* client, std::uint64_t bytes,
                              bool write) const;
  // The agent's region on `away`: committed, and once more written to.
  absl::StatusOr<Memory> Write(Client* client) const;
  // Nanoseconds from `since` until `away` is no member any more.
  absl::StatusOr<double> AwaitLeave(TimeNs since) const;
  absl::StatusOr<Memory> TakeOver(Client* client) const;
  absl::Status ReadFirstPages(Client* client);
  absl::Status CommitHere(Memory* memory) const;
  absl::StatusOr<Memory> CommitElsewhere(Client* here, TimeNs since) const;
  absl::Status CommitLate(Memory* held);
  // An agent whose node stands still until another one has its agent.
  absl::Status AddStandstill(Client* here);
  absl::Status CheckNewest(Client* client) const;
  // Of page `index`, as it is in version `version`.
  void Fill(std::size_t index, std::uint64_t version, std::byte* bytes) const;
  absl::Status Matches(const std::byte* region, std::size_t index,
                       std::uint64_t version) const;
  void AddRow(const std::string& part, double ns);
  void Bar(bool holds, const std::string& text);

  const SuiteOptions options_;
  const std::uint64_t seed_;
  const std::uint64_t region_bytes_;
  SuiteResult* const result_;
  std::string agent_ = "worker";
  std::vector<std::uint64_t> pages_;  // offsets of those that are written
  std::unique_ptr<EtcdChild> etcd_;
  std::unique_ptr<PoolCluster> cluster_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_POOL_ATTACH_H_
