// A simulated network under all its faults: the same again from the same seed,
// and every promise of the transport kept.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "memd/transport/sim_network.h"
#include "tests/unit/transport/transport_contract.h"

namespace agentmem {
namespace {

constexpr std::size_t kNodes = 4;
constexpr int kRounds = 1500;

// What one seed came to.
struct Outcome {
  std::uint64_t trace_hash = 0;
  TimeNs ended_at = 0;
  std::uint64_t posted = 0;
  std::uint64_t completed = 0;
  std::uint64_t completed_twice = 0;
  std::uint64_t after_lost = 0;
  std::uint64_t messages_sent = 0;
  std::uint64_t messages_repeated = 0;
  SimCounters counters;
};

// Four nodes that speak at random, are cut, die and come back.
class Storm {
 public:
  explicit Storm(const SimOptions& options) : network_(options, &clock_) {}

  Outcome Run() {
    for (std::size_t i = 0; i < kNodes; ++i) StartNode(i);
    for (int round = 0; round < kRounds; ++round) {
      Act();
      for (int i = 0; i < 3; ++i) network_.Step();
      PollAll();
    }
    network_.HealAll();
    while (network_.Step()) PollAll();
    for (int i = 0; i < 100; ++i) PollAll();
    for (std::size_t i = 0; i < kNodes; ++i) Bury(i);
    outcome_.trace_hash = network_.trace_hash();
    outcome_.ended_at = clock_.Now();
    outcome_.counters = network_.counters();
    return outcome_;
  }

 private:
  std::string NameOf(std::size_t i) { return "node-" + std::to_string(i); }
  void StartNode(std::size_t i) {
    nodes_[i] = std::make_unique<ContractNode>();
    nodes_[i]->Start(network_.Add(NameOf(i)));
    for (auto& links : links_) links[i] = LinkId();
    for (LinkId& link : links_[i]) link = LinkId();
  }
  // Counts what it saw; what was in flight when it died is its own.
  void Bury(std::size_t i) {
    ContractNode& node = *nodes_[i];
    for (const auto& [ticket, codes] : node.done) {
      ++outcome_.completed;
      outcome_.completed_twice += codes.size() > 1;
    }
    outcome_.after_lost += node.done_after_lost;
    std::sort(node.messages.begin(), node.messages.end());
    for (std::size_t m = 1; m < node.messages.size(); ++m) {
      outcome_.messages_repeated += node.messages[m] == node.messages[m - 1];
    }
    node.transport = nullptr;
  }
  void PollAll() {
    for (auto& node : nodes_) node->Poll(clock_.Now());
  }
  void Act() {
    const std::size_t from = random_() % kNodes;
    const std::size_t to = (from + 1 + random_() % (kNodes - 1)) % kNodes;
    const std::uint64_t dice = random_() % 1000;
    if (dice < 3) {
      Bury(from);
      StartNode(from);
    } else if (dice < 8) {
      network_.Cut(NameOf(from), NameOf(to));
    } else if (dice < 30) {
      network_.HealAll();
    } else {
      Speak(from, to, dice);
    }
  }
  void Speak(std::size_t from, std::size_t to, std::uint64_t dice) {
    ContractNode& node = *nodes_[from];
    LinkId& link = links_[from][to];
    const bool lost = std::count(node.lost.begin(), node.lost.end(), link) != 0;
    if (lost) node.transport->Close(link);
    if (lost || link == LinkId()) link = node.Connect(*nodes_[to]);
    const std::uint64_t ticket = ++outcome_.posted;
    Transfer transfer = node.Between(link, *nodes_[to], ticket,
                                     random_() % 1000, random_() % 2000);
    if (dice % 5 == 0) transfer.deadline = clock_.Now() + kMillisecondNs;
    bool taken = false;
    if (dice % 3 == 0) {
      taken = node.transport->Read(transfer);
    } else if (dice % 3 == 1) {
      taken = node.transport->Write(transfer);
    } else {
      taken = node.transport->Send(link, std::to_string(ticket), ticket,
                                   transfer.deadline);
      outcome_.messages_sent += taken;
    }
    outcome_.posted -= !taken;
  }

  ManualClock clock_;
  SimNetwork network_;
  std::mt19937_64 random_{1};  // what is done; the seed decides the rest
  std::unique_ptr<ContractNode> nodes_[kNodes];
  LinkId links_[kNodes][kNodes];
  Outcome outcome_;
};

TEST(SimDeterminismTest, TheSameSeedGivesTheSameTrace) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const Outcome first = Storm(SimOptions::Rough(seed)).Run();
    const Outcome second = Storm(SimOptions::Rough(seed)).Run();
    EXPECT_EQ(first.trace_hash, second.trace_hash) << "seed " << seed;
    EXPECT_EQ(first.ended_at, second.ended_at) << "seed " << seed;
    const Outcome other = Storm(SimOptions::Rough(seed + 100)).Run();
    EXPECT_NE(first.trace_hash, other.trace_hash) << "seed " << seed;
  }
}

TEST(SimDeterminismTest, OneNumberLessInTheOptionsIsAnotherTrace) {
  SimOptions options = SimOptions::Rough(3);
  const Outcome first = Storm(options).Run();
  options.latency_max -= 1;
  EXPECT_NE(Storm(options).Run().trace_hash, first.trace_hash);
  options.latency_max += 1;
  EXPECT_EQ(Storm(options).Run().trace_hash, first.trace_hash);
  options.seed += 1;
  EXPECT_NE(Storm(options).Run().trace_hash, first.trace_hash);
}

TEST(SimDeterminismTest, EveryPromiseHoldsUnderAllFaults) {
  SimCounters sum;
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    const Outcome outcome = Storm(SimOptions::Rough(seed)).Run();
    EXPECT_EQ(outcome.completed_twice, 0u) << "seed " << seed;
    EXPECT_EQ(outcome.after_lost, 0u) << "seed " << seed;
    EXPECT_EQ(outcome.messages_repeated, 0u) << "seed " << seed;
    EXPECT_LE(outcome.counters.messages_delivered, outcome.messages_sent);
    EXPECT_GT(outcome.completed, 100u) << "seed " << seed;
    sum.retransmits += outcome.counters.retransmits;
    sum.links_lost += outcome.counters.links_lost;
    sum.completion_errors += outcome.counters.completion_errors;
    sum.completions_lost += outcome.counters.completions_lost;
    sum.torn += outcome.counters.torn;
    sum.late_writes += outcome.counters.late_writes;
  }
  EXPECT_GT(sum.retransmits, 0u);
  EXPECT_GT(sum.links_lost, 0u);
  EXPECT_GT(sum.completion_errors, 0u);
  EXPECT_GT(sum.completions_lost, 0u);
  EXPECT_GT(sum.torn, 0u);
  EXPECT_GT(sum.late_writes, 0u);
}

// Without deaths nothing is in flight at the end: each completed exactly once.
TEST(SimDeterminismTest, AllThatWasPostedCompletes) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    ManualClock clock;
    SimNetwork network(SimOptions::Rough(seed), &clock);
    ContractNode a, b;
    a.Start(network.Add("a"));
    b.Start(network.Add("b"));
    std::uint64_t posted = 0;
    LinkId link = a.Connect(b);
    for (int i = 0; i < 500; ++i) {
      if (!a.lost.empty() && a.lost.back() == link) link = a.Connect(b);
      posted += a.transport->Write(a.Between(link, b, posted, 0, 100));
      network.Step();
      a.Poll(clock.Now());
    }
    while (network.Step()) a.Poll(clock.Now());
    while (!a.transport->ReadyToWait()) a.Poll(clock.Now());
    EXPECT_EQ(a.done.size(), posted) << "seed " << seed;
  }
}

}  // namespace
}  // namespace agentmem
