// Finds that a node's store answers, and puts that a node's death meets.
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <map>

#include "memd/pool/pool_timing.h"
#include "tests/unit/pool/pool_cluster.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kTenant = 7;
constexpr std::uint64_t kLent = 16 << 20;

// A store that reads when it is told to.
class HandStore final : public StoredBlocks {
 public:
  struct Read {
    Key key;
    char* to = nullptr;
    std::uint32_t length = 0;
    std::uint64_t generation = 0;
  };

  bool Lookup(std::uint64_t tenant, const Key& key, Found* found) override {
    const auto known = blocks.find(key);
    if (tenant != kTenant || known == blocks.end()) return false;
    *found = {BlockClass::kState,
              static_cast<std::uint32_t>(known->second.size())};
    return true;
  }
  bool Load(std::uint64_t, const Key& key, char* to, std::uint32_t length,
            std::uint64_t generation) override {
    if (full) return false;
    reads.push_back({key, to, length, generation});
    return true;
  }
  void FinishOne(PoolNode* node, Code code = Code::kOk) {
    const Read read = reads.front();
    reads.pop_front();
    if (code == Code::kOk) {
      std::memcpy(read.to, blocks.at(read.key).data(), read.length);
    }
    node->OnLoaded(read.generation, code);
  }

  std::map<Key, std::string> blocks;
  std::deque<Read> reads;
  bool full = false;
};

Key NameOf(std::uint32_t n) { return {n, {n, 1, 2}}; }

class PoolNodeStoredTest : public ::testing::Test {
 protected:
  void SetUp() override {
    cluster_.StartAll({"a", "b"}, kLent);
    cluster_.at("b").node->UseStore(&store_);
    store_.blocks[NameOf(1)] = std::string(300'000, 's');
  }
  void TearDown() override { EXPECT_EQ(cluster_.CheckInvariants(), ""); }
  PoolOp Find(std::uint32_t n) {
    PoolOp op;
    op.kind = PoolOp::Kind::kFind;
    op.block_class = BlockClass::kState;
    op.tenant = kTenant;
    op.key = NameOf(n);
    op.ticket = n;
    return op;
  }
  PoolOp Get(std::uint32_t n, std::uint32_t length) {
    PoolOp op = Find(n);
    op.kind = PoolOp::Kind::kGet;
    op.memory = cluster_.at("a").memory_id;
    op.bytes = cluster_.at("a").memory.get();
    op.length = length;
    return op;
  }
  // Its copies in memory are gone, and only "b", which is none of its places,
  // has it on its disk: as it is for a block whose places were killed.
  std::uint32_t PutOnTheDiskAlone() {
    cluster_.Start("c", kLent);
    cluster_.Start("d", kLent);
    cluster_.IntroduceAll();
    cluster_.RunFor(kSecondNs);
    EXPECT_EQ(cluster_.at("a").node->places(), 4u);
    std::uint32_t number = 10;
    const auto is_at = [&](const char* name) {
      return cluster_.at(name).exports->Find({kTenant, NameOf(number)}) !=
             nullptr;
    };
    for (;; ++number) {
      PoolOp put = Get(number, 5000);
      put.kind = PoolOp::Kind::kPut;
      put.copies = 2;
      EXPECT_EQ(cluster_.Do("a", put).code, Code::kOk);
      if (is_at("c") && is_at("d")) break;
    }
    for (const char* name : {"c", "d"}) {
      cluster_.at(name).exports->Drop({kTenant, NameOf(number)},
                                      cluster_.now());
    }
    store_.blocks[NameOf(number)] = std::string(5000, 's');
    return number;
  }
  void ExpectReadFromDisk(const PoolOp& find) {
    ASSERT_TRUE(cluster_.at("a").node->Submit(find));
    ASSERT_TRUE(Asked());
    store_.FinishOne(cluster_.at("b").node.get());
    cluster_.RunFor(100 * kMillisecondNs);
    ASSERT_EQ(cluster_.at("a").done.size(), 1u);
    EXPECT_EQ(cluster_.at("a").done[0].code, Code::kOk);
  }
  // Until the store has been asked, or `seconds` have passed.
  bool Asked() {
    return cluster_.RunFor(kSecondNs, [&] { return !store_.reads.empty(); });
  }

  PoolCluster cluster_;
  HandStore store_;
};

TEST_F(PoolNodeStoredTest, ABlockThatOnlyAStoreHasIsReadFromThere) {
  PoolNode* const a = cluster_.at("a").node.get();
  ASSERT_TRUE(a->Submit(Get(1, 300'000)));
  Asked();
  ASSERT_EQ(store_.reads.size(), 1u);
  EXPECT_TRUE(cluster_.at("a").done.empty());
  store_.FinishOne(cluster_.at("b").node.get());
  cluster_.RunFor(100 * kMillisecondNs);
  ASSERT_EQ(cluster_.at("a").done.size(), 1u);
  EXPECT_EQ(cluster_.at("a").done[0].code, Code::kOk);
  EXPECT_EQ(std::string(cluster_.at("a").memory.get(), 300'000),
            store_.blocks[NameOf(1)]);
  // Its copy in memory may leave: it is not what makes it safe.
  EXPECT_EQ(cluster_.at("b").exports->state_blocks(), 0u);
}

TEST_F(PoolNodeStoredTest, AskersOfOneBlockShareARead) {
  PoolNode* const a = cluster_.at("a").node.get();
  ASSERT_TRUE(a->Submit(Find(1)));
  ASSERT_TRUE(a->Submit(Find(1)));
  ASSERT_TRUE(a->Submit(Find(2)));  // in the same message; nobody has it
  Asked();
  EXPECT_EQ(store_.reads.size(), 1u);
  store_.FinishOne(cluster_.at("b").node.get());
  cluster_.RunFor(200 * kMillisecondNs);
  ASSERT_EQ(cluster_.at("a").done.size(), 3u);
  int found = 0;
  for (const PoolCompletion& done : cluster_.at("a").done) {
    found += done.code == Code::kOk;
    EXPECT_TRUE(done.code == Code::kOk || done.code == Code::kNotFound);
  }
  EXPECT_EQ(found, 2);
}

TEST_F(PoolNodeStoredTest, ACorruptCopyIsDataLossAndGivesItsPlaceBack) {
  PoolNode* const a = cluster_.at("a").node.get();
  ASSERT_TRUE(a->Submit(Find(1)));
  Asked();
  ASSERT_EQ(store_.reads.size(), 1u);
  store_.FinishOne(cluster_.at("b").node.get(), Code::kDataLoss);
  cluster_.RunFor(100 * kMillisecondNs, [&] { return !store_.reads.empty(); });
  // State is asked for twice before it is called lost.
  if (!store_.reads.empty()) {
    store_.FinishOne(cluster_.at("b").node.get(), Code::kDataLoss);
  }
  cluster_.RunFor(100 * kMillisecondNs);
  ASSERT_EQ(cluster_.at("a").done.size(), 1u);
  EXPECT_EQ(cluster_.at("a").done[0].code, Code::kDataLoss);
  EXPECT_EQ(cluster_.at("b").exports->used_bytes(), 0u);
}

TEST_F(PoolNodeStoredTest, AReadThatTakesLongKeepsItsPlace) {
  PoolNode* const a = cluster_.at("a").node.get();
  ASSERT_TRUE(a->Submit(Find(1)));
  Asked();
  ASSERT_EQ(store_.reads.size(), 1u);
  cluster_.RunFor(2 * kReservationNs);
  EXPECT_GT(cluster_.at("b").exports->used_bytes(), 0u)
      << "the store would read into another block";
  store_.FinishOne(cluster_.at("b").node.get());
}

TEST_F(PoolNodeStoredTest, ASlowDiskCostsNoLink) {
  cluster_.Start("c", kLent);
  cluster_.IntroduceAll();
  cluster_.RunFor(kSecondNs);
  PoolNode* const a = cluster_.at("a").node.get();
  // Of some "b" is asked first, and "c" would be asked next.
  constexpr std::uint32_t kFirst = 20;
  constexpr std::uint32_t kCount = 16;
  for (std::uint32_t n = kFirst; n < kFirst + kCount; ++n) {
    store_.blocks[NameOf(n)] = std::string(5000, 's');
    ASSERT_TRUE(a->Submit(Find(n)));
  }
  cluster_.RunFor(200 * kMillisecondNs);
  for (const auto& peer : a->Snapshot(cluster_.now()).peers) {
    EXPECT_EQ(peer.losses, 0u) << peer.node;
  }
  while (!store_.reads.empty()) {
    store_.FinishOne(cluster_.at("b").node.get());
    cluster_.RunFor(10 * kMillisecondNs);
  }
  ASSERT_EQ(cluster_.at("a").done.size(), kCount);
  for (const PoolCompletion& done : cluster_.at("a").done) {
    EXPECT_EQ(done.code, Code::kOk) << done.ticket;
  }
}

TEST_F(PoolNodeStoredTest, OffItsPlacesADiskIsAskedForStateAlone) {
  const std::uint32_t number = PutOnTheDiskAlone();
  cluster_.RunFor(kWanderNs + 10 * kSecondNs);
  // A client's get: of which class it is nobody knows.
  PoolOp unknown = Find(number);
  unknown.block_class = BlockClass::kCache;
  EXPECT_EQ(cluster_.Do("a", unknown).code, Code::kNotFound);
  EXPECT_TRUE(store_.reads.empty());
  // A region's page, or what this node knows to be state.
  ExpectReadFromDisk(Find(number));
}

TEST_F(PoolNodeStoredTest, ForAMinuteAfterAChangeOfNodesAllDisksAreAsked) {
  const std::uint32_t number = PutOnTheDiskAlone();
  cluster_.RunFor(kWanderNs + 10 * kSecondNs);
  cluster_.Start("e", kLent);
  cluster_.IntroduceAll();
  cluster_.RunFor(kWanderNs / 2);
  PoolOp unknown = Find(number);
  unknown.block_class = BlockClass::kCache;
  ExpectReadFromDisk(unknown);
}

TEST_F(PoolNodeStoredTest, APutThatMeetsADeathGoesToWhoIsLeft) {
  cluster_.Start("c", kLent);
  cluster_.IntroduceAll();
  cluster_.RunFor(kSecondNs);
  ASSERT_EQ(cluster_.at("a").node->places(), 3u);
  // Posted, then one that should have it dies before anything arrived.
  for (std::uint32_t n = 10; n < 40; ++n) {
    PoolOp put = Get(n, 100'000);
    put.kind = PoolOp::Kind::kPut;
    put.copies = 2;
    ASSERT_TRUE(cluster_.at("a").node->Submit(put));
  }
  cluster_.Kill("c");
  cluster_.RunFor(kPutPatienceNs + kSilentNs);
  ASSERT_EQ(cluster_.at("a").done.size(), 30u);
  for (const PoolCompletion& done : cluster_.at("a").done) {
    EXPECT_EQ(done.code, Code::kOk) << done.ticket;
    EXPECT_EQ(done.copies, 2);
  }
}

}  // namespace
}  // namespace agentmem
