// Pool: blocks in other nodes' memory, as a tenant sees them.
//
// Asynchronous, like BlockStore: operations over the caller's registered
// memory, completions from a queue. Where a block lies, and how many tries it
// takes, is the pool's own business.
//
// Ownership: an operation's bytes stay valid, and those of a put unchanged,
// until its completion was taken. Threads: reactor-only. Errors: in the
// completion. kPut: RESOURCE_EXHAUSTED (no room at those who should have it),
// UNAVAILABLE (not as many nodes answer as copies are wanted; those that were
// made stay and are found). kGet: NOT_FOUND, DATA_LOSS (only copies that fail
// their checksum), UNAVAILABLE (who may have it does not answer). kKeep:
// RESOURCE_EXHAUSTED (no room in the store, or a quota), ABORTED (it has
// another block of that name), UNAVAILABLE. Cost: nothing blocks; a completion
// costs at least one round trip of the network, or a copy where the block's
// place is this node.
#ifndef AGENTMEM_MEMD_POOL_POOL_H_
#define AGENTMEM_MEMD_POOL_POOL_H_

#include <cstdint>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "memd/transport/transport.h"
#include "proto/types.h"

namespace agentmem {

struct PoolOp {
  enum class Kind : std::uint8_t {
    kPut,   // bytes, length, class, copies
    kGet,   // bytes: room for exactly `length`
    kFind,  // who has it: the completion holds length and class
    // Wherever it is. A get by who knows where it was may still find it, and
    // right, until its place has another life.
    kDrop,
    // Of a node without a disk: into the store of another one, which has
    // written it down when this ends; out of it.
    kKeep,
    kErase,
  };
  Kind kind = Kind::kGet;
  BlockClass block_class = BlockClass::kCache;
  std::uint8_t copies = 1;  // kPut: on so many nodes, 1 or 2
  bool durable = false;     // kKeep: and synced
  // kKeep, kErase, and gets of what is in a store: its end comes as a
  // PoolStoreDone.
  bool store = false;
  std::uint64_t tenant = 0;  // its number in the cluster
  Key key;
  MemoryId memory;  // that `bytes` lie in
  char* bytes = nullptr;
  std::uint32_t length = 0;
  std::uint64_t ticket = 0;
  TimeNs deadline = kNoDeadline;
};

struct PoolCompletion {
  std::uint64_t ticket = 0;
  Code code = Code::kOk;
  BlockClass block_class = BlockClass::kCache;  // kFind
  std::uint32_t length = 0;                     // kFind
  std::uint8_t copies = 0;                      // kPut: made, here too
  std::uint8_t elsewhere = 0;                   // kPut: of these, not here
};

// The end of an operation on another node's store.
struct PoolStoreDone {
  std::uint64_t ticket = 0;
  Code code = Code::kOk;
  std::uint32_t length = 0;
  std::string_view node;  // whose store it is about; valid until the next Poll
};

class Pool {
 public:
  virtual ~Pool() = default;

  // Makes memory known that operations will name.
  virtual absl::StatusOr<MemoryId> Register(std::span<char> memory) = 0;

  // False: its queue is full; ask again after a completion.
  virtual bool Submit(const PoolOp& op) = 0;

  // Are there nodes, this one or others, that could have a block?
  virtual bool usable() const = 0;
  // On how many nodes could a new block be put now, this one among them? And
  // without it?
  virtual std::size_t places() const = 0;
  virtual std::size_t places_elsewhere() const = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_POOL_H_
