// The agent socket's messages: agents and regions. Version 1.
//
// A client that uses agents opens a second connection to memd's socket and says
// Hello with kHelloAgents there. memd answers AgentWelcome, or Refusal. From
// then on the client sends one AgentRequest at a time, and memd answers each
// with one AgentReply of the same `id`; memd never speaks first. A packet is
// the fixed struct and, behind it, bytes up to `bytes`: fields as
// proto/agent_fields.h packs them. SOCK_SEQPACKET: one packet a message, at
// most kAgentPacketMax bytes.
//
//   client                              memd
//     Hello (kHelloAgents)  ->
//                           <-          AgentWelcome + board, or Refusal
//     AgentRequest [+ fd]   ->
//                           <-          AgentReply [+ fd]
//
// The board is a memfd of kBoardBytes that both map: word i counts the versions
// that a watched region got (kWatch answers i). memd adds and wakes its futex;
// a client waits for a change, then asks. It is a hint: nothing is lost when a
// client scribbles on it.
//
// Paging: kUseFaults carries a userfaultfd of the client. A region is then:
// kRegionOpen (answers size and memfd), map it shared, register the mapping
// MISSING|MINOR|WP, kRegionMapped (address). From there on memd resolves its
// faults. Without kUseFaults a region is explicit: kPopulate brings a range
// into the memfd and keeps it there until kUnpin; kMarkDirty says what was
// written.
//
// All integers are little-endian, strings NUL-padded, sizes in bytes. Ranges of
// a region (offset, length) are whole units. Reserved fields are 0.
#ifndef AGENTMEM_PROTO_AGENT_MESSAGES_H_
#define AGENTMEM_PROTO_AGENT_MESSAGES_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "proto/agent_layout.h"
#include "proto/handshake.h"
#include "proto/manifest_layout.h"
#include "proto/types.h"

namespace agentmem {

inline constexpr std::uint64_t kAgentWireMagic =
    0x31544741'4d454741ULL;  // AGEMAGT1
inline constexpr std::uint32_t kAgentVersion = 1;

inline constexpr std::size_t kAgentNameBytes = 128;  // with its NUL
inline constexpr std::size_t kRegionNameBytes = 64;  // with its NUL
inline constexpr std::size_t kAgentPacketMax = 64 << 10;
inline constexpr std::size_t kBoardBytes = 4096;
inline constexpr std::size_t kBoardWords = kBoardBytes / 4;

inline constexpr std::uint32_t kRegionsPerAgentMax = 256;

struct AgentWelcome {
  MessageHeader header;  // kAgentWelcome; with the board's descriptor
  std::uint32_t agent_version;
  std::uint32_t tenant_id;
  std::uint64_t instance;
  char tenant[kTenantNameBytes];
};
static_assert(sizeof(AgentWelcome) == 104);

enum class AgentOp : std::uint32_t {
  kNone = 0,
  // + a userfaultfd. arg[0]: features that UFFDIO_API gave. arg[1]: 1 when it
  // was made with USER_MODE_ONLY. value[0]: TrackingMode. The last one counts;
  // no region is mapped before.
  kUseFaults = 1,

  // agent; flags: OpenFlags. tail: labels (key, value)*, for a new one.
  // value[0]: handle, [1]: fence (writers), [2]: 1 if it was made, [3]: regions
  kAgentOpen = 2,
  kAgentClose = 3,      // handle. Writers: uncommitted changes are gone
  kAgentPhase = 4,      // handle; arg[0]: AgentPhase, [1]: eta ns or 0. tail:
                        // the tool's name. value[0]: PhaseAnswer
  kAgentHibernate = 5,  // agent. value[0]: bytes written, [1]: bytes let go
  kAgentResume = 6,     // agent. value[0]: blocks asked for
  kAgentDelete = 7,     // agent
  kAgentList = 8,     // agent: prefix; other: after this name; arg[0]: at most
                      // so many. tail: AgentEntry*. value[0]: 1 if more
  kAgentFork = 9,     // agent -> other; version (0: head) if it has one
                      // region, else arg[0] must be 0
  kAgentLabels = 10,  // handle; tail: (key, value)*: replaces all
  kAgentRetention = 11,  // handle or agent; arg[0]: RetentionKind, [1]: n or ns
  kAgentShow = 12,       // agent. tail: AgentEntry, RegionEntry*

  // handle, region; bytes (0: as it is; new ones need it); version (0: head;
  // else it is mapped for reading). value[0]: region handle, [1]: bytes,
  // [2]: version, [3]: 1 if made, [4]: 1 if for reading. + the memfd
  kRegionOpen = 20,
  kRegionMapped = 21,  // region_handle; arg[0]: address
  kRegionClose = 22,   // region_handle
  kCommit = 23,        // handle; region_handle (0: all regions of the agent);
                       // arg[0]: Ack; tail: message, (key, value)*; trace.
                       // value[0]: version (of the region, or the first),
                       // [1]: changed bytes, [2]: pages
  kPopulate = 24,      // region_handle, offset, bytes; flags: kPopulatePin
  kUnpin = 25,         // region_handle, offset, bytes
  kHint = 26,          // region_handle, offset, bytes; arg[0]: next use in ns
                       // (0: now, ~0: never). value[0]: PhaseAnswer
  kMarkDirty = 27,     // region_handle, offset, bytes (explicit regions)
  kRefresh = 28,       // region_handle (for reading), version (0: head): moves
                       // it there. value[0]: version. tail: RangeEntry*: what
                       // changed; value[1]: 1 if there are more than fit (then
                       // all may have)
  kRevert = 29,        // agent, region; version: a new version equal to it.
                       // value[0]: the new number
  kHistory = 30,       // agent, region; version: begin at it (0: head); arg[0]:
                       // at most so many. tail: three fields a version,
                       // newest first: VersionEntry, message, labels (one
                       // field that packs (key, value)*). value[0]: 1 if more
  kDiff = 31,          // agent, region; arg[0]: from (0: zeros), arg[1]: to
                       // (0: head); offset: begin here. tail: RangeEntry*.
                       // value[0]: 1 if more
  kWatch = 32,         // agent, region. value[0]: board word, [1]: version.
                       // Again: the same word, the version of then
  kUnwatch = 33,       // arg[0]: board word; ends it, however often asked for

  // Blocks in device memory: proto/hbm_messages.h. One device a connection.
  kHbmOpen = 34,    // tail: HbmDevice; arg[0]: bytes wanted. value[0]: budget,
                    // [1]: board word. Again: anew, with the same word
  kHbmReport = 35,  // tail: HbmUse*; arg[0]: bytes allocated, [1]: wanted,
                    // [2]: hits since kHbmOpen, [3]: bytes of them.
                    // value[0]: budget. tail: HbmWish*
  kHbmClose = 36,   // arg[0]: hits since kHbmOpen, [1]: bytes of them
  kHbmList = 37,    // arg[0]: leave out so many, [1]: at most so many, [2]:
                    // bytes of an entry, at most (0: as many as it had first).
                    // tail: HbmEntry*. value[0]: 1 if more
};

// AgentRequest.flags of kAgentOpen.
inline constexpr std::uint32_t kOpenWrite = 1;
inline constexpr std::uint32_t kOpenCreate = 2;
inline constexpr std::uint32_t kOpenTakeOver = 4;
// Of kPopulate.
inline constexpr std::uint32_t kPopulatePin = 1;

enum class AgentPhase : std::uint8_t {
  kReasoning = 1,
  kTool = 2,
  kHumanWait = 3,
  kIdle = 4,
  kDone = 5,
};
// 1 to kAgentNameBytes - 1 bytes, without spaces and control characters.
inline bool IsAgentName(std::string_view name) {
  for (const char c : name) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return false;
  }
  return !name.empty() && name.size() < kAgentNameBytes;
}
inline bool IsValid(AgentPhase p) {
  return p >= AgentPhase::kReasoning && p <= AgentPhase::kDone;
}

// What was done with a hint.
enum class PhaseAnswer : std::uint8_t {
  kAccepted = 1,
  kClipped = 2,
  kDeferred = 3,
  kRejected = 4,
};

// How memd learns what a process writes.
enum class TrackingMode : std::uint8_t {
  kNone = 0,  // explicit regions
  kSync = 1,  // each first write to a unit waits for memd
};

struct AgentRequest {
  std::uint64_t magic;
  std::uint32_t version;
  AgentOp op;
  std::uint32_t bytes;  // of the packet, the tail included
  std::uint32_t flags;
  std::uint64_t id;
  std::int64_t deadline_ns;  // CLOCK_MONOTONIC
  std::uint32_t handle;
  std::uint32_t region_handle;
  std::uint64_t region_version;
  std::uint64_t offset;
  std::uint64_t length;
  std::uint64_t arg[4];
  std::uint8_t trace[16];
  char agent[kAgentNameBytes];
  char region[kRegionNameBytes];
  char other[kAgentNameBytes];
};
static_assert(sizeof(AgentRequest) == 440);
static_assert(offsetof(AgentRequest, agent) == 120);

struct AgentReply {
  std::uint64_t magic;
  std::uint32_t version;
  AgentOp op;
  std::uint32_t bytes;  // of the packet, the tail included
  std::uint32_t code;   // Code; not OK: the tail is one field, the message
  std::uint64_t id;
  std::uint64_t value[6];
};
static_assert(sizeof(AgentReply) == 80);

struct AgentEntry {  // kAgentList
  char name[kAgentNameBytes];
  std::uint32_t regions;
  AgentPhase phase;
  std::uint8_t writing;  // has a writer now
  std::uint8_t reserved[2];
  std::uint64_t region_bytes;    // sum of sizes
  std::uint64_t resident_bytes;  // of its regions, in DRAM
  std::uint64_t versions;        // of all regions, ever
  std::uint64_t committed_unix_ns;
  std::int32_t writer_pid;  // 0: none
  std::uint32_t reserved1;
  char writer[kClientNameBytes];
};
static_assert(sizeof(AgentEntry) == 240);

struct RegionEntry {  // kAgentShow
  char name[kRegionNameBytes];
  std::uint64_t bytes;
  std::uint64_t version;
  std::uint64_t oldest_version;
  std::uint64_t resident_bytes;
  std::uint64_t dirty_bytes;
  std::uint64_t reserved;
};
static_assert(sizeof(RegionEntry) == 112);

struct VersionEntry {  // kHistory
  std::uint64_t number;
  std::uint64_t parent;  // 0: none
  std::uint64_t unix_ns;
  std::uint64_t region_bytes;
  std::uint64_t changed_bytes;
  std::uint32_t changed_pages;
  std::uint32_t flags;         // kVersion...
  std::uint64_t flag_version;  // reverted to; of the origin, forked from
  std::uint8_t trace[16];
};
static_assert(sizeof(VersionEntry) == 72);

struct RangeEntry {
  std::uint64_t offset;
  std::uint64_t bytes;
};
static_assert(sizeof(RangeEntry) == 16);

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_AGENT_MESSAGES_H_
