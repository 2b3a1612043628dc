// What an agent's region holds at each of its versions.
//
// A region is units of 4 KiB, each filled by content.h under a name made of the
// run's seed, the version, the unit, and who wrote that version; so a version
// that was lost and is written again by another process has other bytes.
// Version 0 is zeros. Version 1 writes 7 of 8 units, each later one several
// runs of units and some single ones, of which a few become zeros again.
//
// Ownership: a value. Threads: thread-compatible. Errors: none. Cost: Write
// O(units written), FirstMismatch O(bytes), no allocation but at construction
// and in Write.
#ifndef AGENTMEM_TESTS_DEMO_MEMORY_CONTENT_H_
#define AGENTMEM_TESTS_DEMO_MEMORY_CONTENT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tests/demo/content.h"

namespace agentmem::demo {

inline constexpr std::uint64_t kMemoryUnitBytes = 4096;

// Who wrote a version: which agent, and which of its processes.
struct MemoryWriter {
  std::uint32_t agent = 0;
  std::uint32_t life = 0;

  friend bool operator==(const MemoryWriter&, const MemoryWriter&) = default;
};

class MemoryContent {
 public:
  // `bytes`: whole units. Version 0.
  MemoryContent(std::uint64_t seed, std::uint64_t bytes);
  // The version behind writers.size() commits: writers[0] made version 1.
  MemoryContent(std::uint64_t seed, std::uint64_t bytes,
                std::span<const MemoryWriter> writers);

  std::uint64_t version() const { return version_; }
  // The next version; the units that it changes, ascending.
  std::vector<std::uint64_t> Write(const MemoryWriter& writer);

  void FillUnit(std::uint64_t unit, std::span<std::byte> bytes) const;
  // The first of `bytes`, which lie at `offset` (whole units, both), that is
  // not what it should be: its offset in the region.
  std::optional<std::uint64_t> FirstMismatch(
      std::uint64_t offset, std::span<const std::byte> bytes) const;

 private:
  const std::uint64_t seed_;
  std::uint64_t version_ = 0;
  std::vector<std::optional<ContentId>> units_;  // none: zeros
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_MEMORY_CONTENT_H_
