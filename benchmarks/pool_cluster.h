// Several memds on loopback that know each other, from a static list or from
// etcd. The first
// lends nothing, so that all that it has no room for goes to the others.
//
// Ownership: owns the daemons. Threads: thread-compatible. Errors: UNAVAILABLE
// with memd's last words; DEADLINE_EXCEEDED if they do not find each other.
// Cost: Start waits until each has all others as its peers.
#ifndef AGENTMEM_BENCHMARKS_POOL_CLUSTER_H_
#define AGENTMEM_BENCHMARKS_POOL_CLUSTER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/memd_child.h"
#include "benchmarks/temporary_directory.h"

namespace agentmem::bench {

struct PoolClusterOptions {
  std::string program;
  std::size_t nodes = 2;
  std::uint64_t dram_bytes = 0;    // of each
  std::uint64_t slots = 0;         // of each
  std::uint64_t export_bytes = 0;  // of each but the first
  std::uint64_t spin_us = 50;      // as memd's default
  bool first_exports = false;      // as the others do
  std::string etcd;                // its URL; empty: a static list of peers
  bool sealed = false;             // blocks, with a key that all nodes have
};

class PoolCluster {
 public:
  static absl::StatusOr<std::unique_ptr<PoolCluster>> Start(
      const PoolClusterOptions& options);

  // As the cluster calls it.
  static std::string NodeName(std::size_t index);
  std::size_t size() const { return nodes_.size(); }
  MemdChild* node(std::size_t index) const { return nodes_[index].get(); }
  // Until each has all others as its peers.
  absl::Status AwaitPeers() const;
  std::string socket_path(std::size_t index) const {
    return nodes_[index]->socket_path();
  }

 private:
  PoolCluster() = default;

  std::unique_ptr<TemporaryDirectory> keys_;  // if sealed
  std::vector<std::unique_ptr<MemdChild>> nodes_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_POOL_CLUSTER_H_
