#include "memd/store/space_reclaimer.h"

#include <gtest/gtest.h>
#include <rocksdb/write_batch.h>

#include "base/status.h"
#include "memd/store/block_locations.h"
#include "memd/store/segment_writer.h"
#include "tests/unit/store/scripted_segment_io.h"
#include "tests/unit/store/store_harness.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kBytes = 64 << 10;

class SpaceReclaimerTest : public testing::Test {
 protected:
  // Three records in one sealed segment.
  SpaceReclaimerTest() {
    const std::string bytes = BytesOf(kBytes, 1);
    const StoreOp ops[] = {PutOp(0, bytes), PutOp(1, bytes), PutOp(2, bytes)};
    const StoreOp* const puts[] = {&ops[0], &ops[1], &ops[2]};
    std::vector<SegmentPlace> places;
    SegmentWriter writer(set_.get());
    EXPECT_TRUE(writer.Append(puts, false, &places).ok());
    for (std::size_t i = 0; i < places.size(); ++i) {
      records_.push_back({{{TenantId(1), KeyOf(i), BlockClass::kCache,
                            static_cast<std::uint32_t>(kBytes)},
                           places[i]},
                          true});
    }
  }

  void WriteLocation(std::uint64_t key) {
    const auto opened = database_->Use().value();
    rocksdb::WriteBatch batch;
    const std::string bytes = BytesOf(kBytes, 1);
    ASSERT_TRUE(AddLocation(opened.get(), PutOp(key, bytes),
                            records_[key].location.place, &batch)
                    .ok());
    ASSERT_TRUE(opened->db()->Write({}, &batch).ok());
  }
  std::size_t Segments() {
    return ListSegments(directory_.path() + "/segments")->size();
  }

  const TempDirectory directory_;
  ScriptedSegmentIo io_;
  std::unique_ptr<RocksDatabase> database_ =
      std::move(RocksDatabase::Open(directory_.path())).value();
  std::unique_ptr<SegmentSet> set_ =
      std::move(SegmentSet::Open(directory_.path() + "/segments", &io_))
          .value();
  std::vector<FreedRecord> records_;
  SpaceReclaimer reclaimer_{database_.get(), set_.get()};
};

TEST_F(SpaceReclaimerTest, ARecordThatALocationNamesStays) {
  // A put that seemed to have failed.
  WriteLocation(1);
  reclaimer_.Free(records_);
  ASSERT_TRUE(reclaimer_.Reclaim().ok());
  EXPECT_EQ(io_.punches, 2);
  EXPECT_EQ(io_.punched_bytes, 2 * kBytes);
  EXPECT_EQ(Segments(), 1u);
}

TEST_F(SpaceReclaimerTest, ARecordThatIsFreedTwiceIsCountedOnce) {
  reclaimer_.Free({&records_[0], 1});
  reclaimer_.Free(std::span(records_).first(2));
  ASSERT_TRUE(reclaimer_.Reclaim().ok());
  EXPECT_EQ(io_.punches, 1);
  EXPECT_EQ(io_.punched_bytes, 2 * kBytes);
  EXPECT_EQ(Segments(), 1u) << "one record in it lives";
  reclaimer_.Free({&records_[2], 1});
  ASSERT_TRUE(reclaimer_.Reclaim().ok());
  EXPECT_EQ(Segments(), 0u);
}

TEST_F(SpaceReclaimerTest, NothingIsGivenBackBeforeTheSyncAndAllAfterIt) {
  reclaimer_.Free({&records_[0], 1});
  io_.FailSync(Unavailable("broken"));
  EXPECT_EQ(reclaimer_.Reclaim().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(io_.punches, 0);
  io_.FailSync(absl::OkStatus());
  EXPECT_TRUE(reclaimer_.Reclaim().ok());
  EXPECT_EQ(io_.punches, 1);
}

TEST_F(SpaceReclaimerTest, WhatWasFreedInMemoryAloneIsFlushedFirst) {
  WriteLocation(0);
  {
    const auto opened = database_->Use().value();
    const StoreKey key = EncodeStoreKey(TenantId(1), KeyOf(0));
    rocksdb::WriteOptions in_memory;
    in_memory.disableWAL = true;
    ASSERT_TRUE(
        opened->db()
            ->Delete(in_memory, opened->locations(), {key.data(), key.size()})
            .ok());
  }
  records_[0].in_log = false;
  reclaimer_.Free({&records_[0], 1});
  ASSERT_TRUE(reclaimer_.Reclaim().ok());
  ASSERT_EQ(io_.punches, 1);
  // What a crash would leave.
  const TempDirectory copy;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory_.path())) {
    std::filesystem::copy(entry.path(),
                          copy.path() + "/" + entry.path().filename().string(),
                          std::filesystem::copy_options::recursive);
  }
  auto after = RocksDatabase::Open(copy.path());
  ASSERT_TRUE(after.ok());
  const auto opened = (*after)->Use().value();
  EXPECT_EQ(FindLocation(opened.get(), TenantId(1), KeyOf(0)).status().code(),
            absl::StatusCode::kNotFound)
      << "its bytes are punched out";
}

}  // namespace
}  // namespace agentmem
