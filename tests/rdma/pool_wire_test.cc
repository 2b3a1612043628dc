// The pool's wire is cut under puts and gets, and mended; packets are lost. In
// the virtual machine alone: "a" is at one end of the wire, all others are at
// the other one.
#include <algorithm>
#include <set>

#include "memd/pool/pool_timing.h"
#include "tests/rdma/lossy_wire.h"
#include "tests/unit/pool/pool_fabric_fixture.h"

namespace agentmem {
namespace {

// In a node's memory, behind all that is got at once.
constexpr std::uint64_t kPutsFrom = 12 << 20;
constexpr DurationNs kDeadlineIn = 2 * kSecondNs;
// Of an emulated machine's turns: several nodes' polls, in the pool's time.
constexpr DurationNs kTurnNs = kSecondNs;

class PoolWireTest : public FabricPoolTest {
 protected:
  static std::vector<Block> Blocks(std::uint32_t first, std::uint32_t count,
                                   std::uint32_t length) {
    std::vector<Block> blocks;
    for (std::uint32_t i = first; i < first + count; ++i) {
      blocks.push_back({i, length, BlockClass::kState});
    }
    return blocks;
  }
  Flight Puts(const std::string& name, const std::vector<Block>& blocks) {
    return Give(name, PoolOp::Kind::kPut, blocks, kDeadlineIn, kPutsFrom);
  }
  Flight Gets(const std::string& name, const std::vector<Block>& blocks) {
    return Give(name, PoolOp::Kind::kGet, blocks, kDeadlineIn);
  }
  void LandByDeadline(const std::vector<Flight*>& flights) {
    const TimeNs start = cluster_->now();
    for (Flight* const flight : flights) Land(flight);
    for (const Flight* const flight : flights) {
      const TimeNs last =
          *std::max_element(flight->ended_at.begin(), flight->ended_at.end());
      EXPECT_LE(last, start + kDeadlineIn + kMoveNsMin + kTurnNs)
          << flight->node;
      // Nothing is lost, or another block's, because a wire is cut.
      EXPECT_EQ(flight->Count(Code::kOk) + flight->Count(Code::kUnavailable),
                flight->blocks.size())
          << flight->node;
    }
  }
  // A lost packet takes longer to come again than the pool waits: links are
  // lost, and who asked asks again.
  void UntilOk(PoolOp::Kind kind, const std::string& name,
               std::vector<Block> left) {
    for (int round = 0; round < 30 && !left.empty(); ++round) {
      Flight flight = Give(name, kind, left, kDeadlineIn);
      LandByDeadline({&flight});
      left.clear();
      for (std::size_t i = 0; i < flight.blocks.size(); ++i) {
        if (flight.done[i].code != Code::kOk) left.push_back(flight.blocks[i]);
      }
    }
    EXPECT_TRUE(left.empty()) << left.size() << " at " << name;
  }
  std::set<std::string> HoldersOf(const Key& key) {
    std::set<std::string> holders;
    for (const auto& [name, run] : cluster_->runs()) {
      if (run->exports->Find({3, key}) != nullptr) holders.insert(name);
    }
    return holders;
  }
  // It lies where another one of its group is put now.
  void ExpectWhereItBelongs(const Block& block) {
    PoolOp op = OpOf(PoolOp::Kind::kPut, block.number, 16, BlockClass::kState);
    op.key.name = {4, 4, 4};
    EXPECT_EQ(cluster_->Do("b", op).code, Code::kOk);
    EXPECT_EQ(HoldersOf(KeyOf(block.number)), HoldersOf(op.key))
        << "block " << block.number;
  }

  LossyWire wire_;
};

TEST_F(PoolWireTest, UnderACutWirePutsAndGetsFailOverOrEndAndMendedAllIsWhole) {
  Make({"a", "b", "c"});
  std::vector<Block> safe;  // which "a" does not have, and yet knows
  for (std::uint32_t i = 0; safe.size() < 16; ++i) {
    const std::vector<Block> one = Blocks(i, 1, 300'000);
    ExpectPuts("b", one);
    if (Holds("a", i)) continue;
    ExpectGets("a", one);
    safe.push_back(one[0]);
  }
  wire_.Slow();
  cluster_->SetSlowness(5 * FabricPoolCluster::kSlowness);

  const std::vector<Block> of_a = Blocks(1000, 16, 150'000);
  const std::vector<Block> of_b = Blocks(2000, 16, 150'000);
  Flight a_puts = Puts("a", of_a);
  Flight b_puts = Puts("b", of_b);
  Flight b_gets = Gets("b", safe);
  Flight a_gets = Gets("a", safe);
  const std::vector<Flight*> flights = {&a_gets, &b_gets, &a_puts, &b_puts};
  ASSERT_TRUE(cluster_->RunFor(kSecondNs, [&] {
    for (Flight* const flight : flights) Look(flight);
    return a_gets.left < safe.size();
  }));
  wire_.Cut();
  cluster_->SetSlowness(4);
  LandByDeadline(flights);
  EXPECT_EQ(b_gets.Count(Code::kOk), safe.size()) << "a copy is on its side";
  EXPECT_EQ(b_puts.Count(Code::kOk), of_b.size()) << "two nodes are";
  EXPECT_GT(a_gets.Count(Code::kUnavailable), 0u) << "cut too late";
  EXPECT_GT(a_puts.Count(Code::kUnavailable), 0u) << "cut too late";
  safe.insert(safe.end(), of_b.begin(), of_b.end());
  for (std::size_t i = 0; i < of_a.size(); ++i) {
    if (a_puts.done[i].code == Code::kOk) safe.push_back(of_a[i]);
  }

  // And all that is begun while it is cut.
  const std::vector<Block> later = Blocks(3000, 8, 50'000);
  Flight b_later = Puts("b", later);
  b_gets = Gets("b", safe);
  a_gets = Gets("a", safe);
  LandByDeadline({&b_later, &b_gets, &a_gets});
  EXPECT_EQ(b_later.Count(Code::kOk), later.size());
  EXPECT_EQ(b_gets.Count(Code::kOk), safe.size());
  for (std::size_t i = 0; i < safe.size(); ++i) {
    EXPECT_EQ(a_gets.done[i].code,
              Holds("a", safe[i].number) ? Code::kOk : Code::kUnavailable);
  }
  safe.insert(safe.end(), later.begin(), later.end());
  EXPECT_EQ(Node("a").places(), 1u);
  EXPECT_EQ(Node("b").places(), 2u);

  wire_.Mend();
  cluster_->SetSlowness(1);
  ASSERT_TRUE(AwaitPlaces(3));
  ASSERT_TRUE(AwaitWhole());
  cluster_->SetSlowness(FabricPoolCluster::kSlowness);
  for (const Block& block : safe) {
    ExpectCopies(block, 2);
    ExpectWhereItBelongs(block);
  }
  for (const Block& block : of_a) ExpectLentBytes(block);
  for (const char* const name : {"a", "b", "c"}) ExpectGets(name, safe);
}

TEST_F(PoolWireTest, LostPacketsCostTimeAndNoBytes) {
  Make({"a", "b", "c"});
  wire_.Lose("1%");
  cluster_->SetSlowness(1);
  const std::vector<Block> blocks = Blocks(0, 12, 100'000);
  UntilOk(PoolOp::Kind::kPut, "a", blocks);
  for (const char* const name : {"a", "b", "c"}) {
    UntilOk(PoolOp::Kind::kGet, name, blocks);
  }
  wire_.Mend();
  ASSERT_TRUE(AwaitPlaces(3));
  ASSERT_TRUE(AwaitWhole());
  for (const Block& block : blocks) ExpectCopies(block, 2);
}

}  // namespace
}  // namespace agentmem
