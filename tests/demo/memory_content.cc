#include "tests/demo/memory_content.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

namespace agentmem::demo {
namespace {

constexpr std::uint64_t kZerosEvery = 8;  // of version 1
constexpr std::uint64_t kRuns = 4;
constexpr std::uint64_t kRunUnitsMax = 24;  // one and a half pages
constexpr std::uint64_t kSingles = 20;
constexpr std::uint64_t kClearedEvery = 16;

}  // namespace

MemoryContent::MemoryContent(std::uint64_t seed, std::uint64_t bytes)
    : seed_(seed), units_(bytes / kMemoryUnitBytes) {}

MemoryContent::MemoryContent(std::uint64_t seed, std::uint64_t bytes,
                             std::span<const MemoryWriter> writers)
    : MemoryContent(seed, bytes) {
  for (const MemoryWriter& writer : writers) Write(writer);
}

std::vector<std::uint64_t> MemoryContent::Write(const MemoryWriter& writer) {
  ++version_;
  const std::uint64_t name =
      Mix(seed_ + Mix((std::uint64_t{writer.agent} << 32 | writer.life) +
                      Mix(version_)));
  std::set<std::uint64_t> changed;
  std::uint64_t state = name;
  const auto next = [&state](std::uint64_t below) {
    state = Mix(state + 1);
    return state % below;
  };
  if (version_ == 1) {
    for (std::uint64_t unit = 0; unit < units_.size(); ++unit) {
      if (unit % kZerosEvery != kZerosEvery - 1) changed.insert(unit);
    }
  } else {
    for (std::uint64_t run = 0; run < kRuns; ++run) {
      const std::uint64_t first = next(units_.size());
      const std::uint64_t count = 1 + next(kRunUnitsMax);
      const std::uint64_t end =
          std::min<std::uint64_t>(first + count, units_.size());
      for (std::uint64_t unit = first; unit < end; ++unit) changed.insert(unit);
    }
    for (std::uint64_t i = 0; i < kSingles; ++i) {
      changed.insert(next(units_.size()));
    }
  }
  for (const std::uint64_t unit : changed) {
    units_[unit] = ContentId{name, unit};
    if (version_ > 1 && Mix(name ^ unit) % kClearedEvery == 0) {
      units_[unit].reset();
    }
  }
  return {changed.begin(), changed.end()};
}

void MemoryContent::FillUnit(std::uint64_t unit,
                             std::span<std::byte> bytes) const {
  if (units_[unit].has_value()) {
    FillContent(*units_[unit], bytes);
  } else {
    std::memset(bytes.data(), 0, bytes.size());
  }
}

std::optional<std::uint64_t> MemoryContent::FirstMismatch(
    std::uint64_t offset, std::span<const std::byte> bytes) const {
  std::array<std::byte, kMemoryUnitBytes> expected;
  for (std::uint64_t at = 0; at < bytes.size(); at += kMemoryUnitBytes) {
    FillUnit((offset + at) / kMemoryUnitBytes, expected);
    const std::span<const std::byte> unit = bytes.subspan(at, kMemoryUnitBytes);
    if (std::memcmp(unit.data(), expected.data(), unit.size()) == 0) continue;
    const auto wrong =
        std::mismatch(unit.begin(), unit.end(), expected.begin()).first;
    return offset + at + static_cast<std::uint64_t>(wrong - unit.begin());
  }
  return std::nullopt;
}

}  // namespace agentmem::demo
