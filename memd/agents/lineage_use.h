// That a node uses the blocks of a lineage, where refs are shared by several
// nodes: the value of the ref "use/TENANT/LINEAGE/NODE". Version 1.
//
//   u32 magic "LUSE" | u8 version | u8 state | varint instance |
//   varint first fence | varint last fence |
//   varint regions | (varint id, varint oldest) ... |
//   varint versions | (varint number, key (16 B), varint bytes) ...
//
// A use is an intent: it is there before the node reads a version of the agent,
// or gives a new block its name. What it says is left alone by all collectors
// (memd/agents/collector.h):
//
//   - of each region that it names, the versions from `oldest` on; of one that
//     it does not name, all (it is younger than the use); and each of
//     `versions`. With kNamed these alone: the agent is gone, and nothing more
//     of it will be opened.
//   - by those of other nodes, blocks whose names have a fence from the first
//     to the last: this node knows which of them are in a hand.
//
// It is a fence, too: the node changes the agent's record only on condition
// that its use is as it wrote it. Whoever changes it, or takes it away, knows
// that no change which the node sent under it is made any more.
//
// kLeft: the node uses nothing, and may have blocks on its disk: a deleted
// agent is not forgotten before all nodes have said that they have none.
//
// Ownership: a value. Threads: pure functions. Errors: FAILED_PRECONDITION: of
// another version (both named); DATA_LOSS: torn. Cost: one string.
#ifndef AGENTMEM_MEMD_AGENTS_LINEAGE_USE_H_
#define AGENTMEM_MEMD_AGENTS_LINEAGE_USE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "memd/agents/agent_record.h"
#include "proto/types.h"

namespace agentmem {

enum class UseState : std::uint8_t { kLeft = 0, kOpen = 1, kNamed = 2 };

struct LineageUse {
  // Held versions that one use can name: 30 KiB of them at most.
  static constexpr std::size_t kVersionsMax = 1000;

  struct Region {
    std::uint64_t id = 0;
    std::uint64_t oldest = 0;
    friend bool operator==(const Region&, const Region&) = default;
  };

  UseState state = UseState::kLeft;
  std::uint64_t instance = 0;  // which run of the node's memd
  std::uint64_t first_fence = 0;
  std::uint64_t last_fence = 0;  // 0: nobody there writes
  std::vector<Region> regions;
  std::vector<VersionLink> versions;

  // What may be read of the agent that has this record.
  void KeepAllOf(const AgentRecord& record);
  void AddFence(std::uint64_t fence);
  // Of fences as names of blocks have them.
  bool CoversFence(std::uint64_t fence) const;
  // The oldest version of the region that is left alone.
  std::uint64_t OldestOf(const RegionRecord& region) const;

  friend bool operator==(const LineageUse&, const LineageUse&) = default;
};

std::string EncodeLineageUse(const LineageUse& use);
absl::StatusOr<LineageUse> DecodeLineageUse(const std::string& ref,
                                            const std::string& value);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_LINEAGE_USE_H_
