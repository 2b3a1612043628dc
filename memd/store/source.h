// Source: where a miss may be filled from. The store now; other nodes later.
//
// A tenant asks its sources in order of cost; the first that may have the block
// is asked to read it into a slot. A source that was wrong answers NOT_FOUND,
// and the next one is asked.
//
// Ownership: the caller's buffer stays valid until the completion was taken.
// Threads: reactor-only. Errors: in the completion, as BlockStore's.
// Cost: never blocks.
#ifndef AGENTMEM_MEMD_STORE_SOURCE_H_
#define AGENTMEM_MEMD_STORE_SOURCE_H_

#include <cstdint>

#include "memd/store/block_store.h"

namespace agentmem {

class Source {
 public:
  virtual ~Source() = default;
  virtual Tier tier() const = 0;
  // Reads `length` bytes of the block into `to`; false when its queue is full
  // (ask again after a completion).
  virtual bool Fetch(TenantId tenant, const Key& key, void* to,
                     std::uint32_t length, std::uint64_t ticket) = 0;
};

class StoreSource final : public Source {
 public:
  explicit StoreSource(BlockStore* store) : store_(store) {}
  Tier tier() const override { return Tier::kStore; }
  bool Fetch(TenantId tenant, const Key& key, void* to, std::uint32_t length,
             std::uint64_t ticket) override {
    StoreOp op;
    op.kind = StoreOp::Kind::kGet;
    op.tenant = tenant;
    op.key = key;
    op.ticket = ticket;
    op.bytes[0] = {to, length};
    return store_->Submit({&op, 1}) == 1;
  }

 private:
  BlockStore* const store_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_SOURCE_H_
