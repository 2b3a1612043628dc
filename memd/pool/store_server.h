// What peers without a disk keep in this node's store: their side of
// proto/store_messages.h, apart from the network.
//
// The life of a block that is on its way:
//
//   none --Stage--> staged --Keep--> kept --> writing --OnStored--> none
//                     \- not within kReservationNs-> none
//
// Staged, its place in the export extents is the peer's to write to. From Keep
// on it belongs to the store, which reads from there (or, where blocks are
// sealed, from a buffer that it was opened into: the disk has what this node's
// own blocks have). When it is written down, the copy in memory may be found,
// and leave at any time.
//
// Ownership: borrows exports, store and sealing. Threads: reactor-only.
// Errors: in the answers, with the reason. Cost: O(1) an entry, and a hash of
// the bytes; Tick: O(places that ran out). Bounds: of each peer a quarter of
// the export extents is staged or being written at most.
#ifndef AGENTMEM_MEMD_POOL_STORE_SERVER_H_
#define AGENTMEM_MEMD_POOL_STORE_SERVER_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "memd/pool/export_pool.h"
#include "memd/pool/pool_peer.h"
#include "memd/pool/sealing.h"
#include "memd/pool/served_store.h"
#include "proto/store_messages.h"

namespace agentmem {

class StoreServer {
 public:
  // Who asked to keep blocks, and in which message.
  struct Asker {
    std::uint32_t peer = 0;
    std::uint64_t instance = 0;  // of its memd
    std::uint64_t request = 0;
  };
  struct Answer {
    Asker asker;
    std::vector<StoreKept> kept;  // in the order of the request
    std::uint32_t left = 0;
  };

  // `sealing` may be null: blocks travel as they are.
  StoreServer(ExportPool* exports, ServedStore* store, Sealing* sealing)
      : exports_(exports), store_(store), sealing_(sealing) {}

  StoreStaged Stage(const Asker& asker, const StoreStage& asked, TimeNs now);
  // The answer comes by TakeAnswers, once all of them have ended.
  void Keep(const Asker& asker, std::span<const StoreKeep> asked);
  PoolDone Erase(const StoreErase& asked, TimeNs now);
  // The end of a ServedStore::Write.
  void OnStored(std::uint64_t generation, const StoreVerdict& verdict);

  // Gives what waits for a buffer or for the store's queue another try.
  void Pump();
  void Tick(TimeNs now);
  std::vector<Answer> TakeAnswers() { return std::exchange(answers_, {}); }

  ServedStoreSnapshot Snapshot() const;
  // For tests: empty, or what is wrong.
  std::string CheckInvariants() const;

 private:
  struct Entry {
    ServedBlock block;
    std::uint64_t offset = 0;
    std::uint32_t peer = 0;
    bool kept = false;  // by whom, and as which entry of his message:
    std::uint64_t answer = 0;
    std::uint32_t index = 0;
    std::uint64_t checksum = 0;
    SealedHeader seal = {};
    char* buffer = nullptr;  // of the sealing
    bool whole = false;      // its bytes fit
    bool writing = false;
  };
  struct Staged {
    std::uint64_t generation = 0;
    TimeNs at = 0;
  };

  StoreVerdict KeepOne(const Asker& asker, const StoreKeep& asked,
                       std::uint64_t answer, std::uint32_t index);
  // False: no buffer, or no room in the store's queue now.
  bool Begin(std::uint64_t generation);
  // Are these the bytes that were sent? Nothing: not known yet.
  std::optional<bool> Check(std::uint64_t generation, Entry* entry);
  void End(std::uint64_t generation, const StoreVerdict& verdict);
  void Reply(std::uint64_t answer, std::uint32_t index,
             const StoreVerdict& verdict);

  ExportPool* const exports_;
  ServedStore* const store_;
  Sealing* const sealing_;
  absl::flat_hash_map<std::uint64_t, Entry> entries_;  // by generation
  std::deque<Staged> staged_;          // by age; ended ones among them
  std::deque<std::uint64_t> waiting_;  // kept, and not begun
  absl::flat_hash_map<std::uint32_t, std::uint64_t> bytes_of_;  // a peer's
  absl::flat_hash_map<std::uint64_t, Answer> open_;
  std::uint64_t next_answer_ = 1;
  std::vector<Answer> answers_;
  ServedStoreSnapshot counters_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_STORE_SERVER_H_
