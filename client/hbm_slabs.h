// Device memory in slabs, each cut into slots of one size class: only the
// books, nothing here calls the device.
//
//   empty --Take--> slots of a class, some used --GiveBack of the last--> empty
//     ^                      |
//     Add                  Close: no slot of it is taken any more
//     RemoveEmpty            |
//
// Slots are taken from the oldest slab that has one, so that the newer ones
// run empty.
//
// Ownership: of its books; memory is the caller's. Threads: thread-compatible.
// Errors: no room is false. Cost: O(log slabs) a call; a slab keeps 4 bytes a
// slot.
#ifndef AGENTMEM_CLIENT_HBM_SLABS_H_
#define AGENTMEM_CLIENT_HBM_SLABS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "cuda/device.h"
#include "proto/size_class.h"

namespace agentmem::client {

inline constexpr std::uint32_t kNoEntry = UINT32_MAX;

class HbmSlabs {
 public:
  struct Slot {
    std::uint32_t slab = 0;
    std::uint32_t index = 0;  // in the slab
    DeviceAddress at;
  };
  struct Memory {
    DeviceAddress at;
    std::uint64_t bytes = 0;
  };

  // A slot of that class, of the slabs that there are. It keeps `entry`, which
  // is the caller's word for what is in it.
  bool Take(std::size_t size_class, std::uint32_t entry, Slot* slot);
  void GiveBack(const Slot& slot);

  void Add(const Memory& memory);
  // Takes an empty slab out, rather a closed one.
  bool RemoveEmpty(Memory* memory);

  void Close(std::uint32_t slab);
  void Reopen(std::uint32_t slab);
  bool is_closed(std::uint32_t slab) const { return slabs_[slab].is_closed; }

  std::size_t class_of(std::uint32_t slab) const {
    return slabs_[slab].size_class;
  }
  std::uint64_t bytes(std::uint32_t slab) const {
    return slabs_[slab].memory.bytes;
  }
  // Slots of it that are in use.
  std::uint32_t used(std::uint32_t slab) const { return slabs_[slab].used; }
  // The entries in it.
  std::vector<std::uint32_t> EntriesOf(std::uint32_t slab) const;
  // Those that are closed, and those that are not and hold something.
  const std::set<std::uint32_t>& closed() const { return closed_; }
  std::vector<std::uint32_t> Open() const;
  std::uint64_t allocated_bytes() const { return allocated_bytes_; }

 private:
  struct Slab {
    Memory memory;  // 0 bytes: it was taken out, its place is free
    std::size_t size_class = kSizeClasses;  // kSizeClasses: it is empty
    bool is_closed = false;
    std::uint32_t used = 0;
    std::vector<std::uint32_t> entries;  // of each slot, or kNoEntry
    std::vector<std::uint32_t> free;     // slots
  };

  void Begin(std::uint32_t slab, std::size_t size_class);

  std::vector<Slab> slabs_;
  std::vector<std::uint32_t> free_places_;
  std::set<std::uint32_t> empty_;  // not closed
  std::set<std::uint32_t> closed_;
  // Not closed, of that class, with a free slot.
  std::array<std::set<std::uint32_t>, kSizeClasses> with_room_;
  std::uint64_t allocated_bytes_ = 0;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_HBM_SLABS_H_
