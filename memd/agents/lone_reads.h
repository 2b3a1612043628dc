// A block read from the store by the thread that wants it: two wake-ups less
// than by way of the tenant, and nothing of it stays in the tenant's DRAM. One
// at a time for a tenant: who finds it busy asks the tenant, which also keeps
// what many want.
//
// Ownership: borrows the store, which must outlive it. Threads: thread-safe.
// Errors: every failure is `false`: the tenant's answer says what is wrong.
// Cost: a read of the disk. Memory: 64 KiB and a SegmentReader's.
#ifndef AGENTMEM_MEMD_AGENTS_LONE_READS_H_
#define AGENTMEM_MEMD_AGENTS_LONE_READS_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "memd/store/aligned_buffer.h"
#include "memd/store/block_store.h"
#include "proto/types.h"

namespace agentmem {

class LoneReads {
 public:
  static constexpr std::uint32_t kBytesMax = 64 << 10;

  LoneReads(BlockStore* store, TenantId tenant);

  // Calls `use` with the block's bytes, which are gone when it returns. False:
  // it was not called.
  bool Read(const Key& key, std::uint32_t length,
            absl::FunctionRef<void(const char*)> use);

 private:
  const TenantId tenant_;
  const std::unique_ptr<LoneReader> reader_;
  const AlignedBuffer buffer_;
  std::atomic<bool> busy_ = false;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_LONE_READS_H_
