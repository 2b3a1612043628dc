// Blocks that a node without a disk keeps in the store of another one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <map>
#include <memory>

#include "memd/pool/cipher_keys.h"
#include "memd/pool/pool_timing.h"
#include "tests/unit/pool/hand_disk.h"
#include "tests/unit/pool/pool_cluster.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kTenant = HandDisk::kTenant;
constexpr std::uint64_t kLent = 16 << 20;
constexpr std::uint32_t kLength = 300'000;

Key NameOf(std::uint32_t n) { return {n, {n, 1, 2}}; }

// "s" has a disk and serves it; "d" has none; "e" is another one like "d".
class PoolNodeKeepTest : public ::testing::Test {
 protected:
  void SetUp() override {
    StartServer("s");
    StartDiskless("d");
    Meet();
  }
  void TearDown() override { EXPECT_EQ(cluster_.CheckInvariants(), ""); }

  void StartServer(const std::string& name, bool serves = true) {
    PoolRun& run = cluster_.Start(name, kLent);
    if (sealed_) Seal(&run, 1);
    run.node->UseStore(&disks_[name]);
    if (!serves) return;
    run.node->ServeStore(&disks_[name]);
    run.store_bytes = 1 << 30;
  }
  void StartDiskless(const std::string& name,
                     std::vector<std::string> stores = {}) {
    PoolRun& run = cluster_.Start(name, 0);
    if (sealed_) Seal(&run, 1);
    run.node->UseRemoteStore(std::move(stores));
  }
  void Seal(PoolRun* run, unsigned char secret) {
    CipherKeys keys;
    CipherKeys::Secret bytes;
    bytes.fill(secret);
    ASSERT_TRUE(keys.Add(KeyId(1), bytes).ok());
    auto cipher =
        BlockCipher::Make(std::make_shared<const CipherKeys>(std::move(keys)));
    ASSERT_TRUE(cipher.ok());
    buffers_.push_back(std::make_unique<char[]>(Sealing::kMemoryBytes));
    const std::span<char> memory(buffers_.back().get(), Sealing::kMemoryBytes);
    const auto registered =
        run->transport->Register(memory, RemoteAccess::kNone);
    ASSERT_TRUE(registered.ok());
    sealings_.push_back(
        std::make_unique<Sealing>(std::move(*cipher), memory, registered->id));
    run->node->UseSealing(sealings_.back().get());
  }
  void Meet() {
    cluster_.IntroduceAll();
    cluster_.RunFor(5 * kMillisecondNs);
  }
  PoolNode& Node(const std::string& name) { return *cluster_.at(name).node; }
  HandDisk& Disk(const std::string& name = "s") { return disks_[name]; }

  PoolOp OpOf(const std::string& name, PoolOp::Kind kind, std::uint32_t n) {
    PoolOp op;
    op.kind = kind;
    op.store = true;
    op.durable = true;
    op.block_class = BlockClass::kState;
    op.tenant = kTenant;
    op.key = NameOf(n);
    op.memory = cluster_.at(name).memory_id;
    op.bytes = cluster_.at(name).memory.get();
    op.length = kLength;
    op.ticket = n;
    return op;
  }
  void Keep(const std::string& name, std::uint32_t n) {
    FillBlock(cluster_.at(name).memory.get(), kLength, NameOf(n), n);
    ASSERT_TRUE(Node(name).Submit(OpOf(name, PoolOp::Kind::kKeep, n)));
  }
  void Ask(const std::string& name, PoolOp::Kind kind, std::uint32_t n) {
    std::memset(cluster_.at(name).memory.get(), 'e', kLength);
    ASSERT_TRUE(Node(name).Submit(OpOf(name, kind, n)));
  }
  std::vector<PoolStoreDone>& Done(const std::string& name) {
    return cluster_.at(name).store_done;
  }
  // Until it has ended; then how. Disks work meanwhile, if they may.
  Code End(const std::string& name, bool disks_work = true,
           DurationNs within = 20 * kSecondNs) {
    const bool ended = cluster_.RunFor(within, [&] {
      for (auto& [server, disk] : disks_) {
        while (disks_work && cluster_.alive(server) && !disk.jobs.empty()) {
          disk.FinishOne(&Node(server));
        }
      }
      return !Done(name).empty();
    });
    if (!ended) return Code::kUnknown;
    const Code code = Done(name).front().code;
    Done(name).erase(Done(name).begin());
    return code;
  }
  bool DiskIsAsked() {
    return cluster_.RunFor(kSecondNs, [&] { return !Disk().jobs.empty(); });
  }
  std::uint64_t Salt(const std::string& name, std::uint32_t n) {
    return SaltOf(cluster_.at(name).memory.get(), kLength, NameOf(n));
  }
  std::string TextOfStore(const std::string& name) {
    const PoolSnapshot snapshot = Node(name).Snapshot(cluster_.now());
    return snapshot.stores.empty() ? "none" : snapshot.stores[0].text;
  }

  bool sealed_ = false;
  std::vector<std::unique_ptr<char[]>> buffers_;
  std::vector<std::unique_ptr<Sealing>> sealings_;
  std::map<std::string, HandDisk> disks_;
  PoolCluster cluster_;
};

TEST_F(PoolNodeKeepTest, ItIsAcknowledgedOnceTheOthersDiskHasItAndNotBefore) {
  Keep("d", 1);
  ASSERT_TRUE(DiskIsAsked());
  EXPECT_TRUE(Disk().jobs[0].block.durable);
  // However long that disk takes; nor is its place used for anything else.
  cluster_.RunFor(2 * kReservationNs);
  EXPECT_TRUE(Done("d").empty());
  EXPECT_EQ(Node("d").Snapshot(cluster_.now()).peers[0].losses, 0u);
  EXPECT_EQ(End("d"), Code::kOk);
  EXPECT_EQ(Disk().durable, 1);
  EXPECT_EQ(SaltOf(Disk().blocks.at(NameOf(1)).data(), kLength, NameOf(1)), 1u);
  const PoolSnapshot snapshot = Node("d").Snapshot(cluster_.now());
  ASSERT_EQ(snapshot.stores.size(), 1u);
  EXPECT_EQ(snapshot.stores[0].writes, 1u);
  EXPECT_EQ(snapshot.stores[0].bytes_written, kLength);
  EXPECT_EQ(Node("s").Snapshot(cluster_.now()).served.writes, 1u);
}

TEST_F(PoolNodeKeepTest, AnyNodeReadsItAndTheCopyInMemoryMayLeave) {
  Keep("d", 1);
  ASSERT_EQ(End("d"), Code::kOk);
  EXPECT_EQ(cluster_.at("s").exports->state_blocks(), 0u);
  StartDiskless("e");
  Meet();
  Ask("e", PoolOp::Kind::kGet, 1);
  EXPECT_EQ(End("e"), Code::kOk);
  EXPECT_EQ(Salt("e", 1), 1u);
}

TEST_F(PoolNodeKeepTest, WhatOnlyTheDiskHasIsReadAfterARestart) {
  Keep("d", 1);
  ASSERT_EQ(End("d"), Code::kOk);
  cluster_.Kill("s");
  cluster_.RunFor(kSecondNs);
  Ask("d", PoolOp::Kind::kGet, 1);
  EXPECT_EQ(End("d"), Code::kUnavailable) << "it is not lost";
  EXPECT_EQ(TextOfStore("d"), "does not answer");
  StartServer("s");
  Meet();
  cluster_.RunFor(2 * kSecondNs);
  Ask("d", PoolOp::Kind::kGet, 1);
  EXPECT_EQ(End("d"), Code::kOk);
  EXPECT_EQ(Salt("d", 1), 1u);
  Keep("d", 2);
  EXPECT_EQ(End("d"), Code::kOk);
}

TEST_F(PoolNodeKeepTest, AStoreThatDiesUnderAWriteIsUnavailableWithinASecond) {
  Keep("d", 1);
  ASSERT_TRUE(DiskIsAsked());
  cluster_.Kill("s");
  Disk().jobs.clear();
  const TimeNs before = cluster_.now();
  EXPECT_EQ(End("d"), Code::kUnavailable);
  EXPECT_LE(cluster_.now() - before, kPutPatienceNs + kSilentNs);
}

TEST_F(PoolNodeKeepTest, AStoreThatIsBackSoonTakesWhatItWasAskedBefore) {
  Keep("d", 1);
  ASSERT_TRUE(DiskIsAsked());
  cluster_.Kill("s");
  Disk().jobs.clear();
  cluster_.RunFor(100 * kMillisecondNs);
  StartServer("s");
  Meet();
  EXPECT_EQ(End("d"), Code::kOk);
  EXPECT_EQ(Disk().blocks.size(), 1u);
}

TEST_F(PoolNodeKeepTest, WhatItHasAlreadyIsNotSentAgain) {
  Keep("d", 1);
  ASSERT_EQ(End("d"), Code::kOk);
  const auto written = [&] {
    return Node("d").Snapshot(cluster_.now()).peers[0].bytes_written;
  };
  const std::uint64_t before = written();
  Keep("d", 1);
  EXPECT_EQ(End("d"), Code::kOk);
  EXPECT_EQ(written(), before);
}

TEST_F(PoolNodeKeepTest, EachRefusalComesAsItsCodeAndSaysWhatToDo) {
  const struct {
    StoreVerdict verdict;
    Code code;
    const char* says;
  } refusals[] = {
      {{Code::kResourceExhausted, StoreRefusal::kBudget, 1000, 999},
       Code::kResourceExhausted,
       "`serve` in [store] there, is used up: 999 bytes of 1000 bytes"},
      {{Code::kResourceExhausted, StoreRefusal::kQuota, 100, 50},
       Code::kResourceExhausted,
       "`store_quota`"},
      {{Code::kAborted, StoreRefusal::kOtherBlock, 0, 0},
       Code::kAborted,
       "another block"},
      {{Code::kFailedPrecondition, StoreRefusal::kNoTenant, 0, 0},
       Code::kUnavailable,
       "[[tenant]]"},
  };
  for (const auto& one : refusals) {
    Disk().verdict = one.verdict;
    Keep("d", 1);
    EXPECT_EQ(End("d"), one.code) << one.says;
    EXPECT_THAT(TextOfStore("d"), HasSubstr(one.says));
    EXPECT_TRUE(Node("d").Snapshot(cluster_.now()).stores[0].refuses);
  }
  Disk().verdict = {};
  Keep("d", 1);
  EXPECT_EQ(End("d"), Code::kOk);
  EXPECT_FALSE(Node("d").Snapshot(cluster_.now()).stores[0].refuses);
}

TEST_F(PoolNodeKeepTest, AFullDiskIsResourceExhaustedAndNamesNodeAndPath) {
  Keep("d", 1);
  ASSERT_TRUE(DiskIsAsked());
  Disk().FinishOne(&Node("s"), Code::kResourceExhausted,
                   StoreRefusal::kDiskFull);
  ASSERT_TRUE(cluster_.RunFor(kSecondNs, [&] { return !Done("d").empty(); }));
  EXPECT_EQ(Done("d")[0].node, "s");
  EXPECT_EQ(End("d"), Code::kResourceExhausted);
  EXPECT_THAT(TextOfStore("d"), HasSubstr("/disk/of/s"));
  EXPECT_EQ(cluster_.at("s").exports->used_bytes(), 0u);
}

// Who asks may have forgotten what it was: of cache, that is a miss.
TEST_F(PoolNodeKeepTest, AFindOfACorruptCopyTellsOfWhatClassItWas) {
  Keep("d", 1);
  ASSERT_EQ(End("d"), Code::kOk);
  cluster_.at("s").exports->Drop({kTenant, NameOf(1)}, cluster_.now());
  PoolOp find = OpOf("d", PoolOp::Kind::kFind, 1);
  find.store = false;
  find.block_class = BlockClass::kCache;
  for (const bool known : {false, true}) {
    Disk().corrupt = known;
    ASSERT_TRUE(Node("d").Submit(find));
    if (!known) {
      ASSERT_TRUE(DiskIsAsked());
      Disk().FinishOne(&Node("s"), Code::kDataLoss);
    }
    cluster_.RunFor(kSecondNs);
    ASSERT_EQ(cluster_.at("d").done.size(), 1u);
    EXPECT_EQ(cluster_.at("d").done[0].code, Code::kDataLoss);
    EXPECT_EQ(cluster_.at("d").done[0].block_class, BlockClass::kState);
    cluster_.at("d").done.clear();
  }
}

TEST_F(PoolNodeKeepTest, ACorruptCopyIsDataLossAndNoMiss) {
  Keep("d", 1);
  ASSERT_EQ(End("d"), Code::kOk);
  cluster_.at("s").exports->Drop({kTenant, NameOf(1)}, cluster_.now());
  StartDiskless("e");
  Meet();
  Ask("e", PoolOp::Kind::kGet, 1);
  ASSERT_TRUE(DiskIsAsked());
  Disk().FinishOne(&Node("s"), Code::kDataLoss);
  Disk().corrupt = true;  // it knows by now
  EXPECT_EQ(End("e"), Code::kDataLoss);
  EXPECT_TRUE(Disk().jobs.empty());
}

TEST_F(PoolNodeKeepTest, WithoutAServerNothingIsKeptAndItSaysSo) {
  cluster_.Kill("s");
  StartServer("t", /*serves=*/false);
  Meet();
  cluster_.RunFor(2 * kSecondNs);
  Keep("d", 1);
  EXPECT_EQ(End("d"), Code::kUnavailable);
  // Named, it is one that ought to.
  StartDiskless("e", {"t", "u"});
  Meet();
  cluster_.RunFor(2 * kSecondNs);
  Keep("e", 1);
  EXPECT_EQ(End("e"), Code::kUnavailable);
  const auto stores = Node("e").Snapshot(cluster_.now()).stores;
  ASSERT_EQ(stores.size(), 2u);
  EXPECT_THAT(stores[0].text, HasSubstr("set `serve` in [store] there"));
  EXPECT_EQ(stores[1].node, "u");
  EXPECT_THAT(stores[1].text, HasSubstr("not met"));
}

TEST_F(PoolNodeKeepTest, AnotherVersionOfTheProtocolIsRefusedNamingBoth) {
  cluster_.Kill("s");
  StartServer("s");
  cluster_.at("s").store_version = kStoreVersion + 1;
  Meet();
  cluster_.RunFor(2 * kSecondNs);
  Keep("d", 1);
  EXPECT_EQ(End("d"), Code::kUnavailable);
  EXPECT_THAT(TextOfStore("d"), HasSubstr("version 2"));
  EXPECT_THAT(TextOfStore("d"), HasSubstr("version 1"));
}

TEST_F(PoolNodeKeepTest, MoreThanAPeersShareWaitsAndAllOfItIsWritten) {
  constexpr std::uint32_t kBlocks = 60;  // 18 MB; its share is 4 MiB
  for (std::uint32_t n = 1; n <= kBlocks; ++n) {
    PoolOp op = OpOf("d", PoolOp::Kind::kKeep, n);
    op.bytes += (n % 40) * kLength;
    FillBlock(op.bytes, kLength, NameOf(n), n);
    // (Those of one place are written after each other.)
    if (n == 40) cluster_.RunFor(kSecondNs);
    ASSERT_TRUE(Node("d").Submit(op));
    if (n < 39) continue;
    while (!Disk().jobs.empty()) Disk().FinishOne(&Node("s"));
    ASSERT_TRUE(cluster_.RunFor(20 * kSecondNs, [&] {
      while (!Disk().jobs.empty()) Disk().FinishOne(&Node("s"));
      return Done("d").size() == n;
    })) << n;
  }
  for (const PoolStoreDone& done : Done("d")) EXPECT_EQ(done.code, Code::kOk);
  ASSERT_EQ(Disk().blocks.size(), kBlocks);
  for (std::uint32_t n = 1; n <= kBlocks; ++n) {
    EXPECT_EQ(SaltOf(Disk().blocks.at(NameOf(n)).data(), kLength, NameOf(n)),
              n);
  }
}

TEST_F(PoolNodeKeepTest, LentMemoryFullOfStateIsRefusedFullOfWhatComesIsNot) {
  std::uint32_t n = 100;
  for (;; ++n) {
    PoolOp put = OpOf("d", PoolOp::Kind::kPut, n);
    put.store = false;
    if (cluster_.Do("d", put).code != Code::kOk) break;
  }
  // What a tenant's share leaves, others take: no place of that size is left.
  PoolOp other = OpOf("d", PoolOp::Kind::kPut, 90);
  other.store = false;
  other.tenant = 77;
  other.length = 4096;
  ASSERT_EQ(cluster_.Do("d", other).code, Code::kOk);
  Keep("d", 1);
  EXPECT_EQ(End("d"), Code::kResourceExhausted);
  EXPECT_THAT(TextOfStore("d"), HasSubstr("raise `export` in [pool] there"));
  PoolOp drop = OpOf("d", PoolOp::Kind::kDrop, n - 1);
  drop.store = false;
  ASSERT_EQ(cluster_.Do("d", drop).code, Code::kOk);
  Keep("d", 1);
  ASSERT_TRUE(DiskIsAsked());
  PoolOp second = OpOf("d", PoolOp::Kind::kKeep, 2);
  second.bytes += kLength;
  ASSERT_TRUE(Node("d").Submit(second));
  cluster_.RunFor(kSecondNs);
  EXPECT_TRUE(Done("d").empty()) << "it waits for the first one's place";
  EXPECT_EQ(End("d"), Code::kOk);
  EXPECT_EQ(End("d"), Code::kOk);
}

TEST_F(PoolNodeKeepTest, AQueueThatIsFullIsTriedAgain) {
  Disk().full = true;
  Keep("d", 1);
  cluster_.RunFor(kSecondNs);
  EXPECT_TRUE(Done("d").empty());
  Disk().full = false;
  EXPECT_EQ(End("d"), Code::kOk);
}

TEST_F(PoolNodeKeepTest, ASlowDiskCostsNoLink) {
  Keep("d", 1);
  ASSERT_TRUE(DiskIsAsked());
  Disk().blocks[NameOf(9)] = std::string(kLength, 'x');
  // Others may have it, too: a peer that stalls would be given up.
  StartServer("t", /*serves=*/false);
  Meet();
  Ask("d", PoolOp::Kind::kGet, 9);
  cluster_.RunFor(kSecondNs);
  for (const PoolPeerSnapshot& peer :
       Node("d").Snapshot(cluster_.now()).peers) {
    EXPECT_EQ(peer.losses, 0u) << peer.node;
  }
  EXPECT_EQ(End("d"), Code::kOk);
  EXPECT_EQ(End("d"), Code::kOk);
}

TEST_F(PoolNodeKeepTest, WhatIsErasedIsGoneFromDiskAndMemory) {
  Keep("d", 1);
  ASSERT_EQ(End("d"), Code::kOk);
  Ask("d", PoolOp::Kind::kErase, 1);
  EXPECT_EQ(End("d"), Code::kOk);
  EXPECT_TRUE(Disk().blocks.empty());
  Ask("d", PoolOp::Kind::kGet, 1);
  EXPECT_EQ(End("d"), Code::kNotFound);
}

TEST_F(PoolNodeKeepTest, OfSeveralStoresEachHasItsShareAndAllAreLookedThrough) {
  StartServer("t");
  Meet();
  for (std::uint32_t n = 1; n <= 20; ++n) {
    Keep("d", n);
    ASSERT_EQ(End("d"), Code::kOk);
  }
  EXPECT_GT(Disk("s").blocks.size(), 3u);
  EXPECT_GT(Disk("t").blocks.size(), 3u);
  // While one is away the other takes all; what went there stays found.
  cluster_.Kill("t");
  cluster_.RunFor(2 * kSecondNs);
  for (std::uint32_t n = 21; n <= 30; ++n) {
    Keep("d", n);
    ASSERT_EQ(End("d"), Code::kOk);
  }
  StartServer("t");
  Meet();
  cluster_.RunFor(2 * kSecondNs);
  for (std::uint32_t n = 1; n <= 30; ++n) {
    Ask("d", PoolOp::Kind::kGet, n);
    EXPECT_EQ(End("d"), Code::kOk) << n;
    EXPECT_EQ(Salt("d", n), n);
  }
}

TEST_F(PoolNodeKeepTest, AStoreThatIsNoMemberNowMayStillHaveTheBlock) {
  Keep("d", 1);
  ASSERT_EQ(End("d"), Code::kOk);
  cluster_.Kill("s");
  StartServer("t");
  cluster_.Introduce("d", "t");
  Node("d").RemovePeer("s", cluster_.now());
  cluster_.RunFor(2 * kSecondNs);
  Ask("d", PoolOp::Kind::kGet, 1);
  EXPECT_EQ(End("d"), Code::kUnavailable) << "it is not lost";
  Keep("d", 2);
  EXPECT_EQ(End("d"), Code::kOk);
  EXPECT_EQ(Disk("t").blocks.size(), 1u);
}

TEST_F(PoolNodeKeepTest, StateThatADiskMayHaveIsNotCalledLostByAnyNode) {
  Keep("d", 1);
  ASSERT_EQ(End("d"), Code::kOk);
  StartServer("x", /*serves=*/false);  // with a disk of its own
  StartDiskless("e");
  Meet();
  cluster_.Kill("s");
  for (const char* name : {"x", "e"}) {
    Node(name).RemovePeer("s", cluster_.now());
    cluster_.RunFor(10 * kSecondNs);
    PoolOp find = OpOf(name, PoolOp::Kind::kFind, 1);
    find.store = false;
    EXPECT_EQ(cluster_.Do(name, find).code, Code::kUnavailable) << name;
    find.block_class = BlockClass::kCache;
    // Of whatever class it is. Who has a disk misses; whose disk "s" has may
    // have put it there itself, before it was started again.
    EXPECT_EQ(cluster_.Do(name, find).code,
              name == std::string("e") ? Code::kUnavailable : Code::kNotFound);
  }
  StartServer("s");
  Meet();
  cluster_.RunFor(2 * kSecondNs);
  for (const char* name : {"x", "e"}) {
    PoolOp get = OpOf(name, PoolOp::Kind::kGet, 1);
    get.store = false;
    ASSERT_TRUE(Node(name).Submit(get));
    ASSERT_TRUE(cluster_.RunFor(kSecondNs, [&] {
      while (!Disk().jobs.empty()) Disk().FinishOne(&Node("s"));
      return !cluster_.at(name).done.empty();
    }));
    EXPECT_EQ(cluster_.at(name).done[0].code, Code::kOk) << name;
    EXPECT_EQ(Salt(name, 1), 1u);
  }
}

TEST_F(PoolNodeKeepTest, StartedWhileItsStoreIsAwayItCallsNothingAMiss) {
  Keep("d", 1);
  ASSERT_EQ(End("d"), Code::kOk);
  StartServer("x", /*serves=*/false);
  cluster_.Kill("s");
  cluster_.Kill("d");
  StartDiskless("d");
  cluster_.Introduce("d", "x");
  cluster_.RunFor(10 * kSecondNs);
  PoolOp find = OpOf("d", PoolOp::Kind::kFind, 1);
  find.store = false;
  find.block_class = BlockClass::kCache;  // as a client asks: it may be either
  EXPECT_EQ(cluster_.Do("d", find).code, Code::kUnavailable);
  StartServer("s");
  Meet();
  cluster_.RunFor(2 * kSecondNs);
  find.key = NameOf(2);
  EXPECT_EQ(cluster_.Do("d", find).code, Code::kNotFound) << "now it knows";
}

class PoolNodeKeepSealedTest : public PoolNodeKeepTest {
 protected:
  PoolNodeKeepSealedTest() { sealed_ = true; }
};

TEST_F(PoolNodeKeepSealedTest, OnTheWireItIsCiphertextAndOnTheDiskItIsNot) {
  Keep("d", 1);
  ASSERT_TRUE(DiskIsAsked());
  const std::string plain(cluster_.at("d").memory.get(), kLength);
  const std::string lent(cluster_.at("s").lent.get(), kLent);
  EXPECT_EQ(lent.find(plain.substr(0, 64)), std::string::npos);
  EXPECT_EQ(End("d"), Code::kOk);
  EXPECT_TRUE(Disk().blocks.at(NameOf(1)) == plain);
  StartDiskless("e");
  Meet();
  Ask("e", PoolOp::Kind::kGet, 1);
  EXPECT_EQ(End("e"), Code::kOk);
  EXPECT_EQ(Salt("e", 1), 1u);
}

TEST_F(PoolNodeKeepSealedTest, MoreBlocksThanBuffersWaitForThem) {
  for (std::uint32_t n = 1; n <= 3 * Sealing::kBuffers; ++n) {
    PoolOp op = OpOf("d", PoolOp::Kind::kKeep, n);
    op.bytes += n * kLength;
    FillBlock(op.bytes, kLength, NameOf(n), n);
    ASSERT_TRUE(Node("d").Submit(op));
  }
  for (std::uint32_t n = 1; n <= 3 * Sealing::kBuffers; ++n) {
    EXPECT_EQ(End("d"), Code::kOk);
  }
  EXPECT_EQ(Disk().blocks.size(), 3 * Sealing::kBuffers);
}

TEST_F(PoolNodeKeepSealedTest, WhatWaitsForADiskHoldsUpNoOtherPut) {
  for (std::uint32_t n = 1; n <= 2 * Sealing::kBuffers; ++n) {
    ASSERT_TRUE(Node("d").Submit(OpOf("d", PoolOp::Kind::kKeep, n)));
  }
  cluster_.RunFor(kSecondNs);
  PoolOp put = OpOf("d", PoolOp::Kind::kPut, 99);
  put.store = false;
  EXPECT_EQ(cluster_.Do("d", put).code, Code::kOk);
  EXPECT_TRUE(Done("d").empty());
  for (std::uint32_t n = 1; n <= 2 * Sealing::kBuffers; ++n) {
    EXPECT_EQ(End("d"), Code::kOk);
  }
  EXPECT_EQ(Disk().blocks.size(), 2 * Sealing::kBuffers);
}

TEST_F(PoolNodeKeepSealedTest, WhoDoesNotSealOrHasOtherKeysIsRefusedByName) {
  sealed_ = false;
  StartDiskless("e");
  Meet();
  Keep("e", 1);
  EXPECT_EQ(End("e"), Code::kUnavailable);
  EXPECT_THAT(TextOfStore("e"), HasSubstr("only one of the two nodes seals"));
  StartDiskless("f");
  Seal(&cluster_.at("f"), 2);
  Meet();
  Keep("f", 1);
  EXPECT_EQ(End("f"), Code::kUnavailable);
  EXPECT_THAT(TextOfStore("f"), HasSubstr("`keys`"));
  EXPECT_TRUE(Disk().blocks.empty());
}

}  // namespace
}  // namespace agentmem
