// The pool over real libfabric, on a wire that is quiet: TCP on this machine
// here, verbs in the virtual machine of tests/rdma.
#include <algorithm>
#include <set>

#include "tests/unit/pool/pool_fabric_fixture.h"

namespace agentmem {
namespace {

constexpr BlockClass kCache = BlockClass::kCache;
constexpr BlockClass kState = BlockClass::kState;
// About the pieces that blocks travel in, and from 1 B to 4 MiB.
constexpr std::uint32_t kLengths[] = {
    1,       2,       7,       8,       63,      4095,     4096,    4097,
    262'143, 262'144, 524'288, 524'289, 786'433, 1U << 20, 4U << 20};

std::size_t CopiesFor(BlockClass block_class) {
  return block_class == kState ? 2 : 1;
}

TEST_F(FabricPoolTest, ABlockOfAnyLengthComesBackToEveryNodeByteForByte) {
  const std::vector<std::string> names = {"a", "b", "c"};
  Make(names);
  std::uint32_t number = 0;
  std::uint64_t read = 0;
  std::uint64_t written = 0;
  for (const std::uint32_t length : kLengths) {
    for (const BlockClass block_class : {kCache, kState}) {
      const std::string& writer = names[++number % names.size()];
      const Block block = {number, length, block_class};
      ExpectPuts(writer, {block});
      ExpectCopies(block, CopiesFor(block_class));
      const std::size_t there = CopiesOf(number) - Holds(writer, number);
      written += std::uint64_t{length} * there;
      for (const std::string& name : names) {
        ExpectGets(name, {block});
        if (!Holds(name, number)) read += length;
      }
      ExpectAll(PoolOp::Kind::kDrop, writer, {{number}});
      if (Calm()) {
        EXPECT_EQ(CopiesOf(number), 0u);
      }
    }
  }
  // All of it crossed the network, once; more only when a link was lost.
  Traffic all;
  for (const std::string& name : names) {
    const Traffic one = TrafficOf(name);
    all.read += one.read;
    all.written += one.written;
    all.losses += one.losses;
  }
  EXPECT_GE(all.read, read);
  EXPECT_GE(all.written, written);
  if (Calm()) {
    EXPECT_EQ(all.read, read);
    EXPECT_EQ(all.written, written);
  }
}

TEST_F(FabricPoolTest, AFindTellsLengthAndClassAndADropIsSeenEverywhere) {
  Make({"a", "b"});
  std::vector<Block> blocks;
  for (std::uint32_t i = 0; i < 20; ++i) {
    blocks.push_back({i, 5000 + i, i % 2 == 0 ? kCache : kState});
  }
  ExpectPuts("a", blocks);
  for (const char* const name : {"a", "b"}) {
    Flight found = Give(name, PoolOp::Kind::kFind, blocks);
    Land(&found);
    for (std::uint32_t i = 0; i < 20; ++i) {
      EXPECT_EQ(found.done[i].code, Code::kOk);
      EXPECT_EQ(found.done[i].length, blocks[i].length);
      EXPECT_EQ(found.done[i].block_class, blocks[i].block_class);
    }
  }
  ExpectAll(PoolOp::Kind::kDrop, "b", blocks);
  for (const char* const name : {"a", "b"}) {
    ExpectAll(PoolOp::Kind::kFind, name, blocks, Code::kNotFound);
  }
}

TEST_F(FabricPoolTest, BatchesInAllDirectionsAtOnceDoNotMixUpTheirBytes) {
  const std::vector<std::string> names = {"a", "b", "c"};
  Make(names);
  std::vector<std::vector<Block>> blocks(3);
  for (std::uint32_t i = 0; i < 96; ++i) {
    blocks[i % 3].push_back(
        {i, 20'000 + 1000 * i, i % 4 < 3 ? kState : kCache});
  }
  const auto all = [&](PoolOp::Kind kind, std::size_t shift) {
    const std::uint64_t losses_before = Losses();
    std::vector<Flight> flights;
    for (std::size_t n = 0; n < 3; ++n) {
      flights.push_back(Give(names[n], kind, blocks[(n + shift) % 3]));
    }
    for (std::size_t n = 0; n < 3; ++n) {
      LandAs(Code::kOk, &flights[n], losses_before);
    }
  };
  all(PoolOp::Kind::kPut, 0);
  for (const std::size_t shift : {1U, 2U}) all(PoolOp::Kind::kGet, shift);
  for (const auto& of_one : blocks) {
    for (const Block& block : of_one) {
      ExpectCopies(block, CopiesFor(block.block_class));
    }
  }
}

TEST_F(FabricPoolTest, SealedBlocksLieElsewhereAsCiphertextAndComeBackWhole) {
  Make({"a", "b"});
  cluster_->Seal("a", 1);
  cluster_->Seal("b", 1);
  std::vector<Block> blocks;
  for (std::uint32_t i = 0; i < 16; ++i) blocks.push_back({i, 300'000, kState});
  std::uint32_t number = 100;
  for (const std::uint32_t length : {1U, 4096U, 700'001U, 4U << 20}) {
    blocks.push_back({++number, length, kState});
  }
  ExpectPuts("a", blocks);
  for (const Block& block : blocks) {
    ASSERT_EQ(CopiesOf(block.number), 2u);
    if (block.length < 64) continue;
    const std::vector<char> plain = BytesOf(block);
    for (const char* const name : {"a", "b"}) {
      const auto* const there = Exports(name).Find({3, KeyOf(block.number)});
      const std::string lent(Exports(name).At(there->offset), block.length);
      EXPECT_EQ(lent.find(std::string(plain.data(), 32)), std::string::npos);
    }
  }
  ExpectGets("b", blocks);
  ExpectGets("a", blocks);
  // One bit of both copies.
  for (const char* const name : {"a", "b"}) {
    const auto* const there = Exports(name).Find({3, KeyOf(number)});
    Exports(name).At(there->offset)[1 << 20] ^= 1;
  }
  ExpectGets("a", {blocks.back()}, Code::kDataLoss);
  ExpectGets("b", {blocks.back()}, Code::kDataLoss);
}

TEST_F(FabricPoolTest, AReadOfMemoryThatHasAnotherBlockByNowIsNeverThatBlock) {
  Make({"a", "b"});
  // So that all of it lies at "b": "a" reads it one-sided.
  std::vector<Block> there;
  for (std::uint32_t i = 0; there.size() < 6; ++i) {
    const Block block = {i, 256 << 10};
    ExpectPuts("a", {block});
    if (Holds("b", i)) there.push_back(block);
  }
  ExpectGets("a", there);  // from here on "a" knows where they are
  std::set<std::uint64_t> places;
  for (const Block& block : there) {
    places.insert(Exports("b").Find({3, KeyOf(block.number)})->offset);
  }
  // Through "b", so that "a" does not hear of it.
  ExpectAll(PoolOp::Kind::kDrop, "b", there);
  for (std::uint32_t i = 100; !places.empty() && i < 1000; ++i) {
    ExpectPuts("b", {{i, 256 << 10}});
    const auto* const block = Exports("b").Find({3, KeyOf(i)});
    if (block != nullptr) places.erase(block->offset);
  }
  ASSERT_TRUE(places.empty()) << "they were not used again";
  ExpectGets("a", there, Code::kNotFound);
  if (Calm()) {
    EXPECT_GE(Snapshot("a").stale, there.size());
  }
  EXPECT_EQ(Snapshot("a").corrupt, 0u);
  for (Block& block : there) block.salt = 88;
  ExpectPuts("b", there);
  ExpectGets("a", there);
}

TEST_F(FabricPoolTest,
       ABlockThatIsWrittenAnewUnderItsReadersIsWholeOrNotThere) {
  Make({"a", "b"});
  std::uint32_t number = 0;
  do {
    ExpectPuts("b", {{++number, 1 << 20, kCache, 1}});
  } while (!Holds("b", number));
  std::uint64_t salt = 1;
  std::size_t whole = 0;
  char* const bytes = cluster_->at("a").memory.get();
  const Key key = KeyOf(number);
  for (std::uint64_t i = 0; i < 24; ++i) {
    PoolOp op = OpOf(PoolOp::Kind::kGet, number, 1 << 20);
    const std::uint64_t read = cluster_->Submit("a", op);
    // Somewhere in its course the place gets another life.
    std::uint64_t moved = 0;
    cluster_->RunFor(kSecondNs, [&] { return moved++ == i; });
    ExpectAll(PoolOp::Kind::kDrop, "b", {{number}});
    ExpectPuts("b", {{number, 1 << 20, kCache, ++salt}});
    auto& done = cluster_->at("a").done;
    ASSERT_TRUE(
        cluster_->RunFor(TestPlace().patience, [&] { return !done.empty(); }));
    ASSERT_EQ(done.size(), 1u);
    ASSERT_EQ(done[0].ticket, read);
    if (done[0].code == Code::kOk) {
      ++whole;
      const std::uint64_t got = SaltOf(bytes, 1 << 20, key);
      EXPECT_TRUE(got == salt || got == salt - 1) << got << " of " << salt;
    } else {
      // What was looked up twice and was another one each time.
      EXPECT_TRUE(done[0].code == Code::kNotFound ||
                  done[0].code == Code::kDataLoss || !Calm());
    }
    done.clear();
  }
  EXPECT_GT(whole, 0u);
}

TEST_F(FabricPoolTest, ACopyWithWrongBytesIsPassedOverForTheOther) {
  Make({"a", "b", "c"});
  std::vector<Block> blocks;
  for (std::uint32_t i = 0; i < 24; ++i) blocks.push_back({i, 70'000, kState});
  ExpectPuts("b", blocks);
  const auto spoil = [&](const std::string& name, const Block& block) {
    const auto* const there = Exports(name).Find({3, KeyOf(block.number)});
    Exports(name).At(there->offset)[69'999] ^= 1;
  };
  std::size_t spoilt = 0;
  for (const Block& block : blocks) {
    if (Holds("a", block.number)) continue;
    spoil("b", block);
    ++spoilt;
  }
  ASSERT_GT(spoilt, 0u);
  ExpectGets("a", blocks);
  for (const Block& block : blocks) {
    if (Holds("a", block.number)) continue;
    spoil("c", block);
    ExpectGets("a", {block}, Code::kDataLoss);
  }
}

TEST_F(FabricPoolTest, ANodeThatEndsIsPassedOverAndItsNextRunGetsItsShare) {
  Make({"a", "b", "c"});
  std::vector<Block> blocks;
  for (std::uint32_t i = 0; i < 40; ++i) blocks.push_back({i, 30'000, kState});
  ExpectPuts("a", blocks);
  ExpectGets("a", blocks);  // and it knows where they are
  cluster_->SetSlowness(1);
  Flight reads = Give("a", PoolOp::Kind::kGet, blocks);
  cluster_->Stop("c");
  Land(&reads);
  EXPECT_EQ(reads.Count(Code::kOk), blocks.size());
  ASSERT_TRUE(AwaitPlaces(2));
  ASSERT_TRUE(AwaitWhole());
  for (const Block& block : blocks) ExpectCopies(block, 2);

  cluster_->Start("c", kExport);
  cluster_->IntroduceAll();
  ASSERT_TRUE(AwaitPlaces(3));
  ASSERT_TRUE(AwaitWhole());
  std::size_t share = 0;
  for (const Block& block : blocks) {
    ExpectCopies(block, 2);
    share += Holds("c", block.number);
  }
  EXPECT_GT(share, 10u);
  for (const char* const name : {"a", "b", "c"}) ExpectGets(name, blocks);
}

}  // namespace
}  // namespace agentmem
