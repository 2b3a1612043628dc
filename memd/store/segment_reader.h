// Reads records out of segments, many at a time, into the callers' buffers.
//
// Reads go in the order of the files. Those that lie beside each other, or
// nearly so, become one read, scattered to their buffers; what lies between
// is thrown away.
//
// Ownership: borrows the set, which must outlive it; the buffers are the
// callers'. Threads: one at a time. Errors: in each read: as SegmentIo, and
// DATA_LOSS (the bytes' checksum does not match, or the segment is gone: then
// the location that was used may be an old one). A buffer is undefined then.
// Cost: blocks for the disk. Memory: about 0.3 MiB.
#ifndef AGENTMEM_MEMD_STORE_SEGMENT_READER_H_
#define AGENTMEM_MEMD_STORE_SEGMENT_READER_H_

#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "memd/store/aligned_buffer.h"
#include "memd/store/segment_set.h"

namespace agentmem {

struct SegmentRead {
  SegmentPlace place;
  void* to = nullptr;
  std::uint32_t length = 0;
  std::size_t index = 0;  // the caller's
  absl::Status status = absl::OkStatus();
};

class SegmentReader {
 public:
  // Beyond this a disk's throughput grows no more.
  static constexpr std::uint64_t kReadBytesMax = 1 << 20;
  // A gap costs less than another read: 16 us at 2 GB/s against about 80.
  static constexpr std::uint64_t kGapBytesMax = 32 << 10;

  explicit SegmentReader(SegmentSet* segments);

  using Finished = absl::FunctionRef<void(std::span<SegmentRead* const>)>;

  // Changes the order of `reads`, sets each one's status, and calls `finished`
  // with those of each read of the disk as soon as it is done.
  void Read(std::span<SegmentRead*> reads, Finished finished);

 private:
  // Reads what is one piece of a segment.
  void ReadRun(std::span<SegmentRead* const> run);
  void AddParts(const SegmentRead& read, std::size_t index);
  void Check(SegmentRead* read, std::size_t index);

  SegmentSet* const segments_;
  const AlignedBuffer gap_;
  const AlignedBuffer tails_;
  std::vector<AlignedBuffer> copies_;  // for memory that is not aligned
  std::vector<iovec> parts_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_SEGMENT_READER_H_
