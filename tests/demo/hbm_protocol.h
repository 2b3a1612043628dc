// What the driver and an engine's process say to each other: a setup, then
// orders one way and events the other, as messages of a SOCK_SEQPACKET pair
// (protocol.h). Orders are done one after the other; each ends with kDone.
//
// Ownership: none. Threads: any. Errors: send and recv. Cost: a system call
// each.
#ifndef AGENTMEM_TESTS_DEMO_HBM_PROTOCOL_H_
#define AGENTMEM_TESTS_DEMO_HBM_PROTOCOL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "tests/demo/kv_pages.h"

namespace agentmem::demo {

// By agentmem_tier.
inline constexpr std::size_t kHbmTiers = 5;

struct HbmSetup {
  char name[32] = {};
  std::uint64_t seed = 0;
  std::uint64_t hbm_bytes = 0;  // wanted
  KvOrder order = KvOrder::kTokensFirst;
  std::uint8_t patient = 0;  // on a cluster: UNAVAILABLE is tried again
  std::uint8_t reserved[6] = {};
};
static_assert(std::is_trivially_copyable_v<HbmSetup>);

enum class HbmOrderType : std::uint32_t {
  kTurn,   // reasoning: loads `blocks` from `first` on, stores `append` more
  kLoad,   // loads again, in whatever phase it is
  kPhase,  // `phase`
  kLeave,  // idle; another node may have it
  kQuit,
};

// In the midst of which copies an engine says kMidCopy, and goes on; where
// there is nothing to load, in those of the store behind it.
enum class HbmStrike : std::uint32_t { kNever, kInLoad, kInStore };

struct HbmOrder {
  HbmOrderType type = HbmOrderType::kQuit;
  std::uint32_t agent = 0;
  std::uint32_t first = 0;
  std::uint32_t blocks = 0;
  std::uint32_t append = 0;
  HbmStrike strike = HbmStrike::kNever;
  std::uint32_t phase = 0;     // agentmem_phase
  std::uint32_t may_miss = 0;  // a block that is nowhere is computed again
};
static_assert(std::is_trivially_copyable_v<HbmOrder>);

enum class HbmEventType : std::uint32_t {
  kNone,
  kReady,        // `text`: the device; `number`: its budget now
  kNoGpu,        // `text`: why the device is none
  kMidCopy,      // copies were posted, and not waited for
  kLoaded,       // `hits` by tier, `number` bytes right
  kRecomputed,   // `number` blocks that were nowhere
  kStored,       // up to block `blocks`, durable
  kDelayed,      // something, by `number` ns: UNAVAILABLE at first
  kMismatch,     // `text`
  kUnavailable,  // `text`; it ends
  kTrouble,      // `text`
  kDone,         // the order
};

struct HbmEvent {
  HbmEventType type = HbmEventType::kNone;
  std::uint32_t agent = 0;
  std::uint32_t blocks = 0;
  std::uint32_t reserved = 0;
  std::uint64_t number = 0;
  std::array<std::uint64_t, kHbmTiers> hits = {};
  char text[192] = {};
};
static_assert(sizeof(HbmEvent) == 256 &&
              std::is_trivially_copyable_v<HbmEvent>);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_HBM_PROTOCOL_H_
