#include "memd/store/segment_codec.h"

#include <gtest/gtest.h>

#include <cstring>

namespace agentmem {
namespace {

constexpr std::uint64_t kSegment = 5;
constexpr std::uint64_t kOffset = 8192;

SegmentHeaderSector Sector() {
  SegmentHeaderSector sector = {};
  sector.group.records = 2;
  std::uint64_t offset = kOffset + 4096;
  for (std::uint32_t i = 0; i < 2; ++i) {
    SegmentRecord& record = sector.records[i];
    record.tenant = 1;
    record.length = 5000;
    record.offset = offset;
    record.block_class = 2;
    offset += 8192;
  }
  FinishGroupHeader(kSegment, kOffset, offset - kOffset, &sector);
  return sector;
}

bool IsValidGroup(const SegmentHeaderSector& sector) {
  return CheckGroupHeader(kSegment, kOffset, sector).ok();
}

TEST(SegmentCodec, AHeaderChecksAtItsPlaceAlone) {
  const SegmentHeaderSector sector = Sector();
  EXPECT_TRUE(IsValidGroup(sector));
  EXPECT_FALSE(CheckGroupHeader(kSegment + 1, kOffset, sector).ok());
  EXPECT_FALSE(CheckGroupHeader(kSegment, kOffset + 4096, sector).ok());
}

TEST(SegmentCodec, AHeaderWithAnyWrongBitIsDataLoss) {
  const SegmentHeaderSector sector = Sector();
  for (std::size_t bit = 0; bit < 8 * sizeof(sector); bit += 13) {
    SegmentHeaderSector bad = sector;
    reinterpret_cast<unsigned char*>(&bad)[bit / 8] ^=
        static_cast<unsigned char>(1 << bit % 8);
    EXPECT_EQ(CheckGroupHeader(kSegment, kOffset, bad).code(),
              absl::StatusCode::kDataLoss)
        << bit;
  }
}

// With a right checksum: what another program may have written.
TEST(SegmentCodec, RecordsOutsideOfTheirGroupAreDataLoss) {
  const auto refused = [](auto change) {
    SegmentHeaderSector sector = Sector();
    std::uint64_t bytes = sector.group.group_bytes;
    change(&sector, &bytes);
    FinishGroupHeader(kSegment, kOffset, bytes, &sector);
    return !IsValidGroup(sector);
  };
  EXPECT_FALSE(refused([](auto*, auto*) {}));
  EXPECT_TRUE(refused([](auto* s, auto*) { s->group.records = 0; }));
  EXPECT_TRUE(refused([](auto* s, auto*) { s->group.records = 85; }));
  EXPECT_TRUE(refused([](auto*, auto* bytes) { *bytes -= 4096; }));
  EXPECT_TRUE(refused([](auto*, auto* bytes) { *bytes += 1; }));
  EXPECT_TRUE(refused([](auto*, auto* bytes) { *bytes = kSegmentBytes; }));
  EXPECT_TRUE(refused([](auto* s, auto*) { s->records[1].length = 0; }));
  EXPECT_TRUE(refused([](auto* s, auto*) { s->records[1].length = 8193; }));
  EXPECT_TRUE(refused([](auto* s, auto*) { s->records[1].offset += 1; }));
  EXPECT_TRUE(refused([](auto* s, auto*) { s->records[0].offset = kOffset; }));
  EXPECT_TRUE(refused(
      [](auto* s, auto*) { s->records[0].offset = ~std::uint64_t{4095}; }));
  EXPECT_TRUE(refused([](auto* s, auto*) { s->records[0].block_class = 3; }));
}

TEST(SegmentCodec, ASegmentsNameIsReadBackAndOtherNamesAreNone) {
  for (const std::uint64_t segment :
       {std::uint64_t{1}, std::uint64_t{0xabcdef}, ~std::uint64_t{0}}) {
    EXPECT_EQ(ParseSegmentFileName(SegmentFileName(segment)), segment);
  }
  EXPECT_EQ(SegmentFileName(0xab), "00000000000000ab.seg");
  for (const char* const name :
       {"", "0000000000000000.seg", "00000000000000AB.seg",
        "00000000000000ab.seg2", "ab.seg", "00000000000000ab", "notasegment"}) {
    EXPECT_FALSE(ParseSegmentFileName(name).has_value()) << name;
  }
}

}  // namespace
}  // namespace agentmem
