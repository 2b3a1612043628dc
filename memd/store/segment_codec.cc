#include "memd/store/segment_codec.h"

#include <algorithm>
#include <charconv>
#include <cstddef>

#include "base/status.h"
#include "memd/store/record_codec.h"

namespace agentmem {
namespace {

constexpr std::size_t kNameDigits = 16;
constexpr char kNameEnd[] = ".seg";

std::uint64_t SectorChecksum(const SegmentHeaderSector& sector) {
  SegmentHeaderSector copy = sector;
  copy.group.header_checksum = 0;
  return BytesChecksum(&copy, sizeof(copy));
}

bool LiesInGroup(const SegmentRecord& record, const SegmentGroupHeader& group) {
  const std::uint64_t first = group.offset + kSegmentAlign;
  const std::uint64_t end = group.offset + group.group_bytes;
  return record.length > 0 && record.length <= kMaxBlockBytes &&
         record.offset % kSegmentAlign == 0 && record.offset >= first &&
         record.offset <= end &&
         SegmentAlignUp(record.length) <= end - record.offset &&
         IsValid(static_cast<BlockClass>(record.block_class));
}

}  // namespace

std::string SegmentFileName(std::uint64_t segment) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string name(kNameDigits, '0');
  for (std::size_t i = kNameDigits; i-- > 0; segment >>= 4) {
    name[i] = kDigits[segment & 15];
  }
  return name + kNameEnd;
}

std::optional<std::uint64_t> ParseSegmentFileName(const std::string& name) {
  std::uint64_t segment = 0;
  const char* const end = name.data() + std::min(name.size(), kNameDigits);
  const auto parsed = std::from_chars(name.data(), end, segment, 16);
  if (parsed.ec != std::errc() || segment == 0 ||
      SegmentFileName(segment) != name) {
    return std::nullopt;
  }
  return segment;
}

void FinishGroupHeader(std::uint64_t segment, std::uint64_t offset,
                       std::uint64_t group_bytes, SegmentHeaderSector* sector) {
  SegmentGroupHeader& group = sector->group;
  group.magic = kSegmentGroupMagic;
  group.version = kSegmentVersion;
  group.segment = segment;
  group.offset = offset;
  group.group_bytes = group_bytes;
  group.header_checksum = SectorChecksum(*sector);
}

absl::Status CheckGroupHeader(std::uint64_t segment, std::uint64_t offset,
                              const SegmentHeaderSector& sector) {
  const SegmentGroupHeader& group = sector.group;
  const std::string name = "group at " + std::to_string(offset) + " of " +
                           SegmentFileName(segment) + ": ";
  if (group.magic != kSegmentGroupMagic) {
    return DataLoss(name + "does not begin with a group's magic");
  }
  if (group.version != kSegmentVersion) {
    return DataLoss(name + "version " + std::to_string(group.version) +
                    ", expected " + std::to_string(kSegmentVersion));
  }
  if (group.header_checksum != SectorChecksum(sector)) {
    return DataLoss(name + "its header's checksum does not match");
  }
  if (group.segment != segment || group.offset != offset) {
    return DataLoss(name + "is the header of another place");
  }
  bool valid = group.records > 0 && group.records <= kSegmentGroupRecordsMax &&
               group.group_bytes % kSegmentAlign == 0 &&
               group.group_bytes > kSegmentAlign && offset <= kSegmentBytes &&
               group.group_bytes <= kSegmentBytes - offset;
  for (std::uint32_t i = 0; valid && i < group.records; ++i) {
    valid = LiesInGroup(sector.records[i], group);
  }
  if (!valid) return DataLoss(name + "its records do not lie in it");
  return absl::OkStatus();
}

}  // namespace agentmem
