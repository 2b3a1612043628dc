// Where two versions of a region differ.
//
// What both share by key is not read: of two versions a few commits apart, only
// the paths to the changed pages are. Within a page, units that come from the
// same place of the same block are equal; others count as different, though
// their bytes may be equal (a page that was written again with what it held).
//
// Ownership: borrows. Threads: as the loaders. Errors: as Manifest::Find.
// Cost: O(differing nodes) loads and O(pages of both overlays * levels).
#ifndef AGENTMEM_MEMD_AGENTS_MANIFEST_DIFF_H_
#define AGENTMEM_MEMD_AGENTS_MANIFEST_DIFF_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "memd/agents/manifest.h"

namespace agentmem {

struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;

  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

// A manifest and what reads its nodes. nullptr: a region of zeros.
struct VersionToRead {
  const Manifest* manifest = nullptr;
  NodeLoader* loader = nullptr;
};

// What is not OK ends the walk and is its result.
using RangeVisitor = std::function<absl::Status(const ByteRange&)>;

// Ascending ranges that do not touch, in units of kUnitBytes but for the end of
// the larger region. Growing alone is no difference: both read zeros. Ranges
// that end at or below `from` are left out, and not looked for where that saves
// reading.
absl::Status Diff(const VersionToRead& a, const VersionToRead& b,
                  const RangeVisitor& visit, std::uint64_t from = 0);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_MANIFEST_DIFF_H_
