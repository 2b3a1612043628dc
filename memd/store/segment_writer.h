// One append stream: groups of blocks, one behind the other, into a segment;
// when it is full, into a new one.
//
// A group is one write from the callers' buffers. Only what direct I/O cannot
// take from there is copied: the last sector of a block whose length is no
// multiple of a sector, and blocks whose memory does not begin on 512 B.
//
// Space is taken ahead in steps. Every failure ends the segment: what a failed
// write left behind is never written over, and no group follows it.
//
// Ownership: borrows the set, which must outlive it. Threads: one at a time.
// Errors: as SegmentIo; nothing of the group has a place then.
// Cost: blocks for the disk. Memory: a sector a record of a group.
#ifndef AGENTMEM_MEMD_STORE_SEGMENT_WRITER_H_
#define AGENTMEM_MEMD_STORE_SEGMENT_WRITER_H_

#include <memory>
#include <span>
#include <vector>

#include "memd/store/aligned_buffer.h"
#include "memd/store/block_store.h"
#include "memd/store/segment_set.h"

namespace agentmem {

class SegmentWriter {
 public:
  // 16 steps a segment: seldom enough for its cost not to show, and little
  // enough that small stores stay small.
  static constexpr std::uint64_t kAllocateBytes = 16 << 20;

  explicit SegmentWriter(SegmentSet* segments);
  ~SegmentWriter();
  SegmentWriter(const SegmentWriter&) = delete;
  SegmentWriter& operator=(const SegmentWriter&) = delete;

  // Writes the blocks of `puts`, 1 to kSegmentGroupRecordsMax of them, as one
  // group; their places go into `places`. With `sync` they are on stable
  // storage when this returned OK.
  absl::Status Append(std::span<const StoreOp* const> puts, bool sync,
                      std::vector<SegmentPlace>* places);

 private:
  absl::Status MakeRoom(std::uint64_t bytes);
  // Describes the group in the header's sector and in parts_.
  void Gather(std::span<const StoreOp* const> puts, std::uint64_t group_bytes,
              std::vector<SegmentPlace>* places);
  void GatherBytes(const StoreOp& put, char* tail);
  void EndSegment();

  SegmentSet* const segments_;
  std::shared_ptr<SegmentFile> file_;  // null: none, the next group begins one
  std::uint64_t end_ = 0;              // of what was written
  std::uint64_t allocated_ = 0;
  const AlignedBuffer sectors_;        // the header, and a tail for each record
  std::vector<AlignedBuffer> copies_;  // of blocks whose memory is not aligned
  std::vector<iovec> parts_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_SEGMENT_WRITER_H_
