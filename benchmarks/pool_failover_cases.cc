// Suite `pool`: one of three nodes is killed under load, again and again.
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "base/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "benchmarks/fabric_view.h"
#include "benchmarks/failover_load.h"
#include "benchmarks/pool_bench.h"
#include "benchmarks/report.h"

namespace agentmem::bench {
namespace {

constexpr std::size_t kNodes = 3;
constexpr std::uint64_t kDramBytes = 64 << 20;  // a third of the blocks
constexpr std::uint64_t kSlots = 32'768;        // more than there will be
constexpr std::size_t kBlocks = 3'000;          // of 64 KiB, to begin with
constexpr int kBetweenMsMax = 500;              // a death's moment is random
constexpr int kThroughMs = 1'000;               // writers go on, after a death
constexpr int kLookAgainMs = 20;
constexpr DurationNs kWholeNsMax = 60 * kSecondNs;

// For so long; UNAVAILABLE if the daemon ends before.
absl::Status Wait(const MemdChild& memd, int ms) {
  const UniqueFd ended(
      static_cast<int>(::syscall(SYS_pidfd_open, memd.pid(), 0)));
  pollfd news = {ended.get(), POLLIN, 0};
  if (::poll(&news, 1, ms) == 0) return absl::OkStatus();
  return Unavailable("memd " + memd.process() + " has ended by itself");
}

// Until those that live lend two places to each block, and nothing else, and
// each has its share of them: of equal nodes, about as many as there are blocks
// times two by the number of nodes.
absl::Status AwaitWhole(const PoolCluster& cluster, std::size_t blocks) {
  const TimeNs give_up = MonotonicNowNs() + kWholeNsMax;
  for (;;) {
    std::uint64_t lent = 0;
    std::uint64_t least = 2 * blocks;
    std::uint64_t nodes = 0;
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (cluster.node(i)->pid() < 0) continue;
      AGENTMEM_ASSIGN_OR_RETURN(const FabricView view,
                                ViewFabric(*cluster.node(i)));
      lent += view.lent_blocks;
      least = std::min(least, view.lent_blocks);
      ++nodes;
    }
    if (lent == 2 * blocks && least * nodes * 2 >= lent) {
      return absl::OkStatus();
    }
    if (MonotonicNowNs() > give_up) {
      return DeadlineExceeded(
          "nodes lend " + std::to_string(lent) + " places to " +
          std::to_string(blocks) +
          " blocks after 60 s, not two to each, or one node has less than half "
          "of its share: " +
          std::to_string(least));
    }
    AGENTMEM_RETURN_IF_ERROR(Wait(*cluster.node(0), kLookAgainMs));
  }
}

struct Failovers {
  Samples whole;  // from a death
  Samples again;  // from the start after it
};

// One node dies under load, its copies are made anew; it comes back.
absl::Status FailOver(const PoolCluster& cluster, std::size_t victim,
                      int before_ms, FailoverLoad* load, Failovers* found) {
  AGENTMEM_RETURN_IF_ERROR(Wait(*cluster.node(victim), before_ms));
  load->Count(true);
  const TimeNs killed = MonotonicNowNs();
  cluster.node(victim)->Kill();
  AGENTMEM_RETURN_IF_ERROR(Wait(*cluster.node(0), kThroughMs));
  load->PauseWrites();
  AGENTMEM_RETURN_IF_ERROR(AwaitWhole(cluster, load->acknowledged()));
  found->whole.Add(static_cast<double>(MonotonicNowNs() - killed));
  load->Count(false);
  load->ResumeWrites();
  const TimeNs started = MonotonicNowNs();
  AGENTMEM_RETURN_IF_ERROR(cluster.node(victim)->Restart());
  AGENTMEM_RETURN_IF_ERROR(cluster.AwaitPeers());
  load->PauseWrites();
  AGENTMEM_RETURN_IF_ERROR(AwaitWhole(cluster, load->acknowledged()));
  found->again.Add(static_cast<double>(MonotonicNowNs() - started));
  load->ResumeWrites();
  return absl::OkStatus();
}

}  // namespace

absl::Status PoolBench::AddFailover() {
  PoolClusterOptions options;
  options.program = options_.memd;
  options.nodes = kNodes;
  options.dram_bytes = kDramBytes;
  options.slots = kSlots;
  options.export_bytes = scale_.export_bytes;
  options.first_exports = true;
  AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<PoolCluster> cluster,
                            PoolCluster::Start(options));
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::unique_ptr<FailoverLoad> load,
      FailoverLoad::Make(cluster->socket_path(0), seed_, kBlocks));
  AGENTMEM_RETURN_IF_ERROR(AwaitWhole(*cluster, load->acknowledged()));
  load->Start();
  Failovers found;
  std::mt19937_64 random(seed_);
  for (int i = 0; i < scale_.deaths; ++i) {
    const std::size_t victim = 1 + random() % (kNodes - 1);
    const int before_ms = static_cast<int>(random() % kBetweenMsMax);
    AGENTMEM_RETURN_IF_ERROR(
        FailOver(*cluster, victim, before_ms, load.get(), &found));
  }
  LoadReport report = load->Stop();
  const LoadReport last = load->ReadAll();
  ReportFailover(&report, last, &found.whole, &found.again);
  return absl::OkStatus();
}

void PoolBench::ReportFailover(LoadReport* load, const LoadReport& last,
                               Samples* whole, Samples* again) {
  const std::string name = "failover/reads";
  CaseResult row;
  row.name = name;
  row.unit = "ns";
  row.p50_ns = load->reads.Percentile(0.5);
  row.p99_ns = load->reads.Percentile(0.99);
  row.p999_ns = load->reads.Percentile(0.999);
  row.value = row.p50_ns;
  result_->cases.push_back(row);
  const auto add = [this](const std::string& part, double ns) {
    CaseResult more;
    more.name = "failover/" + part;
    more.unit = "ns";
    more.value = ns;
    result_->cases.push_back(more);
  };
  const double whole_max = whole->Percentile(1);
  add("write_stall", load->put_ns_max);
  add("whole", whole_max);
  Bar("failover", row.p999_ns <= 50e6,
      "reads from a death until placement is whole, p99.9 at most 50 ms, it "
      "is " +
          DurationText(row.p999_ns) + " of " +
          std::to_string(load->reads.size()) + ", the slowest " +
          DurationText(load->reads.Percentile(1)));
  Bar("failover", load->put_ns_max <= 1e9,
      "writes fail or wait for at most 1 s, the longest is " +
          DurationText(load->put_ns_max) + ", with " +
          std::to_string(load->puts_failed) + " failures on the way");
  Bar("failover", last.failed + last.from_store == 0,
      std::to_string(last.failed) + " of " + std::to_string(last.reads_all) +
          " acknowledged state blocks lost after " +
          std::to_string(whole->size()) + " deaths, and " +
          std::to_string(last.from_store) +
          " found on their node's disk alone" +
          (last.failed == 0 ? "" : ": " + last.first_failure));
  Bar("failover", load->wrong + last.wrong == 0,
      std::to_string(load->wrong + last.wrong) + " wrong of " +
          std::to_string(load->reads_all + last.reads_all) +
          " reads, every byte compared");
  Bar("failover", whole_max <= 10e9,
      "placement whole again within 10 s, the median is " +
          DurationText(whole->Percentile(0.5)) + ", the longest " +
          DurationText(whole_max));
  result_->notes.push_back(
      "failover: " + std::to_string(load->from_pool) + " of " +
      std::to_string(load->reads_all) + " reads from the pool, " +
      std::to_string(load->from_store) + " from disk, " +
      std::to_string(load->failed) + " failed; a node has its share again " +
      DurationText(again->Percentile(0.5)) + " after it is started, at most " +
      DurationText(again->Percentile(1)) +
      (load->first_failure.empty() ? "" : "; first: " + load->first_failure));
}

}  // namespace agentmem::bench
