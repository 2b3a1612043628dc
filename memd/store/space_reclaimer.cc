#include "memd/store/space_reclaimer.h"

#include <algorithm>
#include <tuple>

#include "base/log.h"
#include "base/status.h"
#include "memd/store/block_locations.h"
#include "proto/segment_layout.h"

namespace agentmem {
namespace {

SegmentRange RangeOf(const BlockLocation& location) {
  return {location.place.segment, location.place.offset,
          SegmentAlignUp(location.block.length), 1};
}

// Sorts the ranges, leaves out what comes twice (a record may be freed again
// when the database was opened anew in between) and joins those that touch.
void Join(std::vector<SegmentRange>* ranges) {
  std::sort(ranges->begin(), ranges->end(),
            [](const SegmentRange& a, const SegmentRange& b) {
              return std::tie(a.segment, a.offset) <
                     std::tie(b.segment, b.offset);
            });
  std::size_t count = 0;
  for (const SegmentRange& range : *ranges) {
    SegmentRange* const last = count > 0 ? &(*ranges)[count - 1] : nullptr;
    const bool same_segment = last != nullptr && last->segment == range.segment;
    if (same_segment && range.offset < last->offset + last->bytes) continue;
    if (same_segment && last->offset + last->bytes == range.offset) {
      last->bytes += range.bytes;
      last->records += range.records;
    } else {
      (*ranges)[count++] = range;
    }
  }
  ranges->resize(count);
}

}  // namespace

SpaceReclaimer::SpaceReclaimer(RocksDatabase* database, SegmentSet* segments)
    : database_(database), segments_(segments), thread_([this] { Loop(); }) {}

SpaceReclaimer::~SpaceReclaimer() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  waits_.NotifyAll();
  thread_.join();
  const absl::Status reclaimed = Reclaim();
  if (!reclaimed.ok()) LogError(StatusMessage(reclaimed));
}

void SpaceReclaimer::Free(std::span<const FreedRecord> records) {
  if (records.empty()) return;
  bool round_waits = false;
  {
    MutexLock lock(&mutex_);
    freed_.insert(freed_.end(), records.begin(), records.end());
    new_records_ += records.size();
    for (const FreedRecord& record : records) {
      new_bytes_ += SegmentAlignUp(record.location.block.length);
    }
    round_waits = new_bytes_ >= kRoundBytes || new_records_ >= kRoundRecords;
  }
  if (round_waits) waits_.NotifyOne();
}

void SpaceReclaimer::Loop() {
  for (;;) {
    {
      MutexLock lock(&mutex_);
      while (new_bytes_ < kRoundBytes && new_records_ < kRoundRecords &&
             !stopping_) {
        waits_.Wait(&mutex_);
      }
      if (stopping_) return;
    }
    const absl::Status reclaimed = Reclaim();
    if (!reclaimed.ok()) {
      database_->LogOnce("space of deleted blocks is not given back yet: " +
                         StatusMessage(reclaimed));
    }
  }
}

absl::Status SpaceReclaimer::Reclaim() {
  MutexLock one_round(&round_mutex_);
  std::vector<FreedRecord> records;
  {
    MutexLock lock(&mutex_);
    records.swap(freed_);
    new_bytes_ = 0;
    new_records_ = 0;
  }
  if (records.empty()) return absl::OkStatus();
  const absl::Status status = Round(records);
  if (status.ok()) return status;
  // Not counted as new: another round comes with more of them.
  MutexLock lock(&mutex_);
  freed_.insert(freed_.end(), records.begin(), records.end());
  return status;
}

absl::Status SpaceReclaimer::Round(std::span<const FreedRecord> records) {
  const bool all_in_log =
      std::all_of(records.begin(), records.end(),
                  [](const FreedRecord& record) { return record.in_log; });
  AGENTMEM_RETURN_IF_ERROR(segments_->SyncWritten());
  AGENTMEM_RETURN_IF_ERROR(all_in_log ? database_->SyncLog()
                                      : database_->Flush());
  std::vector<SegmentRange> ranges;
  {
    AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened,
                              database_->Use());
    for (const FreedRecord& record : records) {
      const StoredBlock& block = record.location.block;
      const absl::StatusOr<BlockLocation> now =
          FindLocation(opened.get(), block.tenant, block.key);
      const bool named = now.ok() && now->place == record.location.place;
      if (!named) ranges.push_back(RangeOf(record.location));
    }
  }
  Join(&ranges);
  // What could not be punched is not tried again: its records are counted off.
  const absl::Status freed = segments_->Free(ranges);
  if (!freed.ok()) database_->LogOnce(StatusMessage(freed));
  return absl::OkStatus();
}

}  // namespace agentmem
