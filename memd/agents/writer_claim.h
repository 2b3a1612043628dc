// Which node writes an agent, where refs are shared by several nodes: the value
// of the ref "writer/TENANT/AGENT". Version 1.
//
//   u32 magic "WRTR" | u8 version | varint instance | varint pid |
//   string node | string name
//
// A claim is for people and for politeness: whoever opens the agent on another
// node is refused while the claimant's node lives. Who really may write is
// decided by the agent's fence alone.
//
// Ownership: a value. Threads: thread-compatible. Errors: FAILED_PRECONDITION:
// of another version (both named); DATA_LOSS: torn. Cost: a short string.
#ifndef AGENTMEM_MEMD_AGENTS_WRITER_CLAIM_H_
#define AGENTMEM_MEMD_AGENTS_WRITER_CLAIM_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"

namespace agentmem {

// This node among those that share the refs.
struct SharedRefs {
  std::string node;
  std::uint64_t instance = 0;  // which run of its memd
  // Is that run of that node a member now? Thread-safe.
  std::function<bool(const std::string& node, std::uint64_t instance)> is_alive;
  // Can the nodes agree on anything now? Thread-safe.
  std::function<bool()> is_reachable;
  // Moves when a node comes or goes; may be null. Thread-safe.
  std::function<std::uint64_t()> epoch = nullptr;
  // How often what is used here is told to the others anew (lineage_use.h).
  DurationNs refresh_ns = 60 * kSecondNs;
  // A node that is no member for so long loses what it used. So long, too, all
  // remember an agent that is gone.
  DurationNs away_ns = 600 * kSecondNs;
};

struct WriterClaim {
  std::string node;
  std::uint64_t instance = 0;
  std::string name;  // of the client
  std::int32_t pid = 0;

  friend bool operator==(const WriterClaim&, const WriterClaim&) = default;
};

std::string EncodeWriterClaim(const WriterClaim& claim);
absl::StatusOr<WriterClaim> DecodeWriterClaim(const std::string& ref,
                                              const std::string& value);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_WRITER_CLAIM_H_
