// What a node without a disk says to the node whose store keeps its blocks. It
// travels among the pool's messages (proto/pool_messages.h: the same header,
// tokens and order of answers), under a version of its own: that of the header
// of these types. Version 1.
//
//   stage -> staged (a place in export extents, its generation)
//   the bytes, one-sided
//   keep -> kept: it is written down, and synced if it was to be durable
//   erase -> erased
//
// Reads need none of these: a find is answered from the store, too. What is
// staged and not to be kept within kReservationNs comes back by itself.
#ifndef AGENTMEM_PROTO_STORE_MESSAGES_H_
#define AGENTMEM_PROTO_STORE_MESSAGES_H_

#include <cstddef>
#include <cstdint>

#include "proto/pool_messages.h"
#include "proto/types.h"

namespace agentmem {

inline constexpr std::uint16_t kStoreVersion = 1;

constexpr bool IsStoreMessage(PoolMessage type) {
  return type >= PoolMessage::kStage && type <= PoolMessage::kErased;
}
// Which version the header of a message of this type carries.
constexpr std::uint16_t VersionOf(PoolMessage type) {
  return IsStoreMessage(type) ? kStoreVersion : kPoolVersion;
}

// Why a store does not take a block.
enum class StoreRefusal : std::uint16_t {
  kNone = 0,
  kNotServed = 1,  // it serves no other node
  kNoTenant = 2,   // the tenant is not configured there
  kBudget = 3,     // [store] serve; limit and use follow
  kQuota = 4,      // the tenant's store_quota there; limit and use follow
  kDiskFull = 5,
  kNoPlace = 6,      // in its export extents, where bytes arrive
  kBusy = 7,         // too much of this peer's is on its way: again, in a while
  kSealing = 8,      // only one of the two nodes seals blocks
  kWrongBytes = 9,   // what arrived does not fit its checksum
  kOtherBlock = 10,  // it has a block of that name and of another length
  kDevice = 11,      // its disk failed
  kDraining = 12,    // its memd is shutting down
};

struct StoreStage {
  PoolName name;
  std::uint32_t length;
  BlockClass block_class;
  std::uint8_t durable;  // 1: kept means synced
  std::uint16_t reserved;
};
static_assert(sizeof(StoreStage) == 32);

// ALREADY_EXISTS: it has the block, as safe as was asked for.
struct StoreStaged {
  Code code;
  StoreRefusal refusal;
  std::uint32_t reserved;
  std::uint64_t offset;
  std::uint64_t generation;
  std::uint64_t limit_bytes;  // kBudget, kQuota
  std::uint64_t used_bytes;
};
static_assert(sizeof(StoreStaged) == 40);

struct StoreKeep {
  PoolName name;
  std::uint64_t generation;
  std::uint64_t checksum;
  std::uint8_t seal[kPoolSealBytes];
  std::uint8_t durable;
  std::uint8_t reserved[7];
};
static_assert(sizeof(StoreKeep) == 96);

struct StoreKept {
  Code code;
  StoreRefusal refusal;
  std::uint32_t reserved;
  std::uint64_t limit_bytes;
  std::uint64_t used_bytes;
};
static_assert(sizeof(StoreKept) == 24);

// kCache: what is there as state by now stays. kState: whatever is there goes.
struct StoreErase {
  PoolName name;
  BlockClass block_class;
  std::uint8_t reserved[7];
};
static_assert(sizeof(StoreErase) == 32);

// kErased: PoolDone. FAILED_PRECONDITION: it stays, as state.

static_assert(sizeof(PoolHeader) + 64 * sizeof(StoreKeep) <=
              kPoolMessageBytesMax);

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_STORE_MESSAGES_H_
