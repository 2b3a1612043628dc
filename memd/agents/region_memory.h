// How much of a tenant's DRAM its regions may use.
//
// The budget is one for blocks and regions: what regions use is lent by the
// pool of blocks, in extents. An extent is lent as a slot of an extent's size
// that stays granted, and whose pages are given back to the kernel; region
// pages then take their place. At most `lent_bytes_max` are lent: what regions
// spill has to pass through the pool.
//
// No client holds an extent that is lent (dram/extent_holds.h). Clients that
// hold them all, and do not answer, cost the regions of their own tenant that
// memory: they do with what they have, as when the pool is full.
//
//   lent = used + spare,   spare < 2 extents once things are quiet
//
// Where the network has the tenant's memory pinned, its device goes on moving
// the pages that were given back (TransportLimits::pins_memory): blocks that
// came to lie there would be sent as they are not. Nor would the system get
// anything back. So there nothing is lent: regions use as much memory beside
// the tenant's DRAM.
//
// Ownership: owns ports of its own. Threads: thread-safe. Errors: Take says
// false: the caller lets pages go and asks again. Cost: a mutex; when an extent
// has to be lent or given back, the reactor's answer (blocks may have to be
// written down first).
#ifndef AGENTMEM_MEMD_AGENTS_REGION_MEMORY_H_
#define AGENTMEM_MEMD_AGENTS_REGION_MEMORY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "memd/agents/block_port.h"

namespace agentmem {

class RegionMemory {
 public:
  enum class Dram : std::uint8_t { kLendable, kPinned };

  RegionMemory(PortSource* ports, const Clock* clock, std::string tenant,
               std::uint64_t dram_bytes, Dram dram);

  // `bytes` more are used; false: nothing was taken.
  bool Take(std::uint64_t bytes) AGENTMEM_EXCLUDES(mutex_);
  void Give(std::uint64_t bytes) AGENTMEM_EXCLUDES(mutex_);

  std::uint64_t used_bytes() AGENTMEM_EXCLUDES(mutex_);
  // What regions use at most, wherever it comes from.
  std::uint64_t lent_bytes_max() const { return lent_bytes_max_; }

 private:
  struct Lent {
    BlockPort* port;
    BlockPort::Grant grant;
  };
  // Waits.
  bool Lend(BlockPort* port, BlockPort::Grant* grant) const;
  BlockPort* PortWithRoom() AGENTMEM_REQUIRES(mutex_);

  PortSource* const ports_source_;
  const Clock* const clock_;
  const std::string tenant_;
  const std::uint64_t lent_bytes_max_;
  const Dram dram_;

  Mutex mutex_;
  std::vector<std::unique_ptr<BlockPort>> ports_ AGENTMEM_GUARDED_BY(mutex_);
  std::vector<Lent> lent_ AGENTMEM_GUARDED_BY(mutex_);
  std::uint64_t used_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  bool lending_ AGENTMEM_GUARDED_BY(mutex_) = false;   // a thread asks for more
  TimeNs lend_again_ AGENTMEM_GUARDED_BY(mutex_) = 0;  // not before
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_REGION_MEMORY_H_
