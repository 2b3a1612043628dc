// Two nodes with disks, two without, a rough network, disks that fail and nodes
// that die: what was acknowledged is on a disk, and comes back whole.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>

#include "memd/pool/pool_timing.h"
#include "tests/unit/pool/hand_disk.h"
#include "tests/unit/pool/pool_cluster.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kLent = 16 << 20;
constexpr std::uint32_t kLengthMax = 600'000;  // in pieces, some of them
constexpr std::size_t kPlaces = PoolCluster::kMemoryBytes / kLengthMax;

Key NameOf(std::uint32_t n) { return {n, {n, 1, 2}}; }
std::uint32_t LengthOf(std::uint32_t n) {
  return n % 5 == 0 ? kLengthMax : 1000 + n * 97 % 60'000;
}

class PoolKeepSim : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  PoolKeepSim() : cluster_(Options()), random_(GetParam()) {
    for (const char* name : {"s", "t"}) StartServer(name);
    for (const char* name : {"d", "e"}) {
      cluster_.Start(name, 0).node->UseRemoteStore({"s", "t"});
    }
    cluster_.IntroduceAll();
  }
  static SimOptions Options() {
    SimOptions options = SimOptions::Rough(GetParam());
    options.message_bytes_max = kPoolMessageBytesMax;
    return options;
  }
  void StartServer(const std::string& name) {
    PoolRun& run = cluster_.Start(name, kLent);
    run.node->UseStore(&disks_[name]);
    run.node->ServeStore(&disks_[name]);
    run.store_bytes = 1 << 30;
  }
  void Kill(const std::string& name) {
    cluster_.Kill(name);
    disks_[name].jobs.clear();  // what it had not written is lost
    dead_ = name;
  }
  void Revive() {
    StartServer(dead_);
    dead_.clear();
    cluster_.IntroduceAll();
  }

  struct Asked {
    std::uint32_t n = 0;
    bool keep = false;
    std::size_t place = 0;
  };
  // Of a node without a disk: which of its memory is free.
  struct Client {
    std::map<std::uint64_t, Asked> asked;
    std::set<std::size_t> used;
  };

  void Submit(const std::string& name, std::uint32_t n, bool keep) {
    Client& client = clients_[name];
    if (client.used.size() >= kPlaces) return;
    Asked asked = {n, keep, 0};
    while (client.used.contains(asked.place)) ++asked.place;
    PoolOp op;
    op.kind = keep ? PoolOp::Kind::kKeep : PoolOp::Kind::kGet;
    op.store = true;
    op.durable = true;
    op.block_class = BlockClass::kState;
    op.tenant = HandDisk::kTenant;
    op.key = NameOf(n);
    op.memory = cluster_.at(name).memory_id;
    op.bytes = cluster_.at(name).memory.get() + asked.place * kLengthMax;
    op.length = LengthOf(n);
    op.ticket = ++tickets_;
    if (keep) {
      FillBlock(op.bytes, op.length, op.key, n + 1);
    } else {
      std::memset(op.bytes, 'e', op.length);
    }
    ASSERT_TRUE(cluster_.at(name).node->Submit(op));
    client.used.insert(asked.place);
    client.asked[op.ticket] = asked;
  }
  void Take(const std::string& name) {
    Client& client = clients_[name];
    for (const PoolStoreDone& done : cluster_.at(name).store_done) {
      const Asked asked = client.asked.at(done.ticket);
      client.asked.erase(done.ticket);
      client.used.erase(asked.place);
      if (asked.keep) {
        if (done.code != Code::kOk) continue;
        EXPECT_TRUE(OnADisk(asked.n)) << "acknowledged: " << asked.n;
        acknowledged_.insert(asked.n);
      } else if (done.code == Code::kOk) {
        ++read_;
        EXPECT_EQ(
            SaltOf(cluster_.at(name).memory.get() + asked.place * kLengthMax,
                   LengthOf(asked.n), NameOf(asked.n)),
            asked.n + 1)
            << "wrong bytes of " << asked.n;
      } else {
        EXPECT_EQ(done.code, Code::kUnavailable) << "lost: " << asked.n;
      }
    }
    cluster_.at(name).store_done.clear();
  }
  bool OnADisk(std::uint32_t n) {
    for (auto& [name, disk] : disks_) {
      const auto found = disk.blocks.find(NameOf(n));
      if (found != disk.blocks.end() &&
          SaltOf(found->second.data(), LengthOf(n), NameOf(n)) == n + 1) {
        return true;
      }
    }
    return false;
  }
  void DisksWork(bool may_fail) {
    for (auto& [name, disk] : disks_) {
      if (!cluster_.alive(name)) continue;
      for (std::size_t jobs = random_() % 4; jobs != 0 && !disk.jobs.empty();
           --jobs) {
        const bool fails = may_fail && random_() % 16 == 0;
        disk.FinishOne(cluster_.at(name).node.get(),
                       fails ? Code::kUnavailable : Code::kOk,
                       fails ? StoreRefusal::kDevice : StoreRefusal::kNone);
      }
    }
  }
  void Step(bool may_fail) {
    cluster_.RunFor(500 * kMicrosecondNs);
    DisksWork(may_fail);
    for (const char* name : {"d", "e"}) Take(name);
    ASSERT_EQ(cluster_.CheckInvariants(), "");
  }

  PoolCluster cluster_;
  std::mt19937_64 random_;
  std::map<std::string, HandDisk> disks_;
  std::string dead_;
  std::map<std::string, Client> clients_;
  std::set<std::uint32_t> acknowledged_;
  std::uint64_t tickets_ = 0;
  std::uint64_t read_ = 0;
};

TEST_P(PoolKeepSim, WhatWasAcknowledgedIsOnADiskAndComesBackWhole) {
  std::uint32_t next = 1;
  for (int step = 0; step < 1500; ++step) {
    const std::string name = random_() % 2 == 0 ? "d" : "e";
    if (random_() % 8 == 0) {
      Submit(name, next, /*keep=*/true);
      // Now and then both put the same one.
      if (random_() % 3 == 0) Submit(name == "d" ? "e" : "d", next, true);
      ++next;
    }
    if (random_() % 8 == 0 && !acknowledged_.empty()) {
      auto one = acknowledged_.lower_bound(
          static_cast<std::uint32_t>(random_() % next));
      if (one == acknowledged_.end()) one = acknowledged_.begin();
      Submit(name, *one, /*keep=*/false);
    }
    if (random_() % 200 == 0 && dead_.empty()) {
      Kill(random_() % 2 == 0 ? "s" : "t");
    } else if (random_() % 200 == 0 && !dead_.empty()) {
      Revive();
    } else if (random_() % 64 == 0) {
      cluster_.IntroduceAll();  // as the daemons do each second
    }
    Step(/*may_fail=*/true);
    if (HasFatalFailure()) return;
  }
  if (!dead_.empty()) Revive();
  SimOptions quiet;
  quiet.message_bytes_max = kPoolMessageBytesMax;
  quiet.messages_in_order = cluster_.network().options()->messages_in_order;
  *cluster_.network().options() = quiet;
  const TimeNs give_up = cluster_.now() + 60 * kSecondNs;
  std::set<std::uint32_t> left = acknowledged_;
  while (!left.empty() || !clients_["d"].asked.empty() ||
         !clients_["e"].asked.empty()) {
    ASSERT_LT(cluster_.now(), give_up) << left.size() << " never come";
    const std::uint64_t before = read_;
    if (!left.empty() && clients_["e"].asked.empty()) {
      Submit("e", *left.begin(), /*keep=*/false);
    }
    Step(/*may_fail=*/false);
    if (read_ != before && clients_["e"].asked.empty() && !left.empty()) {
      left.erase(left.begin());
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(acknowledged_.size(), 20u);
  EXPECT_GT(read_, acknowledged_.size());
}

INSTANTIATE_TEST_SUITE_P(Seeds, PoolKeepSim,
                         ::testing::Range<std::uint64_t>(1, 21));

}  // namespace
}  // namespace agentmem
