// ExportPool: what must hold of its books, for tests.
#include "memd/pool/export_pool.h"
#include "proto/size_class.h"

namespace agentmem {

std::string ExportPool::CheckInvariants() const {
  std::uint64_t used = 0;
  std::uint64_t committed = 0;
  std::uint64_t state = 0;
  std::uint64_t cache = 0;
  std::uint64_t ahead = 0;
  std::uint64_t shared = 0;
  std::size_t free = 0;
  for (std::uint32_t i = 0; i < records_.size(); ++i) {
    const Record& record = records_[i];
    if (!record.used) {
      ++free;
      continue;
    }
    const std::uint64_t bytes =
        SizeClassBytes(SizeClassOf(record.block.length));
    used += bytes;
    if (record.ahead) ahead += bytes;
    if (!record.ahead && !record.block.MayLeave()) shared += bytes;
    if (!record.committed) {
      const auto found = reserved_.find(record.block.generation);
      if (found == reserved_.end() || found->second != i) {
        return "a reservation that its generation does not lead to";
      }
      continue;
    }
    const auto found = by_name_.find(record.block.name);
    if (found == by_name_.end() || found->second != i) {
      return "a block that its name does not lead to";
    }
    ++committed;
    if (record.block.MayLeave()) {
      cache += bytes;
    } else {
      ++state;
    }
  }
  if (free != free_records_.size()) return "free records are not in the list";
  if (by_name_.size() + reserved_.size() + free != records_.size()) {
    return "names, reservations and records";
  }
  if (reserved_.size() > reservations_.size()) return "reservations by age";
  if (dropped_.size() > drops_.size()) return "drops by age";
  if (used != pool_.used_bytes()) return "the pool's bytes and the records'";
  if (committed != committed_ || state != state_) return "counts of blocks";
  if (shared != shares_.All()) return "bytes of tenants' shares";
  if (ahead != ahead_bytes_) return "bytes reserved ahead";
  if (cache != cache_bytes_) return "bytes of cache blocks";
  std::uint64_t linked = 0;
  for (std::uint32_t i = oldest_; i != kNone; i = records_[i].newer) ++linked;
  return linked == committed - state ? "" : "the order of use";
}

}  // namespace agentmem
