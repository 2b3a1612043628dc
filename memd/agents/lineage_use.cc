#include "memd/agents/lineage_use.h"

#include <algorithm>

#include "base/status.h"
#include "proto/manifest_layout.h"
#include "proto/varint.h"

namespace agentmem {
namespace {

constexpr std::uint32_t kMagic = 0x4553554c;  // LUSE
constexpr std::uint8_t kVersion = 1;

}  // namespace

void LineageUse::KeepAllOf(const AgentRecord& record) {
  regions.clear();
  for (const RegionRecord& region : record.regions) {
    regions.push_back({region.id, region.oldest_kept});
  }
}

void LineageUse::AddFence(std::uint64_t fence) {
  if (last_fence == 0) first_fence = fence;
  last_fence = std::max(last_fence, fence);
}

bool LineageUse::CoversFence(std::uint64_t fence) const {
  if (state == UseState::kLeft || last_fence == 0) return false;
  // (Names have the low bits.)
  return ((fence - first_fence) & kRegionFenceMax) <= last_fence - first_fence;
}

std::uint64_t LineageUse::OldestOf(const RegionRecord& region) const {
  for (const Region& named : regions) {
    if (named.id == region.id) return named.oldest;
  }
  return state == UseState::kOpen ? 0 : region.oldest_kept;
}

std::string EncodeLineageUse(const LineageUse& use) {
  std::string value;
  AppendFixed(kMagic, &value);
  AppendFixed(kVersion, &value);
  AppendFixed(static_cast<std::uint8_t>(use.state), &value);
  AppendVarint(use.instance, &value);
  AppendVarint(use.first_fence, &value);
  AppendVarint(use.last_fence, &value);
  AppendVarint(use.regions.size(), &value);
  for (const LineageUse::Region& region : use.regions) {
    AppendVarint(region.id, &value);
    AppendVarint(region.oldest, &value);
  }
  AppendVarint(use.versions.size(), &value);
  for (const VersionLink& link : use.versions) {
    AppendVarint(link.number, &value);
    AppendFixed(link.key, &value);
    AppendVarint(link.bytes, &value);
  }
  return value;
}

absl::StatusOr<LineageUse> DecodeLineageUse(const std::string& ref,
                                            const std::string& value) {
  ByteReader reader(value);
  const auto magic = reader.Fixed<std::uint32_t>();
  const auto version = reader.Fixed<std::uint8_t>();
  if (reader.ok() && magic == kMagic && version != kVersion) {
    return FailedPrecondition("ref " + ref + " is of version " +
                              std::to_string(version) + ", this memd knows " +
                              std::to_string(kVersion) +
                              ": update the older one");
  }
  LineageUse use;
  const auto state = reader.Fixed<std::uint8_t>();
  use.state = static_cast<UseState>(state);
  use.instance = reader.Varint();
  use.first_fence = reader.Varint();
  use.last_fence = reader.Varint();
  const std::uint64_t regions = reader.VarintAtMost(kRegionsMax);
  for (std::uint64_t i = 0; i < regions && reader.ok(); ++i) {
    const std::uint64_t id = reader.Varint();
    use.regions.push_back({id, reader.Varint()});
  }
  const std::uint64_t versions = reader.VarintAtMost(LineageUse::kVersionsMax);
  for (std::uint64_t i = 0; i < versions && reader.ok(); ++i) {
    VersionLink link;
    link.number = reader.Varint();
    link.key = reader.Fixed<Key>();
    link.bytes =
        static_cast<std::uint32_t>(reader.VarintAtMost(kMaxBlockBytes));
    use.versions.push_back(link);
  }
  if (magic != kMagic || state > 2 || use.first_fence > use.last_fence ||
      !reader.AtEnd()) {
    return DataLoss("ref " + ref + " does not say how a node uses a lineage");
  }
  return use;
}

}  // namespace agentmem
