// A region's writer as tests need one: blocks in a map, commits with real
// bytes, and a model that says what every unit holds.
#ifndef AGENTMEM_TESTS_UNIT_MEMD_AGENTS_REGION_HARNESS_H_
#define AGENTMEM_TESTS_UNIT_MEMD_AGENTS_REGION_HARNESS_H_

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "memd/agents/manifest.h"
#include "memd/agents/manifest_builder.h"

namespace agentmem {

class MemoryBlocks : public NodeSource {
 public:
  absl::StatusOr<std::string> Read(const Key& key,
                                   std::uint32_t bytes) override;

  std::map<Key, std::string> blocks;
  std::vector<Key> read;  // in order
};

// What each unit holds: a stamp, its first four bytes; 0: zeros.
using PageStamps = std::array<std::uint32_t, kPageUnits>;
using RegionModel = std::map<std::uint64_t, PageStamps>;  // without zero pages

class RegionHarness {
 public:
  static constexpr std::uint64_t kLineage = 0x1234'5678'9abc'def0;

  explicit RegionHarness(std::uint64_t region_bytes, MemoryBlocks* store);

  Key NextKey() { return MakeRegionKey(kLineage, fence, ++counter_); }

  // Stamps `units` of `page` in the version that is being made; 0: zeros. Their
  // bytes go to the payload, or else to the block of this commit. The last one
  // is `last_bytes` long.
  void Write(std::uint64_t page, std::uint16_t units, std::uint32_t stamp,
             bool in_payload, std::uint32_t last_bytes = kUnitBytes);
  // Makes the page one without content.
  void Clear(std::uint64_t page);

  // Makes and stores the version; nullptr and a failure if it cannot.
  const Manifest* Commit();

  // The next commit's base and model are those of `version`.
  void Restore(const Manifest& version, const RegionModel& model);

  // The stamp of each unit, read by the pieces and checked to be within their
  // block.
  PageStamps Stamps(std::span<const Piece> pieces) const;
  // All pages of a version.
  RegionModel Read(const Manifest& version, NodeLoader* loader) const;

  VersionInfo info;  // of the next version; number and parent are set
  std::uint64_t fence = 1;
  MemoryBlocks* const store;
  NodeLoader loader;
  RegionModel model;
  std::vector<Manifest> versions;  // all that were committed
  NewVersion last;                 // as it was made

 private:
  PageContent* ContentOf(std::uint64_t page);

  std::uint64_t counter_ = 0;
  std::map<std::uint64_t, PageContent> changes_;
  std::string payload_;
  std::string block_;
  Key block_key_;
  std::optional<Manifest> base_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_MEMD_AGENTS_REGION_HARNESS_H_
