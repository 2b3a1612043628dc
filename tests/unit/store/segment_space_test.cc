// The space of blocks in segments: given back, found again, rebuilt from.
#include <fstream>

#include "base/status.h"
#include "memd/store/space_reclaimer.h"
#include "tests/unit/store/segment_store_fixture.h"

namespace agentmem {
namespace {

using SegmentSpaceTest = SegmentStoreTest;

TEST_F(SegmentSpaceTest, APutWithoutSpaceFirstTakesThatOfDeletedBlocks) {
  PutGroup(1, 2);
  Reopen();
  ASSERT_EQ(Execute(blocks(), DeleteOp(1)), Code::kOk);
  ASSERT_EQ(io_.punches, 0);
  io_.FailAllocate(ResourceExhausted("no space"));
  EXPECT_EQ(Execute(blocks(), PutOp(3, BytesOf(kPage, 3))),
            Code::kResourceExhausted);
  EXPECT_EQ(io_.punches, 1);
}

TEST_F(SegmentSpaceTest, AFilesystemWithoutHolesKeepsTheSpaceAndNothingFails) {
  PutGroup(0, 40, 256 << 10);
  for (std::uint64_t key = 0; key < 20; ++key) {
    ASSERT_EQ(Execute(blocks(), DeleteOp(key)), Code::kOk);
  }
  io_.FailPunch(Unavailable("no holes here"));
  const std::string copy = CopyAsCrashed();
  EXPECT_TRUE(blocks()->Flush().ok());
  const auto after = Open(copy);
  ASSERT_NE(after, nullptr);
  EXPECT_EQ(ScanAll(&after->blocks()).size(), 20u);
  // A segment that goes as a whole needs no holes.
  for (std::uint64_t key = 20; key < 40; ++key) {
    ASSERT_EQ(Execute(&after->blocks(), DeleteOp(key)), Code::kOk);
  }
  EXPECT_TRUE(after->blocks().Flush().ok());
  EXPECT_EQ(SegmentPaths(copy).size(), 0u);
}

TEST_F(SegmentSpaceTest, DeletedAndReplacedBlocksGiveTheirSpaceBack) {
  const auto bytes = PutGroup(0, 40, 256 << 10);
  PutGroup(100, 1);  // keeps the segment
  const std::uint64_t full = AllocatedBytes(path_);
  for (std::uint64_t key = 0; key < 20; ++key) {
    ASSERT_EQ(Execute(blocks(), DeleteOp(key)), Code::kOk);
  }
  EXPECT_EQ(io_.punches, 0) << "a crash could bring them back";
  Flush();
  EXPECT_EQ(io_.punches, 1) << "neighbours go together";
  EXPECT_EQ(io_.punched_bytes, 20u * (256 << 10));
  EXPECT_EQ(full - AllocatedBytes(path_), 20u * (256 << 10));
  // By a small one, and by a large one.
  const std::string small = BytesOf(512, 1);
  ASSERT_EQ(Execute(blocks(), PutOp(20, small)), Code::kOk);
  PutGroup(21, 1, 256 << 10);
  Flush();
  EXPECT_EQ(io_.punched_bytes, 22u * (256 << 10));
  for (std::uint64_t key = 0; key < 40; ++key) {
    const std::size_t length = key == 20 ? 512 : 256 << 10;
    const GetAnswer answer = Get(blocks(), key, length);
    EXPECT_EQ(answer.code, key < 20 ? Code::kNotFound : Code::kOk) << key;
    if (key <= 20) continue;
    EXPECT_TRUE(answer.bytes ==
                (key == 21 ? BytesOf(256 << 10, 21) : bytes[key]))
        << key;
  }
  EXPECT_EQ(store_->disk_bytes() >= AllocatedBytes(path_), true);
  EXPECT_LT(store_->disk_bytes(), AllocatedBytes(path_) + (1 << 20));
}

TEST_F(SegmentSpaceTest, OfOneKeyInOneGroupTheLastOneAloneKeepsItsSpace) {
  const std::string first = BytesOf(kPage, 1);
  const std::string second = BytesOf(kPage, 2);
  const std::string small = BytesOf(512, 3);
  for (const StoreCompletion& done :
       Execute(blocks(),
               {PutOp(1, first), PutOp(1, second), PutOp(2, first), DeleteOp(2),
                PutOp(3, first), PutOp(3, small, BlockClass::kState),
                PutOp(4, small, BlockClass::kState), PutOp(4, second)})) {
    EXPECT_EQ(done.code, Code::kOk);
  }
  EXPECT_EQ(io_.writes, 1);
  Flush();
  EXPECT_EQ(io_.punched_bytes, 3 * kPage);
  EXPECT_EQ(Get(blocks(), 1, kPage).bytes, second);
  EXPECT_EQ(Get(blocks(), 2, kPage).code, Code::kNotFound);
  EXPECT_EQ(Get(blocks(), 3, 512).bytes, small);
  EXPECT_EQ(Get(blocks(), 4, kPage).bytes, second);
  EXPECT_EQ(Get(blocks(), 4, 512).code, Code::kInvalidArgument)
      << "a record of it is left in RocksDB";
}

TEST_F(SegmentSpaceTest, ManyDeletionsGiveSpaceBackWithoutBeingAsked) {
  // One more than a round.
  constexpr std::uint64_t kBlocks = SpaceReclaimer::kRoundBytes / (4 << 20) + 1;
  for (std::uint64_t key = 0; key < kBlocks; ++key) PutGroup(key, 1, 4 << 20);
  PutGroup(100, 1);
  for (std::uint64_t key = 0; key < kBlocks; ++key) {
    ASSERT_EQ(Execute(blocks(), DeleteOp(key)), Code::kOk);
  }
  // Its thread may take its time; the end of the store waits for it.
  store_.reset();
  EXPECT_GE(io_.punches, 1);
  EXPECT_LT(AllocatedBytes(path_), 1u << 20);
}

TEST_F(SegmentSpaceTest, ASegmentWithoutLiveBlocksIsRemoved) {
  PutGroup(0, 4);
  Reopen();
  PutGroup(10, 4);
  ASSERT_EQ(SegmentPaths(path_).size(), 2u);
  for (const std::uint64_t key : {0, 1, 2, 3}) {
    ASSERT_EQ(Execute(blocks(), DeleteOp(key)), Code::kOk);
  }
  Flush();
  EXPECT_EQ(SegmentPaths(path_).size(), 1u);
  EXPECT_EQ(io_.punches, 0) << "all of it went at once";
  for (const std::uint64_t key : {10, 11, 12, 13}) {
    EXPECT_EQ(Get(blocks(), key, kPage).code, Code::kOk);
    ASSERT_EQ(Execute(blocks(), DeleteOp(key)), Code::kOk);
  }
  Flush();
  Reopen();
  EXPECT_EQ(SegmentPaths(path_).size(), 0u);
  EXPECT_EQ(ScanAll(blocks()).size(), 0u);
}

TEST_F(SegmentSpaceTest, SpaceThatACrashLeftIsGivenBackByTheNextStart) {
  PutGroup(0, 40, 256 << 10);
  for (std::uint64_t key = 0; key < 39; ++key) {
    ASSERT_EQ(Execute(blocks(), DeleteOp(key)), Code::kOk);
  }
  const std::string copy = CopyAsCrashed();
  ASSERT_GT(AllocatedBytes(copy), 9u << 20);
  {
    const auto after = Open(copy);
    ASSERT_NE(after, nullptr);
    EXPECT_LT(AllocatedBytes(copy), 1u << 20);
    EXPECT_EQ(ScanAll(&after->blocks()).size(), 1u);
    EXPECT_EQ(Get(&after->blocks(), 39, 256 << 10).code, Code::kOk);
    EXPECT_EQ(Get(&after->blocks(), 38, 256 << 10).code, Code::kNotFound);
  }
  EXPECT_EQ(Rebuilt(copy).size(), 1u);
}

TEST_F(SegmentSpaceTest, LocationsRebuiltFromSegmentsAloneAreTheLocations) {
  PutGroup(0, 20);
  PutGroup(5, 3, 100'000);  // replaced
  for (const std::uint64_t key : {1, 6, 19}) {
    ASSERT_EQ(Execute(blocks(), DeleteOp(key)), Code::kOk);
  }
  Flush();
  Reopen();
  PutGroup(2, 1, kPage + 1);  // replaced, in another segment
  PutGroup(30, 5);
  Flush();
  store_.reset();
  const auto rebuilt = Rebuilt(path_);
  EXPECT_EQ(rebuilt.size(), 22u);
  EXPECT_EQ(rebuilt, Located(path_));
}

TEST_F(SegmentSpaceTest, ATornLastGroupEndsItsSegmentAndHarmsNothingElse) {
  PutGroup(0, 2);
  PutGroup(10, 2);
  const std::string copy = CopyAsCrashed();
  const std::string segment = SegmentPaths(copy).at(0);
  {
    // The header's sector of the second group never reached the disk.
    std::fstream file(segment, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096 + 2 * kPage);
    file.write(std::string(4096, '\0').data(), 4096);
  }
  EXPECT_EQ(Rebuilt(copy).size(), 2u);
  const auto after = Open(copy);
  ASSERT_NE(after, nullptr);
  EXPECT_EQ(Get(&after->blocks(), 0, kPage).code, Code::kOk);
  EXPECT_EQ(Get(&after->blocks(), 11, kPage).code, Code::kOk)
      << "its location and its bytes are there";
  // New blocks go elsewhere.
  EXPECT_EQ(Execute(&after->blocks(), PutOp(20, BytesOf(kPage, 1))), Code::kOk);
  EXPECT_EQ(SegmentPaths(copy).size(), 2u);
}

}  // namespace
}  // namespace agentmem
