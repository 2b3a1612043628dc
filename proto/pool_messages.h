// What daemons say to each other over the fabric (Transport::Send). Version 2.
//
//   PoolHeader, then `count` entries of the type's own kind
//
// Little-endian, fixed layout. A request's answer has its `request`, the type
// after it, and as many entries in the same order. Bytes of blocks are not in
// here: they are read from and written to export extents by one-sided
// operations, at `offset` from the exporter's base (proto/peer.proto).
//
// Two-phase put: reserve, write the bytes, commit with their checksum. A
// reservation that is not committed within kReservationNs comes back by itself.
// It may be made ahead, for a length alone: then its commit says which block
// was written there, of that length's size class (proto/size_class.h).
//
// Where messages follow writes (TransportLimits), the commit is sent behind the
// bytes, at once.
//
// `checksum` is XXH3-64 of the bytes in the export extent, seeded with tenant
// and key, and mixed with the generation (PoolChecksum): so it fits no other
// block, and no other life of the memory that it lay in.
//
// `seal` is the header of sealed bytes (memd/pool/block_cipher.h), or zeros:
// they are as they were put.
//
// `token` is what the receiver gave to the sender in its Hello; a message
// without it is dropped. Who has it is that peer.
#ifndef AGENTMEM_PROTO_POOL_MESSAGES_H_
#define AGENTMEM_PROTO_POOL_MESSAGES_H_

#include <cstddef>
#include <cstdint>

#include "base/clock.h"
#include "proto/types.h"

namespace agentmem {

inline constexpr std::uint32_t kPoolMagic = 0x4c4f4f50;  // POOL
inline constexpr std::uint16_t kPoolVersion = 2;
inline constexpr std::uint32_t kPoolMessageBytesMax = 8192;
inline constexpr std::uint32_t kPoolEntriesMax = 128;

// Longer than any write on a link can be under way: after it no byte of the
// writer that gave up can come any more.
inline constexpr DurationNs kReservationNs = 10 * kSecondNs;

enum class PoolMessage : std::uint16_t {
  kPing = 1,
  kPong = 2,
  kReserve = 3,
  kReserved = 4,
  kCommit = 5,
  kCommitted = 6,
  kFind = 7,
  kFound = 8,
  kDrop = 9,
  kDropped = 10,
  kRevoke = 11,  // no answer: these copies are gone
  // A node's store serving others: proto/store_messages.h.
  kStage = 13,
  kStaged = 14,
  kKeep = 15,
  kKept = 16,
  kErase = 17,
  kErased = 18,
};

struct PoolHeader {
  std::uint32_t magic;
  std::uint16_t version;
  PoolMessage type;
  std::uint32_t count;
  std::uint32_t bytes;  // of the whole message
  std::uint64_t token;
  std::uint64_t request;  // the asker's; 0: no answer is wanted
};
static_assert(sizeof(PoolHeader) == 32);

// A tenant is the same on all nodes of a cluster by its number here, whatever
// number its store gave it.
struct PoolName {
  std::uint64_t tenant;
  Key key;
};
static_assert(sizeof(PoolName) == 24);

struct PoolPing {
  std::uint64_t instance;    // the sender's
  std::uint64_t room_bytes;  // that it could take now, by dropping what may go
};
static_assert(sizeof(PoolPing) == 16);

inline constexpr std::size_t kPoolSealBytes = 48;

struct PoolReserve {
  PoolName name;
  std::uint32_t length;
  BlockClass block_class;
  std::uint8_t repair;  // 1: a copy of one that the asker has
  std::uint8_t copies;  // on so many nodes in all: 1 or 2
  std::uint8_t ahead;  // 1: for a block of that size class; all but length is 0
};
static_assert(sizeof(PoolReserve) == 32);

// ALREADY_EXISTS: it has the block. RESOURCE_EXHAUSTED: no room. ABORTED: a
// repair of what was dropped just now.
struct PoolReserved {
  Code code;
  std::uint16_t reserved[3];
  std::uint64_t offset;
  std::uint64_t generation;
};
static_assert(sizeof(PoolReserved) == 24);

struct PoolCommit {
  PoolName name;
  std::uint64_t generation;
  std::uint64_t checksum;
  // Of a reservation made ahead; else as it was reserved.
  std::uint32_t length;
  BlockClass block_class;
  std::uint8_t copies;
  std::uint8_t ahead;
  std::uint8_t reserved;
  std::uint8_t seal[kPoolSealBytes];
};
static_assert(sizeof(PoolCommit) == 96);

// Committed, ALREADY_EXISTS: another writer was first, which is as good.
// NOT_FOUND: no such reservation any more.
struct PoolDone {  // kCommitted, kDropped
  Code code;
  std::uint16_t reserved[3];
};
static_assert(sizeof(PoolDone) == 8);

// DATA_LOSS: its store has the block, and the copy is corrupt.
struct PoolFound {
  Code code;
  BlockClass block_class;
  std::uint8_t reserved;
  std::uint32_t length;
  std::uint64_t offset;
  std::uint64_t generation;
  std::uint64_t checksum;
  std::uint8_t seal[kPoolSealBytes];
};
static_assert(sizeof(PoolFound) == 80);

struct PoolDrop {  // kDrop, kRevoke
  PoolName name;
  std::uint64_t generation;  // kDrop: 0; any of them goes
};
static_assert(sizeof(PoolDrop) == 32);

static_assert(sizeof(PoolHeader) + 64 * sizeof(PoolCommit) <=
              kPoolMessageBytesMax);

inline std::uint64_t PoolSeed(std::uint64_t tenant, const Key& key) {
  return HashKey(key) ^ (tenant * 0x9e3779b97f4a7c15ULL);
}

// Of bytes that hash to `digest` under PoolSeed.
inline std::uint64_t PoolChecksum(std::uint64_t digest,
                                  std::uint64_t generation) {
  std::uint64_t mixed = digest ^ (generation * 0xd1b54a32d192ed03ULL);
  mixed ^= mixed >> 32;
  return mixed * 0xa0761d6478bd642fULL;
}

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_POOL_MESSAGES_H_
