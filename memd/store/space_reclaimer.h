// Gives the space of deleted and replaced records back, once no crash can bring
// their locations back.
//
// A record is freed when a batch that deletes or replaces its location was
// written. Its space is punched out only after the log was synced (or, where
// the batch was not in the log, the tables flushed); and after the segments
// were, since what replaced it may lie in one. In rounds, when kRoundBytes or
// kRoundRecords wait, or when asked: a sync for each deletion would cost more
// than the space is worth. A put that failed frees what it had written: if its
// location is found in the database after all, the record stays.
//
// Ownership: borrows database and segments, which must outlive it. Its end runs
// a last round. Threads: thread-safe. Errors: a failed round is logged, and
// what it has not punched waits for the next one, or for the sweep of the next
// start. Cost: Free takes a mutex; the rounds run in a thread of its own.
// Memory: 64 B a record that waits: about 1 MiB, more only while rounds fail.
#ifndef AGENTMEM_MEMD_STORE_SPACE_RECLAIMER_H_
#define AGENTMEM_MEMD_STORE_SPACE_RECLAIMER_H_

#include <span>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "memd/store/record_codec.h"
#include "memd/store/rocks_database.h"
#include "memd/store/segment_set.h"

namespace agentmem {

struct FreedRecord {
  BlockLocation location;
  bool in_log = true;  // the batch that freed it
};

class SpaceReclaimer {
 public:
  static constexpr std::uint64_t kRoundBytes = 32 << 20;
  static constexpr std::size_t kRoundRecords = 1024;

  SpaceReclaimer(RocksDatabase* database, SegmentSet* segments);
  ~SpaceReclaimer();

  void Free(std::span<const FreedRecord> records);

  // Runs a round of all that waits; blocks.
  absl::Status Reclaim() AGENTMEM_EXCLUDES(round_mutex_);

 private:
  void Loop();
  absl::Status Round(std::span<const FreedRecord> records);

  RocksDatabase* const database_;
  SegmentSet* const segments_;

  Mutex round_mutex_;  // one round at a time; taken before mutex_
  Mutex mutex_;
  CondVar waits_;
  std::vector<FreedRecord> freed_ AGENTMEM_GUARDED_BY(mutex_);
  // Freed since the last round began.
  std::uint64_t new_bytes_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  std::size_t new_records_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  bool stopping_ AGENTMEM_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_SPACE_RECLAIMER_H_
