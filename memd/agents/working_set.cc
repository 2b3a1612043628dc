#include "memd/agents/working_set.h"

#include <cstring>

#include "absl/container/flat_hash_set.h"
#include "base/status.h"
#include "memd/agents/page_content.h"
#include "proto/key_text.h"
#include "proto/manifest_layout.h"
#include "proto/varint.h"

namespace agentmem {
namespace {

// Pages are near one another more often than not, on either side.
std::uint64_t ZigZag(std::int64_t value) {
  return static_cast<std::uint64_t>(value) << 1 ^
         static_cast<std::uint64_t>(value >> 63);
}

std::int64_t UnZigZag(std::uint64_t value) {
  return static_cast<std::int64_t>(value >> 1) ^
         -static_cast<std::int64_t>(value & 1);
}

}  // namespace

std::string EncodeWorkingSet(std::span<const std::uint32_t> pages) {
  std::string bytes;
  AppendFixed(WorkingSetHeader{kWorkingSetMagic, kWorkingSetFormat,
                               static_cast<std::uint32_t>(pages.size())},
              &bytes);
  std::int64_t last = 0;
  for (const std::uint32_t page : pages) {
    AppendVarint(ZigZag(page - last), &bytes);
    last = page;
  }
  return bytes;
}

absl::StatusOr<WorkingSet> DecodeWorkingSet(const Key& key,
                                            std::string_view bytes,
                                            std::uint64_t page_count) {
  const std::string prefix = "working set in block " + KeyText(key) + ": ";
  WorkingSetHeader header;
  if (bytes.size() < sizeof(header)) {
    return DataLoss(prefix + std::to_string(bytes.size()) + " bytes");
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kWorkingSetMagic) {
    return DataLoss(prefix + "does not begin with a working set's magic");
  }
  if (header.format != kWorkingSetFormat) {
    return DataLoss(prefix + "format " + std::to_string(header.format) +
                    ", expected " + std::to_string(kWorkingSetFormat));
  }
  if (header.pages > kWorkingSetPagesMax) {
    return DataLoss(prefix + std::to_string(header.pages) + " pages, at most " +
                    std::to_string(kWorkingSetPagesMax));
  }
  ByteReader in(bytes.substr(sizeof(header)));
  WorkingSet pages;
  std::int64_t last = 0;
  absl::flat_hash_set<std::uint32_t> known;
  for (std::uint32_t i = 0; i < header.pages && in.ok(); ++i) {
    const std::int64_t step = UnZigZag(in.Varint());
    if (!in.ok()) break;
    const auto count = static_cast<std::int64_t>(page_count);
    if (step < -last || step >= count - last ||
        !known.insert(static_cast<std::uint32_t>(last + step)).second) {
      return DataLoss(prefix + "its entry " + std::to_string(i) +
                      " is no page of the region, or is in it twice");
    }
    last += step;
    pages.push_back(static_cast<std::uint32_t>(last));
  }
  if (!in.AtEnd()) return DataLoss(prefix + "its length is wrong");
  return pages;
}

WorkingSet MergeWorkingSets(const WorkingSet& before,
                            const std::vector<std::uint32_t>& touched) {
  WorkingSet merged = before;
  absl::flat_hash_set<std::uint32_t> known(before.begin(), before.end());
  for (const std::uint32_t page : touched) {
    if (known.insert(page).second) merged.push_back(page);
  }
  if (merged.size() > kWorkingSetPagesMax) merged.clear();
  return merged;
}

}  // namespace agentmem
