// What the node keeps of an agent: the value of its ref, at most 64 KiB.
//
// Everything else of an agent is immutable blocks that this record leads to:
// each region's newest version, and by it all older ones.
//
// Ownership: values. Threads: pure functions. Errors: EncodeAgentRecord:
// INVALID_ARGUMENT (a field outside its range, named). DecodeAgentRecord:
// DATA_LOSS, with the ref's name and what is wrong; an unknown format is named
// with the known one; so does DecodeGone.
// Cost: one allocation a string; nothing is allocated that was not there.
#ifndef AGENTMEM_MEMD_AGENTS_AGENT_RECORD_H_
#define AGENTMEM_MEMD_AGENTS_AGENT_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "memd/agents/version_block.h"
#include "proto/agent_layout.h"
#include "tiering/policy.h"

namespace agentmem {

// Which versions stay readable. The newest always does.
struct Retention {
  RetentionKind kind = RetentionKind::kAll;
  std::uint64_t limit = 0;  // kLast: versions; kAge: nanoseconds; kAll: 0

  friend bool operator==(const Retention&, const Retention&) = default;
};

struct RegionRecord {
  std::string name;  // 1 to kRegionNameBytesMax: letters, digits, . _ -
  std::uint64_t id = 0;
  std::uint64_t bytes = 0;
  std::optional<Retention> retention;  // none: the agent's
  VersionLink head;                    // number 0: no version yet
  std::uint64_t oldest_kept = 0;       // number; 0: no version yet
  // Of a fork's region: the origin's version that it began as, else 0.
  std::uint64_t origin_number = 0;
  // The pages that were touched after the last resume, in order.
  Key working_set;
  std::uint32_t working_set_bytes = 0;  // 0: there is none

  friend bool operator==(const RegionRecord&, const RegionRecord&) = default;
};

// Whom an agent was forked from.
struct AgentOrigin {
  std::string agent;
  std::uint64_t lineage = 0;

  friend bool operator==(const AgentOrigin&, const AgentOrigin&) = default;
};

struct AgentRecord {
  std::uint64_t lineage = 0;         // in the keys of its blocks; never 0
  std::int64_t created_wall_ns = 0;  // since 1970, UTC
  tiering::Phase phase = tiering::Phase::kIdle;
  std::int64_t phase_wall_ns = 0;  // since when
  std::string phase_detail;        // e.g. the tool's name
  Retention retention;
  Labels labels;
  std::optional<AgentOrigin> origin;
  std::uint64_t next_region_id = 1;  // above every id that was ever given
  std::vector<RegionRecord> regions;

  friend bool operator==(const AgentRecord&, const AgentRecord&) = default;
};

bool IsRegionName(std::string_view name);

// The region's own, or the agent's.
const Retention& RetentionOf(const AgentRecord& agent,
                             const RegionRecord& region);

absl::StatusOr<std::string> EncodeAgentRecord(const AgentRecord& record);

// `name` is the ref's, for messages.
absl::StatusOr<AgentRecord> DecodeAgentRecord(const std::string& name,
                                              std::string_view value);

// A gone agent's ref: what is to know of it until nothing of it is left. The
// answer is the lineage that it was forked from, 0: none.
std::string EncodeGone(const AgentRecord& record);
absl::StatusOr<std::uint64_t> DecodeGone(const std::string& name,
                                         std::string_view value);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_AGENT_RECORD_H_
