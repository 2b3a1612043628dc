// The value of an agent's ref. Version 1.
//
//   +--------------------+--------+---------+
//   | AgentHeader (40 B) | fields | regions |
//   +--------------------+--------+---------+
//
// A string is a varint of its length and the bytes; a link is: varint number,
// and if it is not 0, key (16 B) and varint bytes of its block.
//
//   fields     string  detail of the phase
//              varint  retention's kind; varint its limit
//              varint  labels; a pair of strings each
//              varint  1 if there is an origin; string agent, u64 lineage
//              varint  next region's id
//              varint  regions
//   region     string  name
//              varint  id, bytes
//              varint  retention's kind or 0; if not 0, varint its limit
//              link    newest version
//              varint  oldest version kept; varint version of the origin or 0
//              varint  bytes of the working set; if not 0, key (16 B)
//
// Of an agent that was deleted, the ref of its lineage has a GoneHeader as its
// value until the last of its blocks is gone, too.
//
// Integers are little-endian. Threads: plain data. Errors: none here;
// memd/agents/agent_record.h checks what it reads.
#ifndef AGENTMEM_PROTO_AGENT_LAYOUT_H_
#define AGENTMEM_PROTO_AGENT_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace agentmem {

inline constexpr std::uint64_t kAgentMagic =
    0x31544741'4d454741ULL;  // AGEMAGT1
inline constexpr std::uint32_t kAgentFormat = 1;

// 256 regions of at most 190 bytes are 48 KiB; with 4 KiB of labels and the
// rest no record is larger.
inline constexpr std::size_t kAgentRecordBytesMax = 64 << 10;
inline constexpr std::uint32_t kRegionsMax = 256;
inline constexpr std::size_t kRegionNameBytesMax = 63;
inline constexpr std::size_t kAgentNameBytesMax = 255;
inline constexpr std::size_t kPhaseDetailBytesMax = 255;
inline constexpr std::uint64_t kPhaseEtaMaxNs = 86'400'000'000'000;  // a day

enum class RetentionKind : std::uint8_t { kAll = 1, kLast = 2, kAge = 3 };

struct AgentHeader {
  std::uint64_t magic;
  std::uint32_t format;
  std::uint8_t phase;        // tiering::Phase
  std::uint8_t reserved[3];  // 0
  std::uint64_t lineage;
  std::int64_t created_wall_ns;
  std::int64_t phase_wall_ns;
};
static_assert(sizeof(AgentHeader) == 40);
static_assert(std::is_trivially_copyable_v<AgentHeader>);
static_assert(offsetof(AgentHeader, lineage) == 16);

inline constexpr std::uint64_t kGoneMagic = 0x314e4f47'4d454741ULL;  // AGEMGON1

struct GoneHeader {
  std::uint64_t magic;
  std::uint32_t format;  // kAgentFormat
  std::uint32_t reserved;
  std::uint64_t origin;  // lineage that it was forked from; 0: none
};
static_assert(sizeof(GoneHeader) == 24);

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_AGENT_LAYOUT_H_
