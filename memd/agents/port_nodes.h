// Reads nodes and versions of manifests through a session's port.
//
// Ownership: borrows the port. Threads: as the port's. Errors: NOT_FOUND,
// DATA_LOSS (of another length than the manifest says), UNAVAILABLE, and
// DEADLINE_EXCEEDED after ten seconds. Cost: a pin and a copy for what is in
// DRAM; else it waits for the store, running the port's handlers.
#ifndef AGENTMEM_MEMD_AGENTS_PORT_NODES_H_
#define AGENTMEM_MEMD_AGENTS_PORT_NODES_H_

#include <memory>
#include <string>
#include <utility>

#include "base/status.h"
#include "memd/agents/block_port.h"
#include "memd/agents/manifest.h"

namespace agentmem {

class PortNodes final : public NodeSource {
 public:
  PortNodes(BlockPort* port, const Clock* clock) : port_(port), clock_(clock) {}

  absl::StatusOr<std::string> Read(const Key& key,
                                   std::uint32_t bytes) override {
    BlockPort::Pinned pinned;
    if (!port_->TryPin(key, &pinned)) {
      struct Got {
        bool answered = false;
        bool late = false;  // nobody waits any more
        CompletionEntry answer = {};
      };
      const auto got = std::make_shared<Got>();
      const TimeNs deadline = clock_->Now() + kReadNs;
      port_->Fetch(key, deadline,
                   [got, port = port_](const CompletionEntry& answer) {
                     got->answered = true;
                     got->answer = answer;
                     if (got->late && answer.code == Code::kOk) {
                       port->Release(port->Held(answer));
                     }
                   });
      if (!port_->PollUntil([&] { return got->answered; }, deadline, *clock_)) {
        got->late = true;
        return DeadlineExceeded("reading a node: no answer of the store");
      }
      if (got->answer.code != Code::kOk) {
        return StatusOf(got->answer, "reading a node");
      }
      pinned = port_->Held(got->answer);
    }
    std::string copy(pinned.data, pinned.length);
    port_->Release(pinned);
    if (copy.size() != bytes) {
      return DataLoss("a node of " + std::to_string(copy.size()) +
                      " bytes where " + std::to_string(bytes) +
                      " were expected");
    }
    return copy;
  }

 private:
  static constexpr DurationNs kReadNs = 10 * kSecondNs;
  BlockPort* const port_;
  const Clock* const clock_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_PORT_NODES_H_
