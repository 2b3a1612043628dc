// Puts and gets of blocks that lie in segments, and the disk's faults.
#include <fstream>
#include <semaphore>

#include "base/status.h"
#include "memd/store/aligned_buffer.h"
#include "tests/unit/store/segment_store_fixture.h"

namespace agentmem {
namespace {

// Flips a bit in the middle of `needle`, which lies in one segment.
bool Corrupt(const std::string& store, const std::string& needle) {
  for (const std::string& path : SegmentPaths(store)) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)),
                            std::istreambuf_iterator<char>());
    const std::size_t at = bytes.find(needle);
    if (at == std::string::npos) continue;
    const std::size_t middle = at + needle.size() / 2;
    file.clear();
    file.seekp(static_cast<std::streamoff>(middle));
    file.put(static_cast<char>(bytes[middle] ^ 1));
    return true;
  }
  return false;
}

TEST_F(SegmentStoreTest, OnlyBlocksOfMoreThan32KibibytesGoToSegments) {
  PutGroup(1, 1, 32 << 10);
  EXPECT_EQ(io_.writes, 0);
  PutGroup(2, 1, (32 << 10) + 1);
  EXPECT_EQ(io_.writes, 1);
}

TEST_F(SegmentStoreTest, BlocksThatWereWrittenTogetherAreReadInOneRead) {
  const auto bytes = PutGroup(0, 8);
  EXPECT_EQ(io_.writes, 1);
  std::vector<std::string> rooms(8, std::string(kPage, '\0'));
  std::vector<StoreOp> gets;
  // Not in the order of the file.
  for (const std::size_t key : {3, 1, 0, 2, 7, 5, 6, 4}) {
    gets.push_back(GetOp(key, &rooms[key]));
  }
  for (const StoreCompletion& done : Execute(blocks(), gets)) {
    EXPECT_EQ(done.code, Code::kOk);
    EXPECT_EQ(done.length, kPage);
  }
  EXPECT_EQ(rooms, bytes);
  EXPECT_EQ(io_.reads, 1);
}

TEST_F(SegmentStoreTest, ReadsOfSeveralGroupsAndOddLengthsAreScatteredRight) {
  std::vector<std::string> bytes;
  for (std::uint64_t key = 0; key < 6; ++key) {
    // A header, and for the even ones padding, lies between them.
    bytes.push_back(PutGroup(key, 1, kPage - key * 511)[0]);
  }
  std::vector<std::string> rooms;
  for (const std::string& one : bytes) rooms.emplace_back(one.size(), '\0');
  std::vector<StoreOp> gets;
  for (std::size_t key = 0; key < 6; ++key) {
    gets.push_back(GetOp(key, &rooms[key]));
  }
  gets.push_back(gets[2]);  // one of them twice
  std::string again(rooms[2].size(), '\0');
  gets.back().bytes[0].iov_base = again.data();
  for (const StoreCompletion& done : Execute(blocks(), gets)) {
    EXPECT_EQ(done.code, Code::kOk);
  }
  EXPECT_EQ(rooms, bytes);
  EXPECT_EQ(again, bytes[2]);
  EXPECT_LE(io_.reads, 3);
}

TEST_F(SegmentStoreTest, AlignedMemoryIsReadIntoAndWrittenFromInPlace) {
  // 512 is all that a slot promises.
  const AlignedBuffer memory(3 * kPage);
  const std::string bytes = BytesOf(kPage + 1, 1);
  char* const from = memory.data() + 512;
  bytes.copy(from, bytes.size());
  StoreOp put = PutOp(1, bytes);
  put.bytes[0] = {from, bytes.size()};
  ASSERT_EQ(Execute(blocks(), put), Code::kOk);
  std::string room(bytes.size(), '\0');
  StoreOp get = GetOp(1, &room);
  get.bytes[0] = {from, bytes.size()};
  std::fill(from, from + kPage + 8192, 'x');
  ASSERT_EQ(Execute(blocks(), get), Code::kOk);
  EXPECT_EQ(std::string(from, bytes.size()), bytes);
  EXPECT_EQ(std::string(from + bytes.size(), 8192 - 1), std::string(8191, 'x'))
      << "more was written than the room that was given";
}

TEST_F(SegmentStoreTest, AWrongBitIsDataLossOfThatBlockAlone) {
  const auto bytes = PutGroup(0, 3);
  store_.reset();
  ASSERT_TRUE(Corrupt(path_, bytes[1]));
  store_ = Open(path_);
  testing::internal::CaptureStderr();
  for (int pass = 0; pass < 2; ++pass) {
    std::vector<std::string> rooms(3, std::string(kPage, '\0'));
    std::map<std::uint64_t, Code> codes;
    for (const StoreCompletion& done : Execute(
             blocks(),
             {GetOp(0, &rooms[0]), GetOp(1, &rooms[1]), GetOp(2, &rooms[2])})) {
      codes[done.ticket] = done.code;
    }
    EXPECT_EQ(codes[0], Code::kOk);
    EXPECT_EQ(codes[1], Code::kDataLoss);
    EXPECT_EQ(codes[2], Code::kOk);
    EXPECT_EQ(rooms[0], bytes[0]);
    EXPECT_EQ(rooms[2], bytes[2]);
  }
  const std::string log = testing::internal::GetCapturedStderr();
  const std::string name =
      "block 00000001:00000000fffffffeffffffff of tenant 1";
  const std::size_t at = log.find(name);
  ASSERT_NE(at, std::string::npos) << log;
  EXPECT_EQ(log.find(name, at + 1), std::string::npos) << log;
  // What was lost can be put again.
  EXPECT_EQ(Execute(blocks(), PutOp(1, bytes[1])), Code::kOk);
  EXPECT_EQ(Get(blocks(), 1, kPage).bytes, bytes[1]);
}

TEST_F(SegmentStoreTest, ASegmentThatIsGoneOrShortIsDataLossNotAMiss) {
  const auto bytes = PutGroup(0, 2);
  store_.reset();
  const std::string segment = SegmentPaths(path_).at(0);
  std::filesystem::resize_file(segment, 4096 + kPage + 4096);
  store_ = Open(path_);
  std::vector<std::string> rooms(2, std::string(kPage, '\0'));
  std::map<std::uint64_t, Code> codes;
  for (const StoreCompletion& done :
       Execute(blocks(), {GetOp(0, &rooms[0]), GetOp(1, &rooms[1])})) {
    codes[done.ticket] = done.code;
  }
  EXPECT_EQ(codes[0], Code::kOk);
  EXPECT_EQ(codes[1], Code::kDataLoss);
  store_.reset();
  std::filesystem::remove(segment);
  store_ = Open(path_);
  EXPECT_EQ(Get(blocks(), 0, kPage).code, Code::kDataLoss);
  // Its number is not given again while a location names it.
  PutGroup(5, 1);
  EXPECT_NE(SegmentPaths(path_).at(0), segment);
  EXPECT_EQ(Get(blocks(), 0, kPage).code, Code::kDataLoss);
}

TEST_F(SegmentStoreTest, WhatLayInSegmentsThatAreGoneIsCountedAtTheStart) {
  PutGroup(1, 3);
  Reopen();
  EXPECT_EQ(store_->losses().blocks, 0u);
  store_.reset();
  for (const std::string& path : SegmentPaths(path_)) {
    std::filesystem::remove(path);
  }
  store_ = Open(path_);
  const StoreLosses losses = store_->losses();
  EXPECT_EQ(losses.segments, 1u);
  EXPECT_EQ(losses.blocks, 3u);
  EXPECT_EQ(losses.state_blocks, 3u);
  EXPECT_NE(losses.text().find(path_ + "/segments: 1, with 3 blocks"),
            std::string::npos)
      << losses.text();
}

TEST_F(SegmentStoreTest, ADurablePutIsSyncedAndAnotherOneByFlushAlone) {
  PutGroup(1, 1);
  EXPECT_EQ(io_.syncs, 0);
  PutGroup(2, 1, kPage, /*durable=*/true);
  EXPECT_EQ(io_.syncs, 1);
  Flush();
  const int flushed = io_.syncs;
  PutGroup(3, 1);
  EXPECT_EQ(io_.syncs, flushed);
  Flush();
  EXPECT_EQ(io_.syncs, flushed + 1);
  // It may have been acknowledged as durable: what replaces it is as safe.
  PutGroup(2, 1);
  EXPECT_EQ(io_.syncs, flushed + 2);
}

TEST_F(SegmentStoreTest, ACrashOfTheProcessAloneLosesNoBlockOfASegment) {
  const std::string bytes = BytesOf(kPage, 1);
  ASSERT_EQ(Execute(blocks(), PutOp(1, bytes, BlockClass::kCache)), Code::kOk);
  ASSERT_EQ(Execute(blocks(), PutOp(2, bytes, BlockClass::kState)), Code::kOk);
  const auto after = Open(CopyAsCrashed());
  ASSERT_NE(after, nullptr);
  EXPECT_EQ(Get(&after->blocks(), 1, kPage).bytes, bytes);
  EXPECT_EQ(Get(&after->blocks(), 2, kPage).bytes, bytes);
}

TEST_F(SegmentStoreTest, APutWithoutSpaceFailsAloneAndPutsGoOnWithSpace) {
  io_.FailAllocate(ResourceExhausted("no space"));
  const std::string large = BytesOf(kPage, 1);
  const std::string small = BytesOf(512, 2);
  std::map<std::uint64_t, Code> codes;
  for (const StoreCompletion& done :
       Execute(blocks(), {PutOp(1, large, BlockClass::kState, true),
                          PutOp(2, small, BlockClass::kState, true)})) {
    codes[done.ticket] = done.code;
  }
  EXPECT_EQ(codes[1], Code::kResourceExhausted);
  EXPECT_EQ(codes[2], Code::kOk);
  EXPECT_EQ(Get(blocks(), 1, kPage).code, Code::kNotFound);
  EXPECT_EQ(ScanAll(blocks()).size(), 1u);
  io_.FailAllocate(absl::OkStatus());
  EXPECT_EQ(Execute(blocks(), PutOp(1, large)), Code::kOk);
  EXPECT_EQ(Get(blocks(), 1, kPage).bytes, large);
}

TEST_F(SegmentStoreTest, TheLastSpaceOfADiskIsUsed) {
  io_.FailAllocateBeyond(1 << 20, ResourceExhausted("no space"));
  PutGroup(1, 1);
  EXPECT_EQ(Get(blocks(), 1, kPage).code, Code::kOk);
}

TEST_F(SegmentStoreTest, AFailedWriteOrSyncShowsNothingAndIsNotWrittenOver) {
  const std::string old_bytes = PutGroup(1, 1)[0];
  const std::string bytes = BytesOf(kPage, 9);
  io_.FailWrite(Unavailable("broken"));
  EXPECT_EQ(Execute(blocks(), PutOp(1, bytes)), Code::kUnavailable);
  EXPECT_EQ(Execute(blocks(), PutOp(2, bytes)), Code::kUnavailable);
  io_.FailWrite(absl::OkStatus());
  io_.FailSync(Unavailable("broken"));
  EXPECT_EQ(Execute(blocks(), PutOp(2, bytes, BlockClass::kState, true)),
            Code::kUnavailable);
  io_.FailSync(absl::OkStatus());
  EXPECT_EQ(Get(blocks(), 1, kPage).bytes, old_bytes);
  EXPECT_EQ(Get(blocks(), 2, kPage).code, Code::kNotFound);
  EXPECT_EQ(ScanAll(blocks()).size(), 1u);
  PutGroup(3, 1);
  EXPECT_EQ(SegmentPaths(path_).size(), 2u)
      << "the failed ones held nothing, the next one begins a segment";
  Reopen();
  EXPECT_EQ(Get(blocks(), 1, kPage).bytes, old_bytes);
  EXPECT_EQ(Get(blocks(), 2, kPage).code, Code::kNotFound);
  EXPECT_EQ(Get(blocks(), 3, kPage).code, Code::kOk);
}

TEST_F(SegmentStoreTest, AReadThatFailsIsUnavailableAndNotALoss) {
  PutGroup(1, 1);
  io_.FailRead(Unavailable("broken"));
  EXPECT_EQ(Get(blocks(), 1, kPage).code, Code::kUnavailable);
  io_.FailRead(absl::OkStatus());
  EXPECT_EQ(Get(blocks(), 1, kPage).code, Code::kOk);
}

// Holds the first read until the test lets it go on.
class ReadGate {
 public:
  explicit ReadGate(ScriptedSegmentIo* io) : io_(io) {
    io_->before_read = [this] {
      if (passed_.exchange(true)) return;
      arrived_.release();
      open_.acquire();
    };
  }
  void AwaitRead() { arrived_.acquire(); }
  void Open() { open_.release(); }

 private:
  ScriptedSegmentIo* const io_;
  std::atomic<bool> passed_ = false;
  std::binary_semaphore arrived_{0};
  std::binary_semaphore open_{0};
};

TEST_F(SegmentStoreTest, AGetThatADeletionOvertakesIsNotFoundAndNotALoss) {
  PutGroup(1, 2);
  ReadGate gate(&io_);
  std::string room(kPage, '\0');
  const StoreOp get = GetOp(1, &room);
  ASSERT_EQ(blocks()->Submit({&get, 1}), 1u);
  gate.AwaitRead();
  ASSERT_EQ(Execute(blocks(), DeleteOp(1)), Code::kOk);
  Flush();
  ASSERT_EQ(io_.punches, 1);
  gate.Open();
  const auto done = TakeCompletions(blocks(), 1);
  EXPECT_EQ(done.at(0).code, Code::kNotFound);
}

TEST_F(SegmentStoreTest, AGetThatAReplacementOvertakesHasTheNewBytes) {
  PutGroup(1, 2);
  const std::string bytes = BytesOf(kPage, 77);
  ReadGate gate(&io_);
  std::string room(kPage, '\0');
  const StoreOp get = GetOp(1, &room);
  ASSERT_EQ(blocks()->Submit({&get, 1}), 1u);
  gate.AwaitRead();
  ASSERT_EQ(Execute(blocks(), PutOp(1, bytes)), Code::kOk);
  Flush();
  ASSERT_EQ(io_.punches, 1);
  gate.Open();
  const auto done = TakeCompletions(blocks(), 1);
  EXPECT_EQ(done.at(0).code, Code::kOk);
  EXPECT_EQ(room, bytes);
}

TEST_F(SegmentStoreTest, ScanPrefixVisitsThoseOfTheTenantAndTheWordAlone) {
  const std::string small = BytesOf(512, 1);
  const std::string large = BytesOf(kPage, 2);
  std::vector<StoreOp> ops;
  for (const std::uint64_t low : {0x100000001, 0x100000002, 0x200000001}) {
    for (const std::uint64_t high : {0, 1, 2}) {
      for (const std::uint32_t tenant : {1, 2}) {
        StoreOp op = PutOp(1, high == 1 ? large : small);
        op.tenant = TenantId(tenant);
        op.key = Key::FromWords(low, high);
        ops.push_back(op);
      }
    }
  }
  Execute(blocks(), ops);
  std::map<std::uint64_t, std::uint32_t> found;
  ASSERT_TRUE(blocks()
                  ->ScanPrefix(TenantId(1), 0x100000001,
                               [&](const StoredBlock& block) {
                                 EXPECT_EQ(block.tenant, TenantId(1));
                                 EXPECT_EQ(block.key.low(), 0x100000001u);
                                 found[block.key.high()] = block.length;
                               })
                  .ok());
  const std::map<std::uint64_t, std::uint32_t> expected = {
      {0, 512}, {1, kPage}, {2, 512}};
  EXPECT_EQ(found, expected);
}

}  // namespace
}  // namespace agentmem
