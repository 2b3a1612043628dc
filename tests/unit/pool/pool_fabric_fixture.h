// Blocks in a pool of nodes on real libfabric, many at a time; whatever comes
// back is compared byte for byte.
#ifndef AGENTMEM_TESTS_UNIT_POOL_POOL_FABRIC_FIXTURE_H_
#define AGENTMEM_TESTS_UNIT_POOL_POOL_FABRIC_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/pool/pool_fabric_cluster.h"
#include "tests/unit/pool/pool_test.h"

namespace agentmem {

class FabricPoolTest : public PoolTest {
 protected:
  struct Block {
    std::uint32_t number = 0;
    std::uint32_t length = 0;
    BlockClass block_class = BlockClass::kCache;
    std::uint64_t salt = 77;
  };
  // Operations that one node was given at once.
  struct Flight {
    std::string node;
    PoolOp::Kind kind = PoolOp::Kind::kGet;
    std::vector<Block> blocks;
    std::vector<std::uint64_t> at;  // in the node's memory
    std::vector<std::uint64_t> tickets;
    std::vector<TimeNs> ended_at;  // 0: not yet
    std::vector<PoolCompletion> done;
    std::size_t left = 0;
    std::size_t Count(Code code) const {
      return static_cast<std::size_t>(std::count_if(
          done.begin(), done.end(), [code](const PoolCompletion& one) {
            return one.ticket != 0 && one.code == code;
          }));
    }
  };
  static constexpr std::uint64_t kExport = 24 << 20;
  static constexpr char kPoison = 'e';
  static constexpr std::uint64_t kGuardBytes = 64;

  void Make(const std::vector<std::string>& names) {
    cluster_ = std::make_unique<FabricPoolCluster>();
    for (const std::string& name : names) cluster_->Start(name, kExport);
    cluster_->IntroduceAll();
    ASSERT_TRUE(AwaitPlaces(names.size()));
  }
  void TearDown() override {
    if (cluster_ == nullptr) return;
    // Repair, where a link was lost.
    cluster_->RunFor(TestPlace().patience, [&] {
      return std::all_of(
          cluster_->runs().begin(), cluster_->runs().end(),
          [&](const auto& run) { return Snapshot(run.first).queued == 0; });
    });
    EXPECT_EQ(cluster_->CheckInvariants(), "");
    for (const auto& [name, run] : cluster_->runs()) {
      EXPECT_EQ(Snapshot(name).queued, 0u) << name;
      EXPECT_EQ(Snapshot(name).bad_messages, 0u) << name;
    }
  }
  // Each node has so many to put to.
  bool AwaitPlaces(std::size_t places) {
    return cluster_->RunFor(TestPlace().patience, [&] {
      return std::all_of(cluster_->runs().begin(), cluster_->runs().end(),
                         [&](const auto& run) {
                           return run.second->node->places() == places;
                         });
    });
  }
  bool AwaitWhole() {
    return cluster_->RunFor(TestPlace().patience, [&] { return AllWhole(); });
  }
  bool AllWhole() {
    return std::all_of(
        cluster_->runs().begin(), cluster_->runs().end(),
        [](const auto& run) { return run.second->node->whole(); });
  }

  static std::vector<char> BytesOf(const Block& block) {
    std::vector<char> bytes(block.length);
    FillBlock(bytes.data(), block.length, KeyOf(block.number), block.salt);
    return bytes;
  }
  // From `from` on in the node's memory. `deadline_in` 0: none.
  Flight Give(const std::string& name, PoolOp::Kind kind,
              const std::vector<Block>& blocks, DurationNs deadline_in = 0,
              std::uint64_t from = 0) {
    Flight flight;
    flight.node = name;
    flight.kind = kind;
    flight.blocks = blocks;
    flight.left = blocks.size();
    flight.done.resize(blocks.size());
    flight.ended_at.resize(blocks.size());
    for (const Block& block : blocks) {
      flight.at.push_back(from);
      char* const bytes = cluster_->at(name).memory.get() + from;
      from += block.length + kGuardBytes;
      EXPECT_LE(from, PoolRuns::kMemoryBytes);
      std::fill(bytes, bytes + block.length + kGuardBytes, kPoison);
      if (kind == PoolOp::Kind::kPut) {
        FillBlock(bytes, block.length, KeyOf(block.number), block.salt);
      }
      PoolOp op = OpOf(kind, block.number, block.length, block.block_class);
      op.bytes = bytes;
      if (deadline_in != 0) op.deadline = cluster_->now() + deadline_in;
      flight.tickets.push_back(cluster_->Submit(name, op));
    }
    return flight;
  }
  // Takes what has ended of it.
  void Look(Flight* flight) {
    std::vector<PoolCompletion>& done = cluster_->at(flight->node).done;
    std::erase_if(done, [&](const PoolCompletion& one) {
      const auto found =
          std::find(flight->tickets.begin(), flight->tickets.end(), one.ticket);
      if (found == flight->tickets.end()) return false;
      const auto i = static_cast<std::size_t>(found - flight->tickets.begin());
      EXPECT_EQ(flight->ended_at[i], 0) << "ended twice";
      flight->done[i] = one;
      flight->ended_at[i] = cluster_->now();
      --flight->left;
      ExpectBytes(*flight, i);
      return true;
    });
  }
  // Of a put as they were, of a get that is OK the block's; none beside it.
  void ExpectBytes(const Flight& flight, std::size_t i) {
    const Block& block = flight.blocks[i];
    const char* const bytes =
        cluster_->at(flight.node).memory.get() + flight.at[i];
    if (flight.kind == PoolOp::Kind::kPut ||
        (flight.kind == PoolOp::Kind::kGet &&
         flight.done[i].code == Code::kOk)) {
      EXPECT_EQ(std::memcmp(bytes, BytesOf(block).data(), block.length), 0)
          << "wrong bytes of block " << block.number << " of " << block.length;
    }
    EXPECT_TRUE(std::all_of(bytes + block.length,
                            bytes + block.length + kGuardBytes,
                            [](char byte) { return byte == kPoison; }))
        << "bytes behind block " << block.number;
  }
  void Land(Flight* flight) {
    EXPECT_TRUE(cluster_->RunFor(TestPlace().patience,
                                 [&] {
                                   Look(flight);
                                   return flight->left == 0;
                                 }))
        << flight->left << " operations have not ended";
  }
  // What a link took with it is asked for again: the network's fault, and no
  // wrong answer. On a quiet wire no link is lost.
  void LandAs(Code code, Flight* flight, std::uint64_t losses_before) {
    Land(flight);
    std::vector<Block> again;
    for (std::size_t i = 0; i < flight->blocks.size(); ++i) {
      if (flight->done[i].code == code) continue;
      // Of a cache block it may be a miss.
      const bool miss = flight->done[i].code == Code::kNotFound &&
                        flight->blocks[i].block_class == BlockClass::kCache;
      EXPECT_TRUE(miss || flight->done[i].code == Code::kUnavailable)
          << static_cast<int>(flight->done[i].code) << ": block "
          << flight->blocks[i].number << " at " << flight->node;
      EXPECT_TRUE(TestPlace().lossy || Losses() != losses_before)
          << "block " << flight->blocks[i].number << " at " << flight->node;
      again.push_back(flight->blocks[i]);
    }
    if (!again.empty() && !HasFailure()) {
      ExpectAll(flight->kind, flight->node, again, code);
    }
  }
  void ExpectAll(PoolOp::Kind kind, const std::string& name,
                 const std::vector<Block>& blocks, Code code = Code::kOk) {
    const std::uint64_t losses_before = Losses();
    Flight flight = Give(name, kind, blocks);
    LandAs(code, &flight, losses_before);
  }
  void ExpectPuts(const std::string& name, const std::vector<Block>& blocks) {
    ExpectAll(PoolOp::Kind::kPut, name, blocks);
  }
  void ExpectGets(const std::string& name, const std::vector<Block>& blocks,
                  Code code = Code::kOk) {
    ExpectAll(PoolOp::Kind::kGet, name, blocks, code);
  }
  // So many nodes have it, each in its lent memory as it was put.
  void ExpectCopies(const Block& block, std::size_t copies) {
    EXPECT_GE(CopiesOf(block.number), copies) << "of block " << block.number;
    // One that was begun anew elsewhere may have been made after all.
    if (Calm() || (AllWhole() && !TestPlace().lossy)) {
      EXPECT_EQ(CopiesOf(block.number), copies) << "of block " << block.number;
    }
    ExpectLentBytes(block);
  }
  void ExpectLentBytes(const Block& block) {
    for (const auto& [name, run] : cluster_->runs()) {
      if (!Holds(name, block.number)) continue;
      const auto* const there = Exports(name).Find({3, KeyOf(block.number)});
      ASSERT_EQ(there->length, block.length);
      EXPECT_EQ(std::memcmp(Exports(name).At(there->offset),
                            BytesOf(block).data(), block.length),
                0)
          << "of block " << block.number << " at " << name;
    }
  }
  // What it has read from others and written to them, and what it lost.
  struct Traffic {
    std::uint64_t read = 0;
    std::uint64_t written = 0;
    std::uint64_t losses = 0;
  };
  Traffic TrafficOf(const std::string& name) {
    Traffic traffic;
    for (const PoolPeerSnapshot& peer : Snapshot(name).peers) {
      traffic.read += peer.bytes_read;
      traffic.written += peer.bytes_written;
      traffic.losses += peer.losses;
    }
    return traffic;
  }

  // The network has not failed anybody.
  bool Calm() { return !TestPlace().lossy && Losses() == 0; }
  // Of links, anywhere.
  std::uint64_t Losses() {
    std::uint64_t losses = 0;
    for (const auto& [name, run] : cluster_->runs()) {
      losses += TrafficOf(name).losses;
    }
    return losses;
  }

  PoolRuns& pool() override { return *cluster_; }

  std::unique_ptr<FabricPoolCluster> cluster_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_POOL_POOL_FABRIC_FIXTURE_H_
