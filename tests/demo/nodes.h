// The nodes that agents' processes connect to: one memd of the demo's own, or
// those of a cluster.
//
// Ownership: see each. Threads: thread-compatible. Errors: UNAVAILABLE with the
// last words of what does not come up, or has gone. Cost: Kill and Start wait,
// bounded.
#ifndef AGENTMEM_TESTS_DEMO_NODES_H_
#define AGENTMEM_TESTS_DEMO_NODES_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "base/status.h"
#include "tests/demo/memd_process.h"

namespace agentmem::demo {

class Nodes {
 public:
  virtual ~Nodes() = default;
  virtual std::size_t count() const = 0;
  virtual std::string SocketPath(std::size_t node) const = 0;
  // SIGKILL.
  virtual absl::Status Kill(std::size_t node) = 0;
  // Returns when it takes connections again.
  virtual absl::Status Start(std::size_t node) = 0;
  // Whether it runs.
  virtual absl::Status Check(std::size_t node) const = 0;
};

// The demo's own memd, which must outlive it.
class LoneNode final : public Nodes {
 public:
  explicit LoneNode(MemdProcess* memd) : memd_(memd) {}

  std::size_t count() const override { return 1; }
  std::string SocketPath(std::size_t) const override {
    return memd_->socket_path();
  }
  absl::Status Kill(std::size_t) override {
    memd_->Kill();
    return absl::OkStatus();
  }
  absl::Status Start(std::size_t) override { return memd_->Start(); }
  absl::Status Check(std::size_t) const override {
    if (memd_->running()) return absl::OkStatus();
    return Unavailable("memd has died; its last words:\n" + memd_->LogTail());
  }

 private:
  MemdProcess* const memd_;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_NODES_H_
