#include "memd/store/rocks_store.h"

#include <gtest/gtest.h>
#include <rocksdb/write_batch.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>

#include "base/status.h"
#include "memd/store/block_locations.h"
#include "memd/store/rocks_database.h"
#include "memd/store/segment_set.h"
#include "proto/record_layout.h"
#include "tests/unit/store/store_harness.h"

namespace agentmem {
namespace {

absl::Status OpenStatus(const std::string& path) {
  RocksStoreOptions options;
  options.path = path;
  return RocksStore::Open(options).status();
}

// As a crash of the process would leave it: what it wrote, not what it holds.
void CopyAsCrashed(const std::string& from, const std::string& to) {
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
}

TEST(RocksStore, ADurablePutIsThereAfterACrashRightAfterItsCompletion) {
  const TempDirectory directory;
  const std::string path = directory.path() + "/store";
  const std::string copy = directory.path() + "/copy";
  const std::string bytes = BytesOf(65536, 1);
  const auto store = OpenStore(path);
  // A small cache put before it, so that the log has a gap in its sequence.
  const std::string small = BytesOf(8192, 1);
  EXPECT_EQ(Execute(&store->blocks(), PutOp(1, small)), Code::kOk);
  EXPECT_EQ(Execute(&store->blocks(),
                    PutOp(2, bytes, BlockClass::kState, /*durable=*/true)),
            Code::kOk);
  EXPECT_EQ(Execute(&store->blocks(),
                    PutOp(3, bytes, BlockClass::kCache, /*durable=*/true)),
            Code::kOk);
  CopyAsCrashed(path, copy);
  const auto after = OpenStore(copy);
  EXPECT_TRUE(Get(&after->blocks(), 2, 65536).bytes == bytes);
  EXPECT_TRUE(Get(&after->blocks(), 3, 65536).bytes == bytes);
  // The cache put skipped the log; Scan and Get agree that it is gone.
  EXPECT_EQ(Get(&after->blocks(), 1, 8192).code, Code::kNotFound);
  EXPECT_EQ(ScanAll(&after->blocks()).size(), 2u);
}

TEST(RocksStore, EverythingAcceptedIsThereAfterFlushAndACrash) {
  const TempDirectory directory;
  const std::string path = directory.path() + "/store";
  const std::string copy = directory.path() + "/copy";
  const std::string bytes = BytesOf(65536, 1);
  const auto store = OpenStore(path);
  std::vector<StoreOp> ops;
  for (std::uint64_t key = 0; key < 200; ++key) {
    ops.push_back(PutOp(key, bytes));
  }
  ASSERT_EQ(store->blocks().Submit(ops), ops.size());
  ASSERT_TRUE(store->blocks().Flush().ok());
  CopyAsCrashed(path, copy);
  TakeCompletions(&store->blocks(), ops.size());
  const auto after = OpenStore(copy);
  EXPECT_EQ(ScanAll(&after->blocks()).size(), ops.size());
  EXPECT_TRUE(Get(&after->blocks(), 199, 65536).bytes == bytes);
}

TEST(RocksStore, AStoreOfAnotherVersionIsRefusedAndBothAreNamed) {
  const TempDirectory directory;
  {
    auto database = RocksDatabase::Open(directory.path());
    ASSERT_TRUE(database.ok());
    const auto opened = (*database)->Use().value();
    rocksdb::DB* const db = opened->db();
    ASSERT_TRUE(db->Put({}, kStoreFormatName, "3").ok());
    // A later version may well have a family that this one does not know.
    rocksdb::ColumnFamilyHandle* later = nullptr;
    ASSERT_TRUE(db->CreateColumnFamily({}, "later", &later).ok());
    ASSERT_TRUE(db->DestroyColumnFamilyHandle(later).ok());
  }
  const absl::Status status = OpenStatus(directory.path());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  const std::string message = StatusMessage(status);
  EXPECT_NE(message.find("has format version 3"), std::string::npos) << message;
  EXPECT_NE(message.find("versions 1 and 2"), std::string::npos) << message;
  EXPECT_NE(message.find(directory.path()), std::string::npos) << message;
}

// As memd made it before there were segments: all bytes in "blocks".
void MakeStoreOfVersion1(const std::string& path,
                         const std::vector<StoreOp>& puts) {
  auto database = RocksDatabase::Open(path);
  ASSERT_TRUE(database.ok());
  const auto opened = (*database)->Use().value();
  rocksdb::WriteBatch batch;
  for (const StoreOp& put : puts) {
    ASSERT_TRUE(AddRecord(opened.get(), put, &batch).ok());
  }
  ASSERT_TRUE(batch.Put(kStoreFormatName, "1").ok());
  ASSERT_TRUE(opened->db()->Write({}, &batch).ok());
}

TEST(RocksStore, AStoreOfVersion1IsReadAndGoesOnAsOneOfVersion2) {
  const TempDirectory directory;
  const std::string large = BytesOf(1 << 20, 1);
  const std::string other = BytesOf((1 << 20) + 1, 2);
  const std::string small = BytesOf(512, 3);
  MakeStoreOfVersion1(directory.path(),
                      {PutOp(1, large, BlockClass::kState), PutOp(2, large),
                       PutOp(3, large), PutOp(4, small)});
  for (int pass = 0; pass < 2; ++pass) {
    const auto store = OpenStore(directory.path());
    EXPECT_EQ(ScanAll(&store->blocks()).size(), 4u - pass);
    EXPECT_TRUE(Get(&store->blocks(), 1, large.size()).bytes == large);
    EXPECT_TRUE(Get(&store->blocks(), 4, small.size()).bytes == small);
    const std::string& second = pass == 0 ? large : other;
    EXPECT_TRUE(Get(&store->blocks(), 2, second.size()).bytes == second);
    EXPECT_EQ(Get(&store->blocks(), 3, large.size()).code,
              pass == 0 ? Code::kOk : Code::kNotFound);
    EXPECT_EQ(Execute(&store->blocks(), PutOp(2, other)), Code::kOk);
    EXPECT_EQ(Execute(&store->blocks(), DeleteOp(3)), Code::kOk);
  }
  auto database = RocksDatabase::Open(directory.path());
  ASSERT_TRUE(database.ok());
  const auto opened = (*database)->Use().value();
  std::string format;
  ASSERT_TRUE(opened->db()->Get({}, kStoreFormatName, &format).ok());
  EXPECT_EQ(format, "2");
  // What was replaced or deleted is gone from where it was.
  for (const std::uint64_t key : {2, 3}) {
    const StoreKey store_key = EncodeStoreKey(TenantId(1), KeyOf(key));
    std::string record;
    EXPECT_TRUE(opened->db()
                    ->Get({}, opened->blocks(),
                          {store_key.data(), store_key.size()}, &record)
                    .IsNotFound())
        << key;
  }
}

TEST(RocksStore, SegmentsWithoutADatabaseAreRefusedAndKept) {
  const TempDirectory directory;
  {
    const auto store = OpenStore(directory.path());
    const std::string bytes = BytesOf(65536, 1);
    ASSERT_EQ(Execute(&store->blocks(), PutOp(1, bytes)), Code::kOk);
  }
  for (const auto& entry :
       std::filesystem::directory_iterator(directory.path())) {
    if (!entry.is_directory()) std::filesystem::remove(entry.path());
  }
  for (int attempt = 0; attempt < 2; ++attempt) {
    EXPECT_EQ(OpenStatus(directory.path()).code(),
              absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_EQ(ListSegments(directory.path() + "/segments")->size(), 1u);
}

TEST(RocksStore, DataWithoutAVersionIsRefused) {
  const TempDirectory directory;
  {
    auto database = RocksDatabase::Open(directory.path());
    ASSERT_TRUE(database.ok());
    const auto opened = (*database)->Use().value();
    rocksdb::DB* const db = opened->db();
    ASSERT_TRUE(db->Put({}, "other", "data").ok());
    ASSERT_TRUE(db->Delete({}, kStoreFormatName).ok());
  }
  EXPECT_EQ(OpenStatus(directory.path()).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(RocksStore, ASecondOpenIsRefusedAndNamesTheDirectory) {
  const TempDirectory directory;
  const auto store = OpenStore(directory.path());
  const absl::Status status = OpenStatus(directory.path());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(StatusMessage(status).find(directory.path()), std::string::npos)
      << StatusMessage(status);
}

TEST(RocksStore, AnOpenInAnotherProcessIsRefusedAndNamesTheDirectory) {
  const TempDirectory directory;
  int opened[2];
  int finish[2];
  ASSERT_EQ(::pipe(opened), 0);
  ASSERT_EQ(::pipe(finish), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  char byte = 'x';
  if (child == 0) {
    ::close(finish[1]);
    const auto store = OpenStore(directory.path());
    if (::write(opened[1], &byte, 1) != 1) ::_exit(1);
    (void)!::read(finish[0], &byte, 1);
    ::_exit(0);
  }
  ::close(opened[1]);
  EXPECT_EQ(::read(opened[0], &byte, 1), 1);
  const absl::Status status = OpenStatus(directory.path());
  ::close(finish[1]);
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(StatusMessage(status).find(directory.path()), std::string::npos)
      << StatusMessage(status);
  // It ended without closing anything; the lock went with it.
  EXPECT_TRUE(OpenStatus(directory.path()).ok());
  ::close(opened[0]);
  ::close(finish[0]);
}

TEST(RocksStore, MissingParentDirectoriesAreMadeForTheOwnerAlone) {
  const TempDirectory directory;
  const std::string parent = directory.path() + "/a";
  ASSERT_TRUE(OpenStatus(parent + "/b").ok());
  for (const std::string& made : {parent, parent + "/b"}) {
    struct stat info;
    ASSERT_EQ(::stat(made.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0700u) << made;
  }
}

TEST(RocksStore, OptionsOutOfRangeAreRefusedByName) {
  const TempDirectory directory;
  const auto refused = [&](auto change, const char* field) {
    RocksStoreOptions options;
    options.path = directory.path();
    change(&options);
    const absl::Status status = RocksStore::Open(options).status();
    return status.code() == absl::StatusCode::kInvalidArgument &&
           StatusMessage(status).find(field) != std::string::npos;
  };
  EXPECT_TRUE(refused([](auto* o) { o->read_threads = 0; }, "read_threads"));
  EXPECT_TRUE(refused([](auto* o) { o->write_threads = 65; }, "write_threads"));
  EXPECT_TRUE(refused([](auto* o) { o->queue_ops_max = 0; }, "queue_ops_max"));
  EXPECT_TRUE(refused([](auto* o) { o->path.clear(); }, "path"));
}

TEST(RocksStore, DiskBytesCountBlobsAndSegments) {
  const TempDirectory directory;
  const auto store = OpenStore(directory.path());
  std::uint64_t written = 0;
  for (const std::size_t length : {32 << 10, 4 << 20}) {
    const std::string bytes = BytesOf(length, 1);
    for (std::uint64_t key = 0; key < (8U << 20) / length; ++key) {
      written += length;
      ASSERT_EQ(Execute(&store->blocks(), PutOp(written, bytes)), Code::kOk);
    }
    ASSERT_TRUE(store->blocks().Flush().ok());
    EXPECT_GE(store->disk_bytes(), written);
    // A step of space is taken ahead.
    EXPECT_LT(store->disk_bytes(), written * 2 + (16 << 20));
  }
}

// A tmpfs of 64 MiB, or nothing where that is not allowed.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& path) : path_(path) {
    mounted_ = ::mount("tmpfs", path.c_str(), "tmpfs", 0, "size=64m") == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }

 private:
  const std::string path_;
  bool mounted_ = false;
};

TEST(RocksStore, AFullDiskFailsPutsAndTheyGoOnWhenSpaceReturns) {
  const TempDirectory directory;
  const SmallDisk disk(directory.path());
  if (!disk.mounted()) GTEST_SKIP() << "mounting a tmpfs needs privileges";
  const std::string ballast = directory.path() + "/ballast";
  const auto store = OpenStore(directory.path() + "/store");
  const std::string bytes = BytesOf(1 << 20, 1);
  const auto put = [&](std::uint64_t key) {
    return Execute(&store->blocks(),
                   PutOp(key, bytes, BlockClass::kState, /*durable=*/true));
  };
  ASSERT_EQ(put(0), Code::kOk);
  // 24 of the 64 MiB are taken by something else.
  FILE* const file = ::fopen(ballast.c_str(), "w");
  ASSERT_NE(file, nullptr);
  for (int i = 0; i < 24; ++i) {
    ASSERT_EQ(::fwrite(bytes.data(), bytes.size(), 1, file), 1u);
  }
  ASSERT_EQ(::fclose(file), 0);

  std::uint64_t failed = 0;
  for (std::uint64_t key = 1; key < 64 && failed == 0; ++key) {
    const Code code = put(key);
    if (code == Code::kOk) continue;
    EXPECT_EQ(code, Code::kResourceExhausted);
    failed = key;
  }
  ASSERT_GT(failed, 1u);
  EXPECT_EQ(put(failed), Code::kResourceExhausted) << "still full";
  // RocksDB dies of a diary on the full disk: it must have none there.
  EXPECT_FALSE(std::filesystem::exists(directory.path() + "/store/LOG"));
  EXPECT_EQ(Get(&store->blocks(), failed, bytes.size()).code, Code::kNotFound);
  EXPECT_EQ(ScanAll(&store->blocks()).size(), failed);
  EXPECT_TRUE(Get(&store->blocks(), 0, bytes.size()).bytes == bytes);

  std::filesystem::remove(ballast);
  EXPECT_EQ(put(failed), Code::kOk);
  EXPECT_TRUE(Get(&store->blocks(), failed, bytes.size()).bytes == bytes);
  for (std::uint64_t key = 0; key < failed; ++key) {
    EXPECT_TRUE(Get(&store->blocks(), key, bytes.size()).bytes == bytes) << key;
  }
}

}  // namespace
}  // namespace agentmem
