// The nodes of a cluster that ./dev cluster runs: found by its cluster.json,
// killed and started through its control socket.
//
// Ownership: owns nothing that runs. Threads: thread-compatible. Errors:
// NOT_FOUND, INVALID_ARGUMENT: there is no such description; UNAVAILABLE: what
// the cluster answers, or the end of the node's log. Cost: a connection each;
// waits up to half a minute.
#ifndef AGENTMEM_TESTS_DEMO_CLUSTER_NODES_H_
#define AGENTMEM_TESTS_DEMO_CLUSTER_NODES_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/demo/nodes.h"

namespace agentmem::demo {

class ClusterNodes final : public Nodes {
 public:
  struct Node {
    std::string name;
    std::string socket;
    std::string log;
  };

  // `directory`: of the cluster ($AGENTMEM_CLUSTER).
  static absl::StatusOr<std::unique_ptr<ClusterNodes>> Open(
      const std::string& directory);
  // Of the text of a cluster.json.
  static absl::StatusOr<std::vector<Node>> Parse(const std::string& json);

  ClusterNodes(std::string control, std::vector<Node> nodes)
      : control_(std::move(control)), nodes_(std::move(nodes)) {}

  std::size_t count() const override { return nodes_.size(); }
  std::string SocketPath(std::size_t node) const override {
    return nodes_[node].socket;
  }
  absl::Status Kill(std::size_t node) override { return Ask("kill", node); }
  absl::Status Start(std::size_t node) override { return Ask("start", node); }
  absl::Status Check(std::size_t node) const override;

 private:
  absl::Status Ask(const std::string& verb, std::size_t node) const;

  const std::string control_;
  const std::vector<Node> nodes_;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_CLUSTER_NODES_H_
