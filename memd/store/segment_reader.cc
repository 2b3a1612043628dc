#include "memd/store/segment_reader.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <tuple>

#include "base/status.h"
#include "memd/store/segment_codec.h"

namespace agentmem {
namespace {

constexpr std::uintptr_t kMemoryAlign = 512;
// Of a run: each needs a tail, and three parts.
constexpr std::size_t kRunReadsMax = 64;

bool IsAligned(const SegmentRead& read) {
  return reinterpret_cast<std::uintptr_t>(read.to) % kMemoryAlign == 0;
}

std::size_t WholeSectors(const SegmentRead& read) {
  return read.length / kSegmentAlign * kSegmentAlign;
}

std::uint64_t EndOf(const SegmentRead& read) {
  return read.place.offset + SegmentAlignUp(read.length);
}

bool Joins(const SegmentRead& first, const SegmentRead& last,
           const SegmentRead& next) {
  return next.place.segment == last.place.segment &&
         next.place.offset >= EndOf(last) &&
         next.place.offset - EndOf(last) <= SegmentReader::kGapBytesMax &&
         EndOf(next) - first.place.offset <= SegmentReader::kReadBytesMax;
}

}  // namespace

SegmentReader::SegmentReader(SegmentSet* segments)
    : segments_(segments),
      gap_(kGapBytesMax),
      tails_(kRunReadsMax * kSegmentAlign) {
  parts_.reserve(3 * kRunReadsMax);
}

void SegmentReader::Read(std::span<SegmentRead*> reads, Finished finished) {
  std::sort(reads.begin(), reads.end(),
            [](const SegmentRead* a, const SegmentRead* b) {
              return std::tie(a->place.segment, a->place.offset) <
                     std::tie(b->place.segment, b->place.offset);
            });
  for (std::size_t first = 0; first < reads.size();) {
    std::size_t end = first + 1;
    while (end < reads.size() && end - first < kRunReadsMax &&
           Joins(*reads[first], *reads[end - 1], *reads[end])) {
      ++end;
    }
    ReadRun(reads.subspan(first, end - first));
    finished(reads.subspan(first, end - first));
    first = end;
  }
}

void SegmentReader::ReadRun(std::span<SegmentRead* const> run) {
  const SegmentPlace& first = run.front()->place;
  const absl::StatusOr<std::shared_ptr<SegmentFile>> file =
      segments_->Get(first.segment);
  absl::Status status = file.status();
  if (status.code() == absl::StatusCode::kNotFound) {
    status = DataLoss(StatusMessage(status));
  }
  if (status.ok()) {
    parts_.clear();
    copies_.resize(run.size());
    std::uint64_t at = first.offset;
    for (std::size_t i = 0; i < run.size(); ++i) {
      const std::uint64_t gap = run[i]->place.offset - at;
      if (gap > 0) parts_.push_back({gap_.data(), gap});
      AddParts(*run[i], i);
      at = EndOf(*run[i]);
    }
    status = segments_->io()->Read((*file)->fd.get(), parts_, first.offset);
  }
  if (!status.ok() && run.size() > 1) {
    // One that cannot be read must not fail its neighbours.
    for (SegmentRead* const& read : run) ReadRun({&read, 1});
    return;
  }
  for (std::size_t i = 0; i < run.size(); ++i) {
    run[i]->status = status;
    if (status.ok()) Check(run[i], i);
  }
}

void SegmentReader::AddParts(const SegmentRead& read, std::size_t index) {
  const std::size_t whole = WholeSectors(read);
  char* to = static_cast<char*>(read.to);
  if (!IsAligned(read)) {
    copies_[index] = AlignedBuffer(whole);
    to = copies_[index].data();
  }
  if (whole > 0) parts_.push_back({to, whole});
  if (read.length > whole) {
    parts_.push_back({tails_.data() + index * kSegmentAlign, kSegmentAlign});
  }
}

void SegmentReader::Check(SegmentRead* read, std::size_t index) {
  const std::size_t whole = WholeSectors(*read);
  char* const to = static_cast<char*>(read->to);
  if (!IsAligned(*read)) {
    std::memcpy(to, copies_[index].data(), whole);
    copies_[index] = AlignedBuffer();
  }
  if (read->length > whole) {
    std::memcpy(to + whole, tails_.data() + index * kSegmentAlign,
                read->length - whole);
  }
  if (BytesChecksum(to, read->length) == read->place.checksum) return;
  read->status = DataLoss(
      "the checksum of its bytes at " + std::to_string(read->place.offset) +
      " of " + SegmentFileName(read->place.segment) + " does not match");
}

}  // namespace agentmem
