// What the driver and a process with working memory say to each other: one
// order, then events, as messages of a SOCK_SEQPACKET pair (protocol.h).
//
// Ownership: none. Threads: any. Errors: send and recv. Cost: a system call
// each.
#ifndef AGENTMEM_TESTS_DEMO_MEMORY_PROTOCOL_H_
#define AGENTMEM_TESTS_DEMO_MEMORY_PROTOCOL_H_

#include <array>
#include <cstdint>
#include <type_traits>

#include "tests/demo/memory_content.h"

namespace agentmem::demo {

inline constexpr std::uint32_t kMemoryVersionsMax = 256;

// MemoryAgentMain's answer when memd has gone.
inline constexpr int kMemdIsGone = 3;

enum class MemoryEnding : std::uint32_t {
  kQuit,
  kKilled,      // by the driver, in one of its commits
  kHibernates,  // once with memory open and changed, and at its end
  kForks,       // and then commits once more
  kLooksBack,   // compares old versions
};

struct MemoryOrder {
  char name[32] = {};
  char fork_name[32] = {};
  std::uint64_t seed = 0;
  std::uint64_t region_bytes = 0;
  MemoryWriter self;
  std::uint32_t commits = 0;
  MemoryEnding ending = MemoryEnding::kQuit;
  std::uint32_t take_over = 0;   // the right to write, at once
  std::uint32_t hibernated = 0;  // ask for its memory before it is opened
  std::uint32_t durable = 0;     // each commit, for other nodes to see
  std::uint32_t versions = 0;    // that it may have
  std::array<MemoryWriter, kMemoryVersionsMax> writers;
};
static_assert(std::is_trivially_copyable_v<MemoryOrder>);

enum class MemoryEventType : std::uint32_t {
  kNone,
  kOpened,        // at `version`; `number`: ns until its first page was there
  kCompared,      // `number` bytes of `version` are right
  kMismatch,      // `number`: the offset in `version`
  kIntent,        // of `version`
  kAcknowledged,  // of `version`; `number`: 1 durable, 0 visible
  kDelayed,       // something, by `number` ns: UNAVAILABLE at first
  kHibernated,    // `number`: bytes of DRAM that were let go
  kForked,
  kUnavailable,  // `text`: what, and who is away; it ends
  kTrouble,      // `text`: something that should not be
  kFinished,     // the order
};

struct MemoryEvent {
  MemoryEventType type = MemoryEventType::kNone;
  std::uint32_t reserved = 0;
  std::uint64_t version = 0;
  std::uint64_t number = 0;
  char text[232] = {};
};
static_assert(sizeof(MemoryEvent) == 256 &&
              std::is_trivially_copyable_v<MemoryEvent>);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_MEMORY_PROTOCOL_H_
