#include "memd/store/segment_scan.h"

#include <set>
#include <utility>

#include "base/status.h"
#include "memd/store/aligned_buffer.h"
#include "memd/store/segment_codec.h"

namespace agentmem {
namespace {

absl::Status VisitRecord(
    SegmentIo* io, const SegmentFile& file, const SegmentRecord& record,
    const AlignedBuffer& buffer,
    const std::function<void(const BlockLocation&)>& visit) {
  iovec part = {buffer.data(), SegmentAlignUp(record.length)};
  const absl::Status read = io->Read(file.fd.get(), {&part, 1}, record.offset);
  if (read.code() == absl::StatusCode::kDataLoss) return absl::OkStatus();
  AGENTMEM_RETURN_IF_ERROR(read);
  // Deleted and given back, or torn.
  if (BytesChecksum(buffer.data(), record.length) != record.bytes_checksum) {
    return absl::OkStatus();
  }
  BlockLocation location;
  location.block.tenant = TenantId(record.tenant);
  location.block.key = record.key;
  location.block.block_class = static_cast<BlockClass>(record.block_class);
  location.block.length = record.length;
  location.place = {file.segment, record.offset, record.bytes_checksum};
  visit(location);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::uint64_t> WalkSegment(
    SegmentIo* io, const SegmentFile& file,
    const std::function<void(const SegmentHeaderSector&)>& visit) {
  const AlignedBuffer buffer(kSegmentAlign);
  const auto* const sector =
      reinterpret_cast<const SegmentHeaderSector*>(buffer.data());
  std::uint64_t offset = 0;
  for (;;) {
    iovec part = {buffer.data(), kSegmentAlign};
    const absl::Status read = io->Read(file.fd.get(), {&part, 1}, offset);
    if (read.code() == absl::StatusCode::kDataLoss) return offset;
    AGENTMEM_RETURN_IF_ERROR(read);
    if (!CheckGroupHeader(file.segment, offset, *sector).ok()) return offset;
    visit(*sector);
    offset += sector->group.group_bytes;
  }
}

absl::Status RebuildLocations(
    SegmentIo* io, const std::string& directory,
    const std::function<void(const BlockLocation&)>& visit) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::set<std::uint64_t> segments,
                            ListSegments(directory));
  const AlignedBuffer buffer(kMaxBlockBytes);
  for (const std::uint64_t segment : segments) {
    SegmentFile file{segment, {}};
    AGENTMEM_ASSIGN_OR_RETURN(
        file.fd,
        io->Open(directory + "/" + SegmentFileName(segment), /*create=*/false));
    absl::Status failed = absl::OkStatus();
    const auto visit_group = [&](const SegmentHeaderSector& sector) {
      for (std::uint32_t i = 0; failed.ok() && i < sector.group.records; ++i) {
        failed = VisitRecord(io, file, sector.records[i], buffer, visit);
      }
    };
    AGENTMEM_RETURN_IF_ERROR(WalkSegment(io, file, visit_group).status());
    AGENTMEM_RETURN_IF_ERROR(failed);
  }
  return absl::OkStatus();
}

}  // namespace agentmem
