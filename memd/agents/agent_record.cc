#include "memd/agents/agent_record.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <set>

#include "base/status.h"
#include "proto/varint.h"

namespace agentmem {
namespace {

std::string AtMost(std::uint64_t value, std::uint64_t max) {
  return std::to_string(value) + ", at most " + std::to_string(max);
}

absl::Status CheckRetention(const Retention& retention) {
  const bool valid = retention.kind == RetentionKind::kAll
                         ? retention.limit == 0
                         : (retention.kind == RetentionKind::kLast ||
                            retention.kind == RetentionKind::kAge) &&
                               retention.limit > 0;
  if (valid) return absl::OkStatus();
  return InvalidArgument(
      "a retention of kind " +
      std::to_string(static_cast<unsigned>(retention.kind)) + " and limit " +
      std::to_string(retention.limit) +
      "; allowed are all (1, 0), last (2) and age (3) of 1 and more");
}

absl::Status CheckLink(const VersionLink& link) {
  if (link.number == 0 ? link == VersionLink()
                       : link.bytes >= sizeof(VersionHeader) &&
                             link.bytes <= kMaxBlockBytes) {
    return absl::OkStatus();
  }
  return InvalidArgument("version " + std::to_string(link.number) +
                         " has a block of " + std::to_string(link.bytes) +
                         " bytes");
}

absl::Status CheckRegion(const RegionRecord& region,
                         std::uint64_t next_region_id) {
  if (!IsRegionName(region.name)) {
    return InvalidArgument("its name is not 1 to " +
                           std::to_string(kRegionNameBytesMax) +
                           " letters, digits, '.', '_' or '-'");
  }
  if (region.id == 0 || region.id >= next_region_id) {
    return InvalidArgument("id " + std::to_string(region.id) +
                           "; the next is " + std::to_string(next_region_id));
  }
  if (region.bytes == 0 || region.bytes > kRegionBytesMax) {
    return InvalidArgument(std::to_string(region.bytes) +
                           " bytes; allowed are 1 to " +
                           std::to_string(kRegionBytesMax));
  }
  if (region.retention.has_value()) {
    AGENTMEM_RETURN_IF_ERROR(CheckRetention(*region.retention));
  }
  AGENTMEM_RETURN_IF_ERROR(CheckLink(region.head));
  if (region.oldest_kept > region.head.number ||
      (region.oldest_kept == 0) != (region.head.number == 0)) {
    return InvalidArgument("oldest version " +
                           std::to_string(region.oldest_kept) + ", newest " +
                           std::to_string(region.head.number));
  }
  if (region.working_set_bytes > kMaxBlockBytes ||
      (region.working_set_bytes == 0 && region.working_set != Key())) {
    return InvalidArgument("a working set of " +
                           AtMost(region.working_set_bytes, kMaxBlockBytes) +
                           " bytes");
  }
  return absl::OkStatus();
}

absl::Status CheckHead(const AgentRecord& record) {
  const auto phase = static_cast<unsigned>(record.phase);
  if (record.lineage == 0) return InvalidArgument("its lineage is 0");
  if (phase < 1 || phase > 5) {
    return InvalidArgument("phase " + std::to_string(phase) +
                           "; allowed are 1 to 5");
  }
  if (record.phase_detail.size() > kPhaseDetailBytesMax) {
    return InvalidArgument(
        "bytes of the phase's detail " +
        AtMost(record.phase_detail.size(), kPhaseDetailBytesMax));
  }
  if (record.origin.has_value() &&
      (record.origin->agent.empty() ||
       record.origin->agent.size() > kAgentNameBytesMax)) {
    return InvalidArgument(
        "bytes of the origin's name " +
        AtMost(record.origin->agent.size(), kAgentNameBytesMax));
  }
  if (record.regions.size() > kRegionsMax) {
    return InvalidArgument("regions " +
                           AtMost(record.regions.size(), kRegionsMax));
  }
  AGENTMEM_RETURN_IF_ERROR(CheckRetention(record.retention));
  return CheckLabels(record.labels);
}

absl::Status CheckRecord(const AgentRecord& record) {
  AGENTMEM_RETURN_IF_ERROR(CheckHead(record));
  std::set<std::string_view> names;
  std::set<std::uint64_t> ids;
  for (const RegionRecord& region : record.regions) {
    const absl::Status status = CheckRegion(region, record.next_region_id);
    if (!status.ok()) {
      return InvalidArgument("region \"" + region.name +
                             "\": " + StatusMessage(status));
    }
    if (!names.insert(region.name).second || !ids.insert(region.id).second) {
      return InvalidArgument("two regions are named \"" + region.name +
                             "\" or have the id " + std::to_string(region.id));
    }
  }
  return absl::OkStatus();
}

void AppendRetention(const std::optional<Retention>& retention,
                     std::string* to) {
  AppendVarint(
      retention.has_value() ? static_cast<unsigned>(retention->kind) : 0, to);
  if (retention.has_value()) AppendVarint(retention->limit, to);
}

std::optional<Retention> ReadRetention(ByteReader* in) {
  const std::uint64_t kind = in->VarintAtMost(UINT8_MAX);
  if (kind == 0) return std::nullopt;
  return Retention{static_cast<RetentionKind>(kind), in->Varint()};
}

void AppendLink(const VersionLink& link, std::string* to) {
  AppendVarint(link.number, to);
  if (link.number == 0) return;
  AppendFixed(link.key, to);
  AppendVarint(link.bytes, to);
}

VersionLink ReadLink(ByteReader* in) {
  VersionLink link;
  link.number = in->Varint();
  if (link.number == 0) return link;
  link.key = in->Fixed<Key>();
  link.bytes = static_cast<std::uint32_t>(in->VarintAtMost(kMaxBlockBytes));
  return link;
}

void AppendRegion(const RegionRecord& region, std::string* to) {
  AppendString(region.name, to);
  AppendVarint(region.id, to);
  AppendVarint(region.bytes, to);
  AppendRetention(region.retention, to);
  AppendLink(region.head, to);
  AppendVarint(region.oldest_kept, to);
  AppendVarint(region.origin_number, to);
  AppendVarint(region.working_set_bytes, to);
  if (region.working_set_bytes != 0) AppendFixed(region.working_set, to);
}

RegionRecord ReadRegion(ByteReader* in) {
  RegionRecord region;
  region.name = std::string(in->String(kRegionNameBytesMax));
  region.id = in->Varint();
  region.bytes = in->Varint();
  region.retention = ReadRetention(in);
  region.head = ReadLink(in);
  region.oldest_kept = in->Varint();
  region.origin_number = in->Varint();
  region.working_set_bytes =
      static_cast<std::uint32_t>(in->VarintAtMost(kMaxBlockBytes));
  if (region.working_set_bytes != 0) region.working_set = in->Fixed<Key>();
  return region;
}

// False if the bytes are not those of a record; the fields are checked after.
bool ReadFields(ByteReader* in, AgentRecord* record) {
  record->phase_detail = std::string(in->String(kPhaseDetailBytesMax));
  const std::optional<Retention> retention = ReadRetention(in);
  if (!retention.has_value()) return false;
  record->retention = *retention;
  const std::uint64_t labels = in->VarintAtMost(kLabelsMax);
  for (std::uint64_t i = 0; i < labels && in->ok(); ++i) {
    const std::string_view name = in->String(kLabelsBytesMax);
    const std::string_view value = in->String(kLabelsBytesMax);
    record->labels.emplace_back(name, value);
  }
  if (in->VarintAtMost(1) == 1) {
    AgentOrigin origin;
    origin.agent = std::string(in->String(kAgentNameBytesMax));
    origin.lineage = in->Fixed<std::uint64_t>();
    record->origin = std::move(origin);
  }
  record->next_region_id = in->Varint();
  const std::uint64_t regions = in->VarintAtMost(kRegionsMax);
  for (std::uint64_t i = 0; i < regions && in->ok(); ++i) {
    record->regions.push_back(ReadRegion(in));
  }
  return in->AtEnd();
}

}  // namespace

bool IsRegionName(std::string_view name) {
  return !name.empty() && name.size() <= kRegionNameBytesMax &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

absl::StatusOr<std::string> EncodeAgentRecord(const AgentRecord& record) {
  AGENTMEM_RETURN_IF_ERROR(CheckRecord(record));
  AgentHeader header = {};
  header.magic = kAgentMagic;
  header.format = kAgentFormat;
  header.phase = static_cast<std::uint8_t>(record.phase);
  header.lineage = record.lineage;
  header.created_wall_ns = record.created_wall_ns;
  header.phase_wall_ns = record.phase_wall_ns;
  std::string value;
  AppendFixed(header, &value);
  AppendString(record.phase_detail, &value);
  AppendRetention(record.retention, &value);
  AppendVarint(record.labels.size(), &value);
  AppendLabels(record.labels, &value);
  AppendVarint(record.origin.has_value() ? 1 : 0, &value);
  if (record.origin.has_value()) {
    AppendString(record.origin->agent, &value);
    AppendFixed(record.origin->lineage, &value);
  }
  AppendVarint(record.next_region_id, &value);
  AppendVarint(record.regions.size(), &value);
  for (const RegionRecord& region : record.regions) {
    AppendRegion(region, &value);
  }
  return value;
}

absl::StatusOr<AgentRecord> DecodeAgentRecord(const std::string& name,
                                              std::string_view value) {
  const std::string prefix = "ref '" + name + "': ";
  AgentHeader header;
  if (value.size() < sizeof(header) || value.size() > kAgentRecordBytesMax) {
    return DataLoss(prefix + std::to_string(value.size()) +
                    " bytes, allowed are " + std::to_string(sizeof(header)) +
                    " to " + std::to_string(kAgentRecordBytesMax));
  }
  std::memcpy(&header, value.data(), sizeof(header));
  if (header.magic != kAgentMagic) {
    return DataLoss(prefix + "does not begin with an agent's magic");
  }
  if (header.format != kAgentFormat) {
    return DataLoss(prefix + "format " + std::to_string(header.format) +
                    ", expected " + std::to_string(kAgentFormat));
  }
  AgentRecord record;
  record.phase = static_cast<tiering::Phase>(header.phase);
  record.lineage = header.lineage;
  record.created_wall_ns = header.created_wall_ns;
  record.phase_wall_ns = header.phase_wall_ns;
  ByteReader in(value.substr(sizeof(header)));
  if (!ReadFields(&in, &record)) {
    return DataLoss(prefix + "its fields are not those of an agent");
  }
  if (const absl::Status status = CheckRecord(record); !status.ok()) {
    return DataLoss(prefix + StatusMessage(status));
  }
  return record;
}

const Retention& RetentionOf(const AgentRecord& agent,
                             const RegionRecord& region) {
  return region.retention.has_value() ? *region.retention : agent.retention;
}

std::string EncodeGone(const AgentRecord& record) {
  std::string value;
  AppendFixed(GoneHeader{kGoneMagic, kAgentFormat, 0,
                         record.origin ? record.origin->lineage : 0},
              &value);
  return value;
}

absl::StatusOr<std::uint64_t> DecodeGone(const std::string& name,
                                         std::string_view value) {
  const std::string prefix = "ref '" + name + "': ";
  GoneHeader header;
  if (value.size() != sizeof(header)) {
    return DataLoss(prefix + std::to_string(value.size()) +
                    " bytes, expected " + std::to_string(sizeof(header)));
  }
  std::memcpy(&header, value.data(), sizeof(header));
  if (header.magic != kGoneMagic) {
    return DataLoss(prefix + "does not begin with a gone agent's magic");
  }
  if (header.format != kAgentFormat) {
    return DataLoss(prefix + "format " + std::to_string(header.format) +
                    ", expected " + std::to_string(kAgentFormat));
  }
  return header.origin;
}

}  // namespace agentmem
