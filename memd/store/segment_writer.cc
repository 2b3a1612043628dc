#include "memd/store/segment_writer.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"
#include "memd/store/segment_codec.h"

namespace agentmem {
namespace {

constexpr std::uintptr_t kMemoryAlign = 512;
constexpr std::size_t kSectors = 1 + kSegmentGroupRecordsMax;

std::uint64_t GroupBytes(std::span<const StoreOp* const> puts) {
  std::uint64_t bytes = kSegmentAlign;
  for (const StoreOp* put : puts) {
    bytes += SegmentAlignUp(put->bytes[0].iov_len);
  }
  return bytes;
}

}  // namespace

SegmentWriter::SegmentWriter(SegmentSet* segments)
    : segments_(segments), sectors_(kSectors * kSegmentAlign) {
  parts_.reserve(1 + 2 * kSegmentGroupRecordsMax);
}

SegmentWriter::~SegmentWriter() { EndSegment(); }

absl::Status SegmentWriter::Append(std::span<const StoreOp* const> puts,
                                   bool sync,
                                   std::vector<SegmentPlace>* places) {
  AGENTMEM_CHECK(!puts.empty() && puts.size() <= kSegmentGroupRecordsMax);
  places->clear();
  const std::uint64_t group_bytes = GroupBytes(puts);
  AGENTMEM_RETURN_IF_ERROR(MakeRoom(group_bytes));
  Gather(puts, group_bytes, places);
  const int fd = file_->fd.get();
  absl::Status status = segments_->io()->Write(fd, parts_, end_);
  if (status.ok() && sync) status = segments_->io()->Sync(fd);
  copies_.clear();
  if (!status.ok()) {
    EndSegment();
    places->clear();
    return status;
  }
  end_ += group_bytes;
  segments_->NoteWritten(file_->segment,
                         static_cast<std::uint32_t>(puts.size()));
  return absl::OkStatus();
}

absl::Status SegmentWriter::MakeRoom(std::uint64_t bytes) {
  if (file_ != nullptr && end_ + bytes > kSegmentBytes) EndSegment();
  if (file_ == nullptr) {
    AGENTMEM_ASSIGN_OR_RETURN(file_, segments_->Create());
  }
  if (end_ + bytes <= allocated_) return absl::OkStatus();
  const int fd = file_->fd.get();
  const std::uint64_t wanted = std::min(
      kSegmentBytes, std::max(allocated_ + kAllocateBytes, end_ + bytes));
  absl::Status taken =
      segments_->io()->Allocate(fd, allocated_, wanted - allocated_);
  if (taken.ok()) {
    allocated_ = wanted;
  } else if (end_ + bytes < wanted) {
    // The last space of a disk.
    taken =
        segments_->io()->Allocate(fd, allocated_, end_ + bytes - allocated_);
    if (taken.ok()) allocated_ = end_ + bytes;
  }
  // A failed step may have taken a part of it.
  if (!taken.ok()) EndSegment();
  if (taken.ok()) segments_->NoteAllocation(*file_);
  return taken;
}

void SegmentWriter::Gather(std::span<const StoreOp* const> puts,
                           std::uint64_t group_bytes,
                           std::vector<SegmentPlace>* places) {
  std::memset(sectors_.data(), 0, kSegmentAlign);
  auto* const sector = reinterpret_cast<SegmentHeaderSector*>(sectors_.data());
  parts_.clear();
  parts_.push_back({sectors_.data(), kSegmentAlign});
  std::uint64_t offset = end_ + kSegmentAlign;
  for (std::size_t i = 0; i < puts.size(); ++i) {
    const StoreOp& put = *puts[i];
    SegmentRecord& record = sector->records[i];
    record.tenant = put.tenant.value();
    record.length = static_cast<std::uint32_t>(put.bytes[0].iov_len);
    record.key = put.key;
    record.offset = offset;
    record.bytes_checksum = BytesChecksum(put.bytes[0].iov_base, record.length);
    record.block_class = static_cast<std::uint8_t>(put.block_class);
    places->push_back({file_->segment, offset, record.bytes_checksum});
    GatherBytes(put, sectors_.data() + (1 + i) * kSegmentAlign);
    offset += SegmentAlignUp(record.length);
  }
  sector->group.records = static_cast<std::uint32_t>(puts.size());
  FinishGroupHeader(file_->segment, end_, group_bytes, sector);
}

void SegmentWriter::GatherBytes(const StoreOp& put, char* tail) {
  char* bytes = static_cast<char*>(put.bytes[0].iov_base);
  const std::size_t length = put.bytes[0].iov_len;
  const std::size_t whole = length / kSegmentAlign * kSegmentAlign;
  if (length > whole) {
    std::memcpy(tail, bytes + whole, length - whole);
    std::memset(tail + (length - whole), 0, kSegmentAlign - (length - whole));
  }
  if (reinterpret_cast<std::uintptr_t>(bytes) % kMemoryAlign != 0) {
    copies_.emplace_back(whole);
    std::memcpy(copies_.back().data(), bytes, whole);
    bytes = copies_.back().data();
  }
  if (whole > 0) parts_.push_back({bytes, whole});
  if (length > whole) parts_.push_back({tail, kSegmentAlign});
}

void SegmentWriter::EndSegment() {
  if (file_ == nullptr) return;
  const absl::Status sealed = segments_->Seal(file_, end_);
  if (!sealed.ok()) LogError(StatusMessage(sealed));
  file_.reset();
  end_ = 0;
  allocated_ = 0;
}

}  // namespace agentmem
