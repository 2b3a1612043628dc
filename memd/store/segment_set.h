// The segment files of a store: their descriptors, and what lives in each.
//
// A segment is appending while a SegmentWriter writes to it, then sealed. It
// is removed when it is sealed and none of its records lives. Records are
// counted as live from their being written until Free; those that an earlier
// process wrote are counted by AddLive from the locations.
//
// Ownership: owns the files in `directory`; borrows the SegmentIo. A
// SegmentFile stays readable while somebody holds it, though its segment was
// removed. Threads: thread-safe, but for Open and AddLive (before anything
// else). Errors: as SegmentIo; Get of a segment that is not there: NOT_FOUND.
// Cost: at most kOpenFilesMax descriptors that nobody uses are kept open; Get
// of another one opens it. Memory: about 150 B a segment, thus 0.6 MiB a TB.
#ifndef AGENTMEM_MEMD_STORE_SEGMENT_SET_H_
#define AGENTMEM_MEMD_STORE_SEGMENT_SET_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "memd/store/record_codec.h"
#include "memd/store/segment_io.h"
#include "memd/store/store_losses.h"

namespace agentmem {

struct SegmentFile {
  std::uint64_t segment = 0;
  UniqueFd fd;
};

// A piece of a segment, of whole sectors.
struct SegmentRange {
  std::uint64_t segment = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint32_t records = 0;  // that lay in it
};

// The numbers of the segments in `directory`.
absl::StatusOr<std::set<std::uint64_t>> ListSegments(
    const std::string& directory);

class SegmentSet {
 public:
  // Calls its argument for the location of every live record.
  using VisitLive = std::function<absl::Status(
      const std::function<void(const BlockLocation&)>&)>;

  static constexpr std::size_t kOpenFilesMax = 128;

  // Makes the directory if it is missing.
  static absl::StatusOr<std::unique_ptr<SegmentSet>> Open(
      const std::string& directory, SegmentIo* io);

  // A record that a location names.
  void AddLive(const BlockLocation& location);

  // Of what AddLive was told: what lies in files that are not there.
  StoreLosses losses() const { return losses_; }

  // After all AddLive: gives back what a crash left: segments without a live
  // record, and the space of records without a location.
  absl::Status SweepOrphans(const VisitLive& visit_live);

  // A new segment, appending, empty.
  absl::StatusOr<std::shared_ptr<SegmentFile>> Create();
  absl::StatusOr<std::shared_ptr<SegmentFile>> Get(std::uint64_t segment);

  // `records` were written; not synced yet.
  void NoteWritten(std::uint64_t segment, std::uint32_t records);
  // `bytes` of space were taken or the file was cut: asks the filesystem.
  void NoteAllocation(const SegmentFile& file);
  // The appending one takes no more: space behind `end` is given back.
  absl::Status Seal(const std::shared_ptr<SegmentFile>& file,
                    std::uint64_t end);

  // Everything that was written before is on stable storage.
  absl::Status SyncWritten();

  // Punches the ranges, whose records nothing names any more, and removes the
  // segments in which none is left. Goes on after an error; the last is told.
  absl::Status Free(std::span<const SegmentRange> ranges);

  // Allocated on the disk. Cheap.
  std::uint64_t disk_bytes() const {
    return disk_bytes_.load(std::memory_order_relaxed);
  }
  SegmentIo* io() const { return io_; }

 private:
  struct Segment {
    std::shared_ptr<SegmentFile> file;        // null: not open
    std::list<std::uint64_t>::iterator used;  // valid while open
    std::uint64_t live_records = 0;
    std::uint64_t live_bytes = 0;  // from AddLive: of their sectors
    std::uint64_t disk_bytes = 0;
    bool appending = false;
    bool written = false;  // since the last sync
  };

  SegmentSet(std::string directory, SegmentIo* io)
      : directory_(std::move(directory)), io_(io) {
    losses_.directory = directory_;
  }
  absl::Status List();
  std::string PathOf(std::uint64_t segment) const;
  // What may hold space that nothing names.
  std::set<std::uint64_t> Suspects();
  // `live`: the offsets of the records that live, and their ends.
  absl::Status SweepSegment(std::uint64_t segment,
                            const std::map<std::uint64_t, std::uint64_t>& live);
  // Unlinks the segment if it can go.
  absl::Status RemoveIfEmpty(std::uint64_t segment);
  void KeepOpen(std::uint64_t segment, std::shared_ptr<SegmentFile> file)
      AGENTMEM_REQUIRES(mutex_);
  void SetDiskBytes(Segment* segment, std::uint64_t bytes)
      AGENTMEM_REQUIRES(mutex_);

  const std::string directory_;
  SegmentIo* const io_;
  std::atomic<std::uint64_t> disk_bytes_ = 0;

  // Constant after the last AddLive.
  StoreLosses losses_;
  std::set<std::uint64_t> missing_;

  Mutex mutex_;  // never held during I/O but of an open or a stat
  std::map<std::uint64_t, Segment> segments_ AGENTMEM_GUARDED_BY(mutex_);
  std::list<std::uint64_t> open_ AGENTMEM_GUARDED_BY(mutex_);  // last used last
  std::uint64_t next_segment_ AGENTMEM_GUARDED_BY(mutex_) = 1;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_SEGMENT_SET_H_
