#include "memd/store/rocks_block_store.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <fstream>
#include <map>

#include "memd/store/record_codec.h"
#include "memd/store/rocks_store.h"
#include "tests/unit/store/store_harness.h"

namespace agentmem {
namespace {

// Small enough for "blocks", large enough for a blob file.
constexpr std::size_t kBlobBytes = 32 << 10;

class RocksBlockStoreTest : public testing::Test {
 protected:
  BlockStore* blocks() { return &store_->blocks(); }
  void Reopen() {
    store_.reset();
    store_ = OpenStore(directory_.path());
  }

  TempDirectory directory_;
  std::unique_ptr<RocksStore> store_ = OpenStore(directory_.path());
};

bool IsReadable(int fd) {
  pollfd waits = {fd, POLLIN, 0};
  return ::poll(&waits, 1, 0) == 1;
}

// The name is unique to this file: flips one bit in the middle of `needle` in
// each blob file that holds it.
int CorruptInBlobFiles(const std::string& path, const std::string& needle) {
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.path().extension() != ".blob") continue;
    std::fstream file(entry.path(),
                      std::ios::in | std::ios::out | std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)),
                            std::istreambuf_iterator<char>());
    const std::size_t at = bytes.find(needle);
    if (at == std::string::npos) continue;
    const std::size_t middle = at + needle.size() / 2;
    file.clear();
    file.seekp(static_cast<std::streamoff>(middle));
    file.put(static_cast<char>(bytes[middle] ^ 1));
    ++found;
  }
  return found;
}

TEST_F(RocksBlockStoreTest, BlocksOfEverySizeComeBackBeforeAndAfterAReopen) {
  std::map<std::uint64_t, std::string> expected;
  std::uint64_t key = 0;
  for (const std::size_t length :
       {1, 511, 4095, 4096, 32767, 32768, 32769, 36863, 36865, 65536, 1 << 20,
        (4 << 20) - 1, 4 << 20}) {
    for (const BlockClass c : {BlockClass::kCache, BlockClass::kState}) {
      for (const bool durable : {false, true}) {
        std::string& bytes = expected[++key];
        bytes = BytesOf(length, key);
        EXPECT_EQ(Execute(blocks(), PutOp(key, bytes, c, durable)), Code::kOk);
      }
    }
  }
  for (int pass = 0; pass < 2; ++pass) {
    for (const auto& [k, bytes] : expected) {
      const GetAnswer answer = Get(blocks(), k, bytes.size());
      EXPECT_EQ(answer.code, Code::kOk);
      EXPECT_TRUE(answer.bytes == bytes) << "key " << k << " pass " << pass;
    }
    Reopen();
  }
}

TEST_F(RocksBlockStoreTest, ABlockThatWasNeverPutIsNotFound) {
  EXPECT_EQ(Get(blocks(), 1, 512).code, Code::kNotFound);
}

TEST_F(RocksBlockStoreTest, TenantsDoNotSeeOneAnothersBlocks) {
  const std::string bytes = BytesOf(512, 1);
  ASSERT_EQ(Execute(blocks(), PutOp(1, bytes)), Code::kOk);
  std::string room(512, '\0');
  StoreOp get = GetOp(1, &room);
  get.tenant = TenantId(2);
  EXPECT_EQ(Execute(blocks(), get), Code::kNotFound);
}

TEST_F(RocksBlockStoreTest, OperationsOnAKeyTakeEffectInTheirOrder) {
  const std::string old_bytes = BytesOf(8192, 1);
  const std::string new_bytes = BytesOf(8192, 2);
  std::uint64_t key = 0;
  for (const BlockClass c : {BlockClass::kCache, BlockClass::kState}) {
    for (const bool durable : {false, true}) {
      const std::uint64_t deleted = ++key;
      const std::uint64_t kept = ++key;
      std::vector<StoreOp> ops;
      for (int round = 0; round < 20; ++round) {
        ops.push_back(PutOp(deleted, old_bytes, c, durable));
        ops.push_back(DeleteOp(deleted));
        ops.push_back(PutOp(kept, old_bytes, c, durable));
        ops.push_back(DeleteOp(kept));
        ops.push_back(PutOp(kept, old_bytes, BlockClass::kCache, false));
        ops.push_back(PutOp(kept, new_bytes, c, durable));
      }
      for (const StoreCompletion& done : Execute(blocks(), ops)) {
        EXPECT_EQ(done.code, Code::kOk);
      }
      EXPECT_EQ(Get(blocks(), deleted, 8192).code, Code::kNotFound);
      EXPECT_TRUE(Get(blocks(), kept, 8192).bytes == new_bytes);
    }
  }
  EXPECT_EQ(ScanAll(blocks()).size(), 4u);
  Reopen();
  EXPECT_EQ(ScanAll(blocks()).size(), 4u);
  EXPECT_EQ(Get(blocks(), 1, 8192).code, Code::kNotFound);
}

TEST_F(RocksBlockStoreTest, ScanListsExactlyWhatIsThere) {
  const std::string cache = BytesOf(5000, 1);
  const std::string state = BytesOf(77, 2);
  const std::string gone = BytesOf(4096, 3);
  Execute(blocks(), {PutOp(1, cache), PutOp(2, state, BlockClass::kState),
                     PutOp(3, gone), DeleteOp(3)});
  for (int pass = 0; pass < 2; ++pass) {
    std::map<std::uint64_t, StoredBlock> found;
    for (const StoredBlock& block : ScanAll(blocks())) {
      EXPECT_EQ(block.tenant, TenantId(1));
      EXPECT_TRUE(found.emplace(block.key.low(), block).second);
    }
    ASSERT_EQ(found.size(), 2u);
    EXPECT_EQ(found[1].key, KeyOf(1));
    EXPECT_EQ(found[1].length, 5000u);
    EXPECT_EQ(found[1].block_class, BlockClass::kCache);
    EXPECT_EQ(found[2].key, KeyOf(2));
    EXPECT_EQ(found[2].length, 77u);
    EXPECT_EQ(found[2].block_class, BlockClass::kState);
    Reopen();
  }
}

TEST_F(RocksBlockStoreTest, AGetWithTheWrongRoomIsRefusedAndToldTheLength) {
  // In "blocks", and in a segment; asked for as one or the other.
  for (const std::size_t length : {5000, 50'000}) {
    Execute(blocks(), PutOp(length, BytesOf(length, 1)));
    for (const std::size_t wrong : {4999, 5001, 49'999, 50'001}) {
      std::string room(wrong, 'x');
      const auto done = Execute(blocks(), std::vector{GetOp(length, &room)});
      ASSERT_EQ(done.size(), 1u);
      EXPECT_EQ(done[0].code, Code::kInvalidArgument);
      EXPECT_EQ(done[0].length, length);
      EXPECT_EQ(room, std::string(wrong, 'x')) << "the room was written";
    }
  }
}

TEST_F(RocksBlockStoreTest, APutThatIsWrongIsRefusedAndItsNeighboursAreNot) {
  const std::string bytes = BytesOf((4 << 20) + 1, 1);
  StoreOp empty = PutOp(1, bytes);
  empty.bytes[0].iov_len = 0;
  const StoreOp too_long = PutOp(2, bytes);
  StoreOp no_class = PutOp(3, bytes);
  no_class.bytes[0].iov_len = 512;
  no_class.block_class = BlockClass{9};
  StoreOp right = PutOp(4, bytes);
  right.bytes[0].iov_len = 512;
  std::map<std::uint64_t, Code> codes;
  for (const StoreCompletion& done :
       Execute(blocks(), {empty, too_long, no_class, right})) {
    codes[done.ticket] = done.code;
  }
  EXPECT_EQ(codes[1], Code::kInvalidArgument);
  EXPECT_EQ(codes[2], Code::kInvalidArgument);
  EXPECT_EQ(codes[3], Code::kInvalidArgument);
  EXPECT_EQ(codes[4], Code::kOk);
  EXPECT_EQ(ScanAll(blocks()).size(), 1u);
}

TEST_F(RocksBlockStoreTest, NoMoreThanTheBoundIsAcceptedUntilPolled) {
  store_.reset();
  store_ = OpenStore(directory_.path(), 4);
  const std::string bytes = BytesOf(512, 1);
  std::vector<StoreOp> ops;
  for (int i = 0; i < 6; ++i) ops.push_back(PutOp(i, bytes));
  std::string room(512, '\0');
  EXPECT_EQ(blocks()->Submit(ops), 4u);
  EXPECT_EQ(blocks()->Submit({&ops[4], 1}), 0u);
  // That they are finished makes no room; that they were polled does.
  ASSERT_TRUE(blocks()->Flush().ok());
  EXPECT_EQ(blocks()->Submit({&ops[4], 1}), 0u);
  TakeCompletions(blocks(), 1);
  EXPECT_EQ(blocks()->Submit({&ops[4], 2}), 1u);
  TakeCompletions(blocks(), 4);
  EXPECT_EQ(ScanAll(blocks()).size(), 5u);
}

TEST_F(RocksBlockStoreTest, TheDescriptorIsReadableExactlyWhilePollHasSome) {
  const int fd = blocks()->completion_fd();
  EXPECT_FALSE(IsReadable(fd));
  const std::string bytes = BytesOf(512, 1);
  ASSERT_EQ(blocks()->Submit(
                std::vector{PutOp(1, bytes), PutOp(2, bytes), PutOp(3, bytes)}),
            3u);
  // Finished, or the flush would not return; not polled.
  ASSERT_TRUE(blocks()->Flush().ok());
  StoreCompletion done[2];
  EXPECT_TRUE(IsReadable(fd));
  EXPECT_EQ(blocks()->Poll(done), 2u);
  EXPECT_TRUE(IsReadable(fd));
  EXPECT_EQ(blocks()->Poll(done), 1u);
  EXPECT_FALSE(IsReadable(fd));
  EXPECT_EQ(blocks()->Poll(done), 0u);
}

TEST_F(RocksBlockStoreTest, AWrongBitOnDiskIsDataLossOfThatBlockAlone) {
  const std::string bad = BytesOf(kBlobBytes, 1);
  const std::string good = BytesOf(kBlobBytes, 2);
  Execute(blocks(), {PutOp(1, bad), PutOp(2, good)});
  store_.reset();  // closing writes the blob files
  ASSERT_EQ(CorruptInBlobFiles(directory_.path(), bad), 1);
  store_ = OpenStore(directory_.path());
  EXPECT_EQ(Get(blocks(), 1, kBlobBytes).code, Code::kDataLoss);
  const GetAnswer answer = Get(blocks(), 2, kBlobBytes);
  EXPECT_EQ(answer.code, Code::kOk);
  EXPECT_TRUE(answer.bytes == good);
  // What was lost can be put again.
  EXPECT_EQ(Execute(blocks(), PutOp(1, bad)), Code::kOk);
  EXPECT_TRUE(Get(blocks(), 1, kBlobBytes).bytes == bad);
}

TEST_F(RocksBlockStoreTest, ABlockWithALocationAndNoRecordIsDataLossNotAMiss) {
  const std::string bytes = BytesOf(8192, 1);
  Execute(blocks(), PutOp(1, bytes));
  store_.reset();
  {
    auto database = RocksDatabase::Open(directory_.path());
    ASSERT_TRUE(database.ok());
    const auto opened = (*database)->Use().value();
    const StoreKey key = EncodeStoreKey(TenantId(1), KeyOf(1));
    ASSERT_TRUE(opened->db()
                    ->Delete({}, opened->blocks(), {key.data(), key.size()})
                    .ok());
  }
  store_ = OpenStore(directory_.path());
  EXPECT_EQ(Get(blocks(), 1, 8192).code, Code::kDataLoss);
  EXPECT_EQ(Execute(blocks(), PutOp(1, bytes)), Code::kOk);
  EXPECT_TRUE(Get(blocks(), 1, 8192).bytes == bytes);
}

TEST_F(RocksBlockStoreTest, TheErrorOfABrokenBlockIsLoggedOnce) {
  const std::string bad = BytesOf(kBlobBytes, 1);
  Execute(blocks(), PutOp(1, bad));
  store_.reset();
  ASSERT_EQ(CorruptInBlobFiles(directory_.path(), bad), 1);
  store_ = OpenStore(directory_.path());
  store_->NameTenant(TenantId(1), "assistants");
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) Get(blocks(), 1, kBlobBytes);
  const std::string log = testing::internal::GetCapturedStderr();
  const std::string name =
      "block 00000001:00000000fffffffeffffffff of tenant 1";
  const std::size_t at = log.find(name);
  ASSERT_NE(at, std::string::npos) << log;
  EXPECT_EQ(log.find(name, at + 1), std::string::npos) << log;
  EXPECT_NE(log.find(directory_.path()), std::string::npos) << log;
  EXPECT_NE(log.find("tenant 1 is \"assistants\""), std::string::npos) << log;
}

}  // namespace
}  // namespace agentmem
