// Which copy of a block counts: below and resident, corrupt, of another class
// or length, on its way up or down while the block is put again.
#include <gtest/gtest.h>

#include "memd/tenant.h"
#include "tests/unit/memd/tenant_bench.h"

namespace agentmem {
namespace {

constexpr auto kCache = BlockClass::kCache;
constexpr auto kState = BlockClass::kState;

class TenantCopiesTest : public testing::Test {
 protected:
  void SetUp() override { client_ = bench_.Attach(); }
  void TearDown() override { EXPECT_EQ(bench_.tenant->CheckInvariants(), ""); }

  void StoreBelow(const Key& key, const std::string& bytes,
                  BlockClass block_class, std::uint32_t recorded_length) {
    StoredBlock stored;
    stored.key = key;
    stored.block_class = block_class;
    stored.length = recorded_length;
    bench_.tenant->AddStored(stored);
    bench_.store.blocks[{7, key}] = bytes;
    bench_.store.classes[{7, key}] = block_class;
  }
  Code Put(const Key& key, const std::string& bytes, BlockClass block_class,
           Ack ack) {
    EXPECT_TRUE(bench_.PostPut(client_.get(), key, bytes, block_class, ack));
    bench_.Settle(client_.get());
    return LastCode();
  }
  Code Fetch(const Key& key) {
    bench_.PostFetch(client_.get(), key);
    bench_.Settle(client_.get());
    return LastCode();
  }
  Code LastCode() {
    std::optional<CompletionEntry> last;
    while (const auto entry = client_->Reap()) {
      last = entry;
      if (entry->code == Code::kOk && entry->length != 0) {
        bytes_ = bench_.BytesIn(SlotIndex(entry->slot));
        bench_.PostRelease(client_.get(), *entry);
      }
    }
    return last.has_value() ? last->code : Code::kUnknown;
  }
  // Until `key` has left DRAM.
  void WashOut(const Key& key) {
    bench_.Advance(2 * kSecondNs);
    for (std::uint64_t i = 0; i < 60; ++i) {
      if (bench_.reader().Find(key).kind != EntryKind::kResident) return;
      Put(TestKey(1000 + washed_++), std::string(1 << 20, 'w'), kCache,
          Ack::kVisible);
    }
    ADD_FAILURE() << "the block does not leave";
  }
  std::string Stored(const Key& key) { return bench_.store.blocks[{7, key}]; }

  TenantBench bench_;
  std::unique_ptr<TestClient> client_;
  std::string bytes_;
  std::uint64_t washed_ = 0;
};

TEST_F(TenantCopiesTest, ADurablePutOverACorruptCopyIsWrittenBeforeItsAck) {
  const Key key = TestKey(1);
  StoreBelow(key, "broken", kState, 5);  // of another length: DATA_LOSS
  ASSERT_EQ(Fetch(key), Code::kDataLoss);
  bench_.PostPut(client_.get(), key, "right", kState, Ack::kDurable);
  EXPECT_EQ(LastCode(), Code::kUnknown) << "acked against the corrupt copy";
  bench_.Settle(client_.get());
  EXPECT_EQ(LastCode(), Code::kOk);
  EXPECT_EQ(Stored(key), "right");
  WashOut(key);
  EXPECT_EQ(Fetch(key), Code::kOk);
  EXPECT_EQ(bytes_, "right");
}

TEST_F(TenantCopiesTest, AStatePutOverACacheCopyIsWrittenAsState) {
  const Key key = TestKey(1);
  StoreBelow(key, "bytes", kCache, 5);
  EXPECT_EQ(Put(key, "bytes", kState, Ack::kDurable), Code::kOk);
  EXPECT_EQ((bench_.store.classes[{7, key}]), kState);
}

TEST_F(TenantCopiesTest, AResidentCacheBlockPutAsStateIsWrittenAsState) {
  const Key key = TestKey(1);
  EXPECT_EQ(Put(key, "bytes", kCache, Ack::kDurable), Code::kOk);
  EXPECT_EQ((bench_.store.classes[{7, key}]), kCache);
  EXPECT_EQ(Put(key, "bytes", kState, Ack::kVisible), Code::kOk);
  EXPECT_EQ((bench_.store.classes[{7, key}]), kState);
}

TEST_F(TenantCopiesTest, AStatePutDuringACacheWriteWaitsForAWriteOfItsOwn) {
  const Key key = TestKey(1);
  bench_.PostPut(client_.get(), key, "bytes", kCache, Ack::kDurable);
  ASSERT_EQ(bench_.store.pending(), 1u);
  bench_.PostPut(client_.get(), key, "bytes", kState, Ack::kDurable);
  ASSERT_TRUE(bench_.store.FinishOne());
  bench_.PollStore();
  EXPECT_EQ(LastCode(), Code::kUnknown) << "acked with a cache copy below";
  bench_.Settle(client_.get());
  EXPECT_EQ(LastCode(), Code::kOk);
  EXPECT_EQ((bench_.store.classes[{7, key}]), kState);
}

TEST_F(TenantCopiesTest, ADeleteNeverOvertakesADurablePut) {
  const Key key = TestKey(1);
  StoreBelow(key, "broken", kCache, 5);
  bench_.PostFetch(client_.get(), key);  // the read is under way
  bench_.PostPut(client_.get(), key, "right", kState, Ack::kDurable);
  bench_.Settle(client_.get());
  EXPECT_EQ(LastCode(), Code::kOk);
  EXPECT_EQ(Stored(key), "right");
}

TEST_F(TenantCopiesTest, ADurablePutHoldsThoughTheCopyItRestedOnIsBroken) {
  for (const BlockClass block_class : {kCache, kState}) {
    const Key key = TestKey(block_class == kCache ? 1 : 2);
    ASSERT_EQ(Put(key, "right", block_class, Ack::kDurable), Code::kOk);
    WashOut(key);
    bench_.store.blocks[{7, key}] = "broken";
    bench_.PostFetch(client_.get(), key);  // the read is under way
    const std::uint64_t durable = bench_.store.durable_puts;
    // Answered on the word of the stored copy.
    bench_.PostPut(client_.get(), key, "right", block_class, Ack::kDurable);
    bench_.Settle(client_.get());
    while (client_->Reap()) {
    }
    EXPECT_EQ(bench_.store.durable_puts, durable + 1);
    EXPECT_EQ(Stored(key), "right");
  }
}

TEST_F(TenantCopiesTest, AStoredBlockKeepsItsBytesWhenPutWithAnotherLength) {
  const Key key = TestKey(1);
  StoreBelow(key, "first", kState, 5);
  EXPECT_EQ(Put(key, "a longer one", kState, Ack::kDurable), Code::kOk);
  EXPECT_EQ(Stored(key), "first");
  EXPECT_EQ(Fetch(key), Code::kOk);
  EXPECT_EQ(bytes_, "first");
  EXPECT_EQ(bench_.tenant->Snapshot(bench_.now).store.used_bytes, 5u);
}

TEST_F(TenantCopiesTest, AReplacedCopyIsGoneFromTheStore) {
  const Key key = TestKey(1);
  StoreBelow(key, "first", kCache, 5);
  EXPECT_EQ(Put(key, "a longer one", kState, Ack::kVisible), Code::kOk);
  EXPECT_EQ(Stored(key), "a longer one");
  EXPECT_EQ(bench_.tenant->Snapshot(bench_.now).store.used_bytes, 12u);
}

TEST_F(TenantCopiesTest, AClientWithoutGrantEntriesStallsNobodyElse) {
  SubmissionEntry want = {};
  want.op = Op::kWantGrants;
  want.length = 512;
  want.slot = 32;
  want.deadline_ns = kNoDeadline;
  for (std::uint32_t i = 0; i < kGrantEntries; ++i) {
    client_->Post(want);
    bench_.Drain(client_.get());
    client_->TakeGrant(512);  // and never used
    client_->Reap();
  }
  while (client_->TakeGrant(1)) {
  }
  client_->Post(want);
  bench_.Drain(client_.get());
  auto other = bench_.Attach();
  other->Post(want);
  bench_.Drain(other.get());
  EXPECT_TRUE(other->TakeGrant(512).has_value());
}

}  // namespace
}  // namespace agentmem
