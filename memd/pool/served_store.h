// This node's own store, as peers without a disk use it.
//
// Ownership: none; the bytes of a Write stay valid until its end was told.
// Threads: reactor-only. Errors: in the verdicts. Cost: nothing blocks.
#ifndef AGENTMEM_MEMD_POOL_SERVED_STORE_H_
#define AGENTMEM_MEMD_POOL_SERVED_STORE_H_

#include <cstdint>

#include "proto/store_messages.h"
#include "proto/types.h"

namespace agentmem {

// A peer's block, on its way into the store.
struct ServedBlock {
  std::uint64_t tenant = 0;  // its number in the cluster
  Key key;
  BlockClass block_class = BlockClass::kCache;
  bool durable = false;
  std::uint32_t length = 0;
};

struct StoreVerdict {
  Code code = Code::kOk;
  StoreRefusal refusal = StoreRefusal::kNone;
  std::uint64_t limit_bytes = 0;  // of what refuses, and how much is used
  std::uint64_t used_bytes = 0;
};

class ServedStore {
 public:
  virtual ~ServedStore() = default;

  // May it be written? ALREADY_EXISTS: it is there, as safe as was asked for.
  virtual StoreVerdict Admit(const ServedBlock& block) = 0;
  // Writes what was admitted; StoreServer::OnStored tells the end. False: the
  // store's queue is full.
  virtual bool Write(const ServedBlock& block, const char* bytes,
                     std::uint64_t generation) = 0;
  // A copy of class cache, or whatever there is if it says state. False: it has
  // the block as state, and keeps it.
  virtual bool Erase(std::uint64_t tenant, const Key& key,
                     BlockClass block_class) = 0;
  // What all blocks in it take, and what it takes at most.
  virtual std::uint64_t used_bytes() const = 0;
  virtual std::uint64_t serve_bytes() const = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_SERVED_STORE_H_
