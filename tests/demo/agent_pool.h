// The demo's view of its agent processes: started, spoken to, ended.
//
// Ownership: owns the processes and their sockets, and the lifeline on which
// their forked children wait. Threads: thread-compatible. Errors: of starting.
// Cost: system calls.
#ifndef AGENTMEM_TESTS_DEMO_AGENT_POOL_H_
#define AGENTMEM_TESTS_DEMO_AGENT_POOL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "tests/demo/child_process.h"
#include "tests/demo/protocol.h"

namespace agentmem::demo {

struct AgentHandle {
  enum class State { kStarting, kIdle, kBusy, kGone };

  State state = State::kGone;
  bool posing = false;
  std::uint64_t request = 0;  // when busy
  ChildProcess process;
  UniqueFd socket;
};

class AgentPool {
 public:
  struct Places {
    std::string program;  // the demo's own
    std::string memd_socket_path;
    int workload = -1;
    int board = -1;
  };

  AgentPool(const Places& places, std::size_t size);

  std::size_t size() const { return agents_.size(); }
  AgentHandle& operator[](std::size_t lane) { return agents_[lane]; }

  absl::Status Start(std::size_t lane);
  bool Send(std::size_t lane, const Message& message) {
    return SendMessage(agents_[lane].socket.get(), message);
  }
  // SIGKILL, and wait for its end. What it sent before can still be received.
  void Kill(std::size_t lane);
  // Asks it to end. What waitpid says; none: it had to be killed.
  std::optional<int> Quit(std::size_t lane);
  // The forked children end now.
  void CutLifeline() { lifeline_end_.Reset(); }

 private:
  const Places places_;
  UniqueFd lifeline_;
  UniqueFd lifeline_end_;
  std::vector<AgentHandle> agents_;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_AGENT_POOL_H_
