#include "memd/store/rocks_tuning.h"

#include <gtest/gtest.h>

namespace agentmem {
namespace {

// Puts without a log reach the disk by flushes: one family alone would leave
// blocks that Scan does not list, or locations of blocks that are not there. A
// crash between two flushes is too rare for a test to wait for.
TEST(RocksTuning, BlocksAndLocationsAreFlushedTogether) {
  EXPECT_TRUE(DatabaseTuning().atomic_flush);
}

TEST(RocksTuning, TheMemoryOfAllWriteBuffersIsTheDocumentedSum) {
  std::size_t bytes = 0;
  for (const char* const name : {"blocks", "locations", "refs", "default"}) {
    const rocksdb::ColumnFamilyOptions options = FamilyTuning(name, nullptr);
    bytes += options.write_buffer_size *
             static_cast<std::size_t>(options.max_write_buffer_number);
  }
  EXPECT_EQ(bytes, std::size_t{50} << 20);  // rocks_database.h
}

TEST(RocksTuning, BlocksFromFourKibibytesOnLieInBlobFiles) {
  const rocksdb::ColumnFamilyOptions blocks = FamilyTuning("blocks", nullptr);
  EXPECT_TRUE(blocks.enable_blob_files);
  EXPECT_EQ(blocks.min_blob_size, 4096u);
  EXPECT_TRUE(blocks.enable_blob_garbage_collection);
  EXPECT_FALSE(FamilyTuning("refs", nullptr).enable_blob_files);
}

}  // namespace
}  // namespace agentmem
