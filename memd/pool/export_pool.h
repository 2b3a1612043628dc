// The memory that this node lends to the cluster: export extents, and which
// block lies where in them. Peers read and write the bytes by one-sided
// operations; this is the book.
//
// The life of a record:
//
//   none --Reserve--> reserved --Commit--> committed --Drop, evicted--> none
//      \               ^    \--- not committed within kReservationNs ---/
//       ReserveAhead--Name
//
// Of one name any number may be reserved, and one is committed: the first. Room
// that is reserved ahead has no name yet; kAheadPart of all is the most, and
// none where little is left (kAheadLeftPart): what nobody names lies idle for
// kReservationNs, and who needs it then is refused.
//
// Each life of a place has a generation of its own, which never repeats. The
// checksum is the writer's word and covers tenant, key and generation: who
// reads a place that has got another life meanwhile finds that it does not fit.
//
// `cache` blocks leave when room is needed, the least recently found first;
// `state` blocks never, until they are dropped, but for those that this node's
// own store has; of these a tenant gets its share (tenant_shares.h). A drop is
// remembered for kReservationNs: what was reserved before it is not committed
// after it, and repair, which copies what another node had not dropped yet, is
// refused.
//
// Ownership: borrows the memory. Threads: reactor-only. Errors: codes, as the
// messages carry them. Cost: O(1); Reserve when full: as DataPool::FindWindow.
#ifndef AGENTMEM_MEMD_POOL_EXPORT_POOL_H_
#define AGENTMEM_MEMD_POOL_EXPORT_POOL_H_

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "memd/dram/data_pool.h"
#include "memd/pool/block_cipher.h"
#include "memd/pool/tenant_shares.h"
#include "proto/pool_messages.h"
#include "proto/types.h"

namespace agentmem {

class ExportPool {
 public:
  struct Name {
    std::uint64_t tenant = 0;
    Key key;
    friend bool operator==(const Name&, const Name&) = default;
    template <typename H>
    friend H AbslHashValue(H state, const Name& name) {
      return H::combine(std::move(state), name.tenant, name.key);
    }
  };
  struct Block {
    Name name;
    BlockClass block_class = BlockClass::kCache;
    std::uint32_t length = 0;
    std::uint64_t offset = 0;
    std::uint64_t generation = 0;
    std::uint64_t checksum = 0;
    std::uint64_t owner = 0;  // the node that put it
    std::uint8_t copies = 1;  // on so many nodes, this one among them
    SealedHeader seal = {};   // format 0: the bytes are as they were put
    // This node's store has it: it may leave, whatever its class.
    bool below = false;
    bool MayLeave() const { return block_class == BlockClass::kCache || below; }
  };
  // What left without its owner's asking for it.
  struct Evicted {
    Name name;
    std::uint64_t generation = 0;
    std::uint64_t owner = 0;
  };

  // Of the memory whole extents are used. `generation`: of the first record; of
  // another run it must be another one.
  ExportPool(std::span<char> memory, std::uint64_t generation);

  // `block`: name, class, length, owner; offset and generation are filled in.
  // `repair`: it is a copy of one that lies elsewhere. ALREADY_EXISTS: a
  // committed block of that name and length is there (its class may rise to
  // state). ABORTED: a state block of that name has another length, or, of a
  // repair, it was dropped. RESOURCE_EXHAUSTED; INVALID_ARGUMENT: the length.
  Code Reserve(Block* block, TimeNs now, bool repair = false);
  // `block`: length, owner; offset and generation are filled in. For any block
  // of that size class. RESOURCE_EXHAUSTED: also where there is little room;
  // INVALID_ARGUMENT: the length.
  Code ReserveAhead(Block* block, TimeNs now);
  // The block that lies in the room reserved ahead under its generation; from
  // here on it is as if Reserve had been asked for it. NOT_FOUND: no such room
  // of that owner; INVALID_ARGUMENT: it does not fit.
  Code NameReserved(const Block& block);
  // A place that this node itself keeps until Commit or Abandon, whatever has
  // that name already; `block->below` is set. RESOURCE_EXHAUSTED;
  // INVALID_ARGUMENT: the length.
  Code Stage(Block* block, TimeNs now);
  // After the last byte was written. ALREADY_EXISTS: another writer was first,
  // and its bytes stay. NOT_FOUND: no such reservation, or dropped meanwhile.
  // ABORTED: a state block of that name has another length.
  Code Commit(const Name& name, std::uint64_t generation,
              std::uint64_t checksum, const SealedHeader& seal = {});
  // Of reserved ones; nullptr: none of that generation.
  const Block* Reserved(std::uint64_t generation) const;
  // Of committed ones; nullptr: none. Valid until the next call.
  const Block* Find(const Name& name);
  // Of any generation, reserved ones too. NOT_FOUND: none was committed.
  Code Drop(const Name& name, TimeNs now);
  // A reservation of this node's own, which nobody else writes to.
  void Abandon(std::uint64_t generation);
  // This copy alone: it is at home elsewhere. NOT_FOUND.
  Code Leave(const Name& name, std::uint64_t generation);

  void ExpireReservations(TimeNs now);
  std::vector<Evicted> TakeEvicted() { return std::exchange(evicted_, {}); }

  // Walks over committed blocks: from `cursor` on (0: the first) at most
  // `count_max` records are looked at; the cursor to go on with, 0 at the end.
  std::size_t Walk(std::size_t cursor, std::size_t count_max,
                   absl::FunctionRef<void(const Block&)> visit) const;

  char* At(std::uint64_t offset) const { return memory_.data() + offset; }
  std::uint64_t capacity_bytes() const { return pool_.capacity_bytes(); }
  std::uint64_t used_bytes() const { return pool_.used_bytes(); }
  // Of what could be had: what is free, and cache blocks.
  std::uint64_t room_bytes() const {
    return capacity_bytes() - used_bytes() + cache_bytes_;
  }
  // Extents below this one have been used: what to touch ahead.
  std::uint32_t extents_touched() const { return pool_.extents_touched(); }
  std::uint64_t blocks() const { return committed_; }
  std::uint64_t state_blocks() const { return state_; }
  // Of blocks; without what is reserved ahead.
  std::uint64_t reservations() const { return reserved_.size() - ahead_; }
  std::uint64_t ahead_bytes() const { return ahead_bytes_; }
  std::uint64_t evictions() const { return evictions_; }
  std::uint64_t reservations_expired() const { return expired_; }
  // Blocks that may not leave, and found no room: they are worth a collection.
  std::uint64_t refused() const { return refused_; }
  // For tests: empty, or what is wrong.
  std::string CheckInvariants() const;

 private:
  static constexpr std::uint32_t kNone = 0xffffffff;
  // Drops remembered; beyond, the oldest are forgotten.
  static constexpr std::size_t kDropsMax = 1 << 17;
  // One in so many bytes may be reserved ahead.
  static constexpr std::uint64_t kAheadPart = 8;
  static constexpr std::uint64_t kAheadLeftPart = 4;

  struct Record {
    Block block;
    bool used = false;
    bool committed = false;
    bool ahead = false;   // reserved, and has no name yet
    bool shared = false;  // counted in shares_
    // In the order of use, if it is committed and may leave.
    std::uint32_t older = kNone;
    std::uint32_t newer = kNone;
  };

  bool WasDropped(const Name& name, std::uint64_t generation) const;
  // After a change of what makes a record's bytes its tenant's: a name, its
  // class, that it is below, that it is used.
  void Share(std::uint32_t index);
  // Its tenant has as much as it may have of what does not leave.
  bool IsShareUsed(const Block& block) const;
  // It is the last one used; its class may rise to `state`.
  void Use(std::uint32_t index, BlockClass block_class);
  void Keep(std::uint32_t index, const Block& put);
  bool MayGo(std::uint32_t index) const;
  bool MakeRoom(std::uint8_t size_class);
  Code Place(Block* block, TimeNs now, bool ahead);
  Code Refuse() {
    ++refused_;
    return Code::kResourceExhausted;
  }
  void Evict(std::uint32_t index);
  void ForgetDrop();
  void Free(std::uint32_t index);
  void Link(std::uint32_t index);
  void Unlink(std::uint32_t index);
  std::uint32_t NewRecord();

  const std::span<char> memory_;
  DataPool pool_;
  std::uint64_t next_generation_;
  std::vector<Record> records_;
  std::vector<std::uint32_t> free_records_;
  absl::flat_hash_map<Name, std::uint32_t> by_name_;            // committed
  absl::flat_hash_map<std::uint64_t, std::uint32_t> reserved_;  // by generation
  std::uint32_t oldest_ = kNone;
  std::uint32_t newest_ = kNone;
  struct Reservation {
    std::uint64_t generation;
    TimeNs at;
  };
  std::deque<Reservation> reservations_;  // by age; ended ones among them
  struct Dropped {
    Name name;
    std::uint64_t generation;  // the next one, as it was dropped
    TimeNs at;
  };
  std::deque<Dropped> drops_;                         // by age
  absl::flat_hash_map<Name, std::uint64_t> dropped_;  // name, generation
  std::vector<Evicted> evicted_;
  std::vector<SlotIndex> window_;  // scratch
  TenantShares shares_;
  std::uint64_t cache_bytes_ = 0;  // of slots of committed ones that may leave
  std::uint64_t ahead_ = 0;        // records
  std::uint64_t ahead_bytes_ = 0;  // of their slots
  std::uint64_t committed_ = 0;
  std::uint64_t state_ = 0;  // that may not
  std::uint64_t evictions_ = 0;
  std::uint64_t expired_ = 0;
  std::uint64_t refused_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_EXPORT_POOL_H_
