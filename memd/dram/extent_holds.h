// Which clients hold which extents of a tenant's data memfd, and which extents
// memd gives away: never both at once.
//
//   free of holds <--hold, release--> held --retire--> asked for
//        |    ^                         ^                  |
//      lend  take back                  '--- nobody answers (it stays held)
//        v    |                              answered or dead: free of holds
//       lent -'
//
// Memory that is registered with a device stays what it was when its pages are
// given back to the system, and from then on is another memory than what others
// see there. So a client holds an extent before it registers it, and memd lends
// to who gives the pages back only what nobody holds. What is lent, or was just
// asked for, cannot be held: OK is never said to a client that is about to
// learn otherwise.
//
// A retire is one question to one client for one extent, with a token that is
// never used again. Its answer ends the hold; so do a release and the client's
// death, and an answer that comes after them says nothing. A client is asked
// for kRetiresMax extents at most before it answers.
//
// Bounds: a bit for each extent and client that ever held one, and 16 bytes an
// extent; clients x kRetiresMax questions. Nothing that clients do adds more.
//
// Ownership: owns its books; borrows the pool, which learns what is held.
// Threads: reactor-only. Errors: Hold says which extent it cannot. Cost: O(1)
// an extent; what looks for an extent's holders: O(clients that hold).
#ifndef AGENTMEM_MEMD_DRAM_EXTENT_HOLDS_H_
#define AGENTMEM_MEMD_DRAM_EXTENT_HOLDS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "base/clock.h"
#include "memd/dram/data_pool.h"
#include "proto/types.h"

namespace agentmem {

class ExtentHolds {
 public:
  // A small part of a client's 2048 completions, where questions wait too.
  static constexpr std::size_t kRetiresMax = 64;
  // So long an extent that was asked for is kept free of new holds: whoever
  // wants it may have to see blocks off it first, and tries more than once.
  static constexpr DurationNs kWantedNs = kSecondNs;
  // So long what a dead client's devices may write to is nobody else's: its
  // copies wait for its kernels before them.
  static constexpr DurationNs kOutlivedNs = 5 * kSecondNs;

  explicit ExtentHolds(DataPool* pool);

  // All of [first, first + count), or none: then the first that cannot be. In
  // the pool, and once is as good as twice.
  std::optional<std::uint32_t> Hold(ClientId client, std::uint32_t first,
                                    std::uint32_t count, TimeNs now);
  // Of those, what the client holds. True: one of them is free of holds now.
  bool Release(ClientId client, std::uint32_t first, std::uint32_t count);
  bool Answer(ClientId client, std::uint64_t token);
  bool RemoveClient(ClientId client);

  bool IsHeld(std::uint32_t extent) const {
    return extents_[extent].holders != 0;
  }
  // Held by clients that were not asked for it yet, and that `may_ask` takes.
  bool MayRetire(std::uint32_t extent,
                 absl::FunctionRef<bool(ClientId)> may_ask) const;
  // Asks each holder: ask(client, token).
  void Retire(std::uint32_t extent, TimeNs now,
              absl::FunctionRef<void(ClientId, std::uint64_t)> ask);

  // Its pages will be given back to the system. Not held.
  void Lend(std::uint32_t extent);
  void TakeBack(std::uint32_t extent);

  std::uint64_t held_bytes() const { return held_ * kExtentBytes; }
  std::uint64_t held_bytes(ClientId client) const;

  // For tests: empty, or what is wrong.
  const char* CheckInvariants() const;

 private:
  struct Extent {
    std::uint32_t holders = 0;
    bool lent = false;
    TimeNs wanted_until = 0;
  };
  struct Holder {
    std::vector<std::uint64_t> bits;  // of the extents
    std::uint64_t count = 0;
    absl::flat_hash_map<std::uint32_t, std::uint64_t> asked;  // extent: token
  };

  static bool Has(const Holder& holder, std::uint32_t extent) {
    return ((holder.bits[extent / 64] >> (extent % 64)) & 1) != 0;
  }
  // True: it is free of holds.
  bool End(Holder* holder, std::uint32_t extent);

  DataPool* const pool_;
  std::vector<Extent> extents_;
  absl::flat_hash_map<ClientId, Holder> holders_;
  std::uint64_t held_ = 0;  // extents
  std::uint64_t last_token_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_DRAM_EXTENT_HOLDS_H_
