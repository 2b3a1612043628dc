// What a process and memd say to each other of blocks in device memory (tier
// hbm), on the agent socket. Part of version 1 of its messages: a memd that
// does not know these ops answers UNIMPLEMENTED.
//
// The process owns its blocks in HBM and moves them; memd says how much of a
// device it may use, and what the phases of agents ask of it.
//
//   process                                        memd
//     kHbmOpen: HbmDevice, wants w bytes    ->
//                                           <-     budget b, board word
//     kHbmReport: HbmUse*, has a, wants w   ->
//                                           <-     budget b, HbmWish*
//     (sleeps on the board's word)          <~~    adds to it and wakes: the
//     kHbmReport                            ->     budget is another, or there
//                                           <-     are wishes
//     kHbmClose                             ->
//
// A report says what changed since the one before: HbmUse replaces what memd
// has of that agent, 0 bytes and 0 blocks end it. memd repeats a wish in its
// answers (of more than fit into one, new ones first and the others by turns)
// until a HbmUse names its number; a later wish for the same agent takes the
// place of an earlier one. The budget is what the process may allocate of
// the device: when it is less than it has, it lets go as soon as it can, and
// reports. All of it ends with the connection, but for the sum of hits.
//
// Hits are blocks that loads found in the process's pool since kHbmOpen: all of
// them in each report and in kHbmClose, not what is new. memd adds up what a
// process says more than before, for operators. These arguments came later, and
// the version stayed: who does not count says 0, of which nothing comes, and a
// memd of before does not look. So memd refuses nothing for what they say.
//
// All integers are little-endian, strings NUL-padded, sizes in bytes. Reserved
// fields are 0.
#ifndef AGENTMEM_PROTO_HBM_MESSAGES_H_
#define AGENTMEM_PROTO_HBM_MESSAGES_H_

#include <cstddef>
#include <cstdint>

#include "proto/agent_messages.h"

namespace agentmem {

inline constexpr std::size_t kHbmDeviceNameBytes = 64;  // with its NUL
// Of HbmUse in a report and of HbmWish in an answer; both fit into a packet.
inline constexpr std::size_t kHbmUsesMax = 256;
inline constexpr std::size_t kHbmWishesMax = 256;
inline constexpr std::size_t kHbmEntriesMax = 128;
// That a process reports of; more of its blocks are nobody's.
inline constexpr std::size_t kHbmAgentsMax = 65536;

struct HbmDevice {                 // kHbmOpen
  char name[kHbmDeviceNameBytes];  // as its driver says
  char id[kHbmDeviceNameBytes];    // of this device alone on the node, e.g. its
                                   // UUID: processes that say the same share it
  std::uint64_t memory_bytes;
  std::uint64_t reserved;
};
static_assert(sizeof(HbmDevice) == 144);

struct HbmUse {  // kHbmReport
  char agent[kAgentNameBytes];
  std::uint64_t bytes;
  std::uint64_t blocks;
  std::uint64_t answers;  // number of the wish that was done; 0: none
  std::uint64_t took_ns;  // from when the process learned of the wish
};
static_assert(sizeof(HbmUse) == 160);

enum class HbmWishKind : std::uint8_t {
  kEmpty = 1,      // no block of the agent stays in HBM
  kBringBack = 2,  // what it had when it left comes back, as far as there is
                   // room
};

struct HbmWish {  // the answer to kHbmReport
  char agent[kAgentNameBytes];
  std::uint64_t number;      // never used twice by one memd
  std::int64_t deadline_ns;  // CLOCK_MONOTONIC
  HbmWishKind kind;
  AgentPhase phase;  // that asks for it
  std::uint8_t reserved[6];
};
static_assert(sizeof(HbmWish) == 152);

struct HbmEntry {               // kHbmList: of one agent in one process
  char agent[kAgentNameBytes];  // "": the process as a whole
  char client_name[kClientNameBytes];
  char device[kHbmDeviceNameBytes];  // its name
  std::int32_t pid;
  HbmWishKind wish;        // the last one; 0: there was none
  AgentPhase phase;        // that asked for it
  std::uint8_t wish_open;  // 1: not answered yet
  std::uint8_t wish_late;  // 1: not answered by its deadline
  std::uint64_t bytes;     // of blocks
  std::uint64_t blocks;
  std::uint64_t wish_ns;  // from the phase to the answer; 0: none yet
  // Of the process alone.
  std::uint64_t budget_bytes;
  std::uint64_t allocated_bytes;  // of the device, for blocks
  std::uint64_t wanted_bytes;
  // These came later. An entry ends before them for who asks for no more.
  std::uint64_t hits;  // as far as memd takes them
  std::uint64_t hit_bytes;
};
inline constexpr std::size_t kHbmEntryBytesMin = offsetof(HbmEntry, hits);
static_assert(kHbmEntryBytesMin == 312);
static_assert(sizeof(HbmEntry) == 328);

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_HBM_MESSAGES_H_
