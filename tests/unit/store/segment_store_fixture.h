// A store whose disk can be told to fail, for tests of blocks in segments.
//
// Ownership: owns the store, its directory and its disk. Threads:
// thread-compatible. Errors: EXPECT and FAIL of GoogleTest. Cost: each call
// waits for the disk.
#ifndef AGENTMEM_TESTS_UNIT_STORE_SEGMENT_STORE_FIXTURE_H_
#define AGENTMEM_TESTS_UNIT_STORE_SEGMENT_STORE_FIXTURE_H_

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "memd/store/block_locations.h"
#include "memd/store/segment_scan.h"
#include "tests/unit/store/scripted_segment_io.h"
#include "tests/unit/store/store_harness.h"

namespace agentmem {

inline constexpr std::size_t kPage = 64 << 10;

inline std::vector<std::string> SegmentPaths(const std::string& store) {
  std::vector<std::string> paths;
  for (const auto& entry :
       std::filesystem::directory_iterator(store + "/segments")) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

inline std::uint64_t AllocatedBytes(const std::string& store) {
  std::uint64_t bytes = 0;
  for (const std::string& path : SegmentPaths(store)) {
    struct stat info;
    if (::stat(path.c_str(), &info) == 0) {
      bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
    }
  }
  return bytes;
}

class SegmentStoreTest : public testing::Test {
 protected:
  ~SegmentStoreTest() override { EXPECT_EQ(io_.misaligned, 0); }

  std::unique_ptr<RocksStore> Open(const std::string& path) {
    RocksStoreOptions options;
    options.path = path;
    options.segment_io = &io_;
    auto store = RocksStore::Open(options);
    EXPECT_TRUE(store.ok()) << store.status().ToString();
    return store.ok() ? std::move(store).value() : nullptr;
  }
  void Reopen() {
    store_.reset();
    store_ = Open(path_);
  }
  BlockStore* blocks() { return &store_->blocks(); }
  void Flush() { ASSERT_TRUE(blocks()->Flush().ok()); }

  // What a crash of the process leaves, in another directory.
  std::string CopyAsCrashed() {
    const std::string copy = directory_.path() + "/copy";
    std::filesystem::copy(path_, copy,
                          std::filesystem::copy_options::recursive);
    return copy;
  }

  // Puts `count` blocks in one group, from key `first` on.
  std::vector<std::string> PutGroup(std::uint64_t first, std::size_t count,
                                    std::size_t length = kPage,
                                    bool durable = false) {
    std::vector<std::string> bytes;
    std::vector<StoreOp> ops;
    for (std::size_t i = 0; i < count; ++i) {
      bytes.push_back(BytesOf(length, first + i));
    }
    for (std::size_t i = 0; i < count; ++i) {
      ops.push_back(PutOp(first + i, bytes[i], BlockClass::kState, durable));
    }
    for (const StoreCompletion& done : Execute(blocks(), ops)) {
      EXPECT_EQ(done.code, Code::kOk);
    }
    return bytes;
  }

  std::map<std::uint64_t, SegmentPlace> Rebuilt(const std::string& path) {
    std::map<std::uint64_t, SegmentPlace> places;
    EXPECT_TRUE(RebuildLocations(&io_, path + "/segments",
                                 [&](const BlockLocation& found) {
                                   EXPECT_EQ(found.block.tenant, TenantId(1));
                                   places[found.block.key.low()] = found.place;
                                 })
                    .ok());
    return places;
  }
  std::map<std::uint64_t, SegmentPlace> Located(const std::string& path) {
    std::map<std::uint64_t, SegmentPlace> places;
    auto database = RocksDatabase::Open(path);
    EXPECT_TRUE(database.ok());
    EXPECT_TRUE(ScanLocations(database->get(), [&](const BlockLocation& found) {
                  if (!found.place.in_segment()) return;
                  places[found.block.key.low()] = found.place;
                }).ok());
    return places;
  }

  const TempDirectory directory_;
  const std::string path_ = directory_.path() + "/store";
  ScriptedSegmentIo io_;
  std::unique_ptr<RocksStore> store_ = Open(path_);
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_STORE_SEGMENT_STORE_FIXTURE_H_
