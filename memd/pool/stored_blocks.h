// What this node's own store has, for peers that ask for it: a durable block is
// found as long as one node that wrote it down lives, whatever became of its
// copies in memory.
//
// Ownership: none. Threads: reactor-only. Errors: as the answers say. Cost:
// Lookup: a hash; Load never blocks.
#ifndef AGENTMEM_MEMD_POOL_STORED_BLOCKS_H_
#define AGENTMEM_MEMD_POOL_STORED_BLOCKS_H_

#include <cstdint>

#include "proto/types.h"

namespace agentmem {

class StoredBlocks {
 public:
  struct Found {
    BlockClass block_class = BlockClass::kCache;
    std::uint32_t length = 0;
    bool corrupt = false;  // and nothing can be read
  };

  virtual ~StoredBlocks() = default;

  // `tenant`: its number in the cluster.
  virtual bool Lookup(std::uint64_t tenant, const Key& key, Found* found) = 0;
  // Reads it into `to`; PoolNode::OnLoaded tells the end. False: the store's
  // queue is full.
  virtual bool Load(std::uint64_t tenant, const Key& key, char* to,
                    std::uint32_t length, std::uint64_t generation) = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_STORED_BLOCKS_H_
