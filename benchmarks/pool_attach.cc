#include "benchmarks/pool_attach.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <set>
#include <utility>

#include "base/status.h"
#include "benchmarks/fabric_view.h"
#include "benchmarks/pool_bytes.h"
#include "benchmarks/report.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kPage = 64 << 10;
constexpr std::size_t kHere = 0;
constexpr std::size_t kAway = 1;
constexpr std::size_t kNodes = 3;
constexpr std::size_t kZeros =
    16;  // pages that nobody wrote, and are looked at
constexpr DurationNs kPatienceNs = 60 * kSecondNs;
constexpr std::chrono::seconds kLateTimeout{10};

absl::Status FromLibrary(const Status& status) {
  if (status) return absl::OkStatus();
  return MakeStatus(static_cast<absl::StatusCode>(status.code()),
                    status.message());
}

std::string CodeText(const Status& status) {
  if (status) return "OK";
  return absl::StatusCodeToString(FromLibrary(status).code()) + " (" +
         status.message() + ")";
}

bool IsUnavailable(const Status& status) {
  return FromLibrary(status).code() == absl::StatusCode::kUnavailable;
}

bool IsAborted(const Status& status) {
  return FromLibrary(status).code() == absl::StatusCode::kAborted;
}

}  // namespace

PoolAttach::PoolAttach(const SuiteOptions& options, std::uint64_t seed,
                       SuiteResult* result)
    : options_(options),
      seed_(seed),
      region_bytes_((options.quick ? 256 : 4096) * kMiB),
      result_(result) {
  std::mt19937_64 random(seed);
  std::set<std::uint64_t> pages;
  const std::size_t count = options.quick ? 100 : 500;
  while (pages.size() < count) {
    pages.insert(random() % (region_bytes_ / kPage) * kPage);
  }
  pages_.assign(pages.begin(), pages.end());
  std::shuffle(pages_.begin(), pages_.end(), random);
}

absl::Status PoolAttach::Start() {
  AGENTMEM_ASSIGN_OR_RETURN(etcd_, EtcdChild::Start());
  PoolClusterOptions options;
  options.program = options_.memd;
  options.nodes = kNodes;
  options.dram_bytes = 128 * kMiB;
  options.export_bytes = 256 * kMiB;
  options.etcd = etcd_->url();
  AGENTMEM_ASSIGN_OR_RETURN(cluster_, PoolCluster::Start(options));
  return absl::OkStatus();
}

absl::StatusOr<Client> PoolAttach::Connect(std::size_t node) const {
  ConnectOptions options;
  options.socket_path = cluster_->socket_path(node);
  options.name = "agentmem_bench";
  auto client = Client::Connect(options);
  if (!client) return FromLibrary(client.status());
  return std::move(*client);
}

absl::StatusOr<PoolAttach::Memory> PoolAttach::Open(Client* client,
                                                    std::uint64_t bytes,
                                                    bool write) const {
  AgentOptions options;
  options.write = write;
  options.create = bytes != 0;
  auto agent = client->Agents().Open(agent_, options);
  if (!agent) return FromLibrary(agent.status());
  RegionOptions wanted;
  wanted.bytes = bytes;
  auto region = agent->OpenRegion("heap", wanted);
  if (!region) return FromLibrary(region.status());
  if (region->data() == nullptr) {
    return FailedPrecondition(
        "regions are not paged here (no userfaultfd): nothing to measure");
  }
  return Memory{std::move(*agent), std::move(*region)};
}

void PoolAttach::Fill(std::size_t index, std::uint64_t version,
                      std::byte* bytes) const {
  ByteStream(seed_ + version, index)
      .Fill(reinterpret_cast<char*>(bytes), kPage);
}

absl::Status PoolAttach::Matches(const std::byte* region, std::size_t index,
                                 std::uint64_t version) const {
  const std::byte* const bytes = region + pages_[index];
  if (ByteStream(seed_ + version, index)
          .Matches(reinterpret_cast<const char*>(bytes), kPage)) {
    return absl::OkStatus();
  }
  return DataLoss("attach_elsewhere: the page at " +
                  std::to_string(pages_[index]) +
                  " has other bytes than version " + std::to_string(version));
}

absl::StatusOr<PoolAttach::Memory> PoolAttach::Write(Client* client) const {
  AGENTMEM_ASSIGN_OR_RETURN(Memory memory, Open(client, region_bytes_, true));
  for (std::size_t i = 0; i < pages_.size(); ++i) {
    Fill(i, 1, memory.region.data() + pages_[i]);
  }
  const auto version = memory.region.Commit();
  if (!version) return FromLibrary(version.status());
  Fill(0, 3, memory.region.data() + pages_[0]);  // what comes too late
  return memory;
}

absl::StatusOr<double> PoolAttach::AwaitLeave(TimeNs since) const {
  for (;;) {
    AGENTMEM_ASSIGN_OR_RETURN(const FabricView view,
                              ViewFabric(*cluster_->node(kHere)));
    const DurationNs passed = MonotonicNowNs() - since;
    if (view.members.count(PoolCluster::NodeName(kAway)) == 0) {
      return static_cast<double>(passed);
    }
    if (passed > kPatienceNs) {
      return DeadlineExceeded("a lost node is a member still after 60 s");
    }
  }
}

// (Refused until this node has heard that the other's lease is over.)
absl::StatusOr<PoolAttach::Memory> PoolAttach::TakeOver(Client* client) const {
  const TimeNs give_up = MonotonicNowNs() + kPatienceNs;
  for (;;) {
    auto memory = Open(client, 0, true);
    if (memory.ok() || MonotonicNowNs() > give_up) return memory;
  }
}

// Each page by an open of its own, so that none was there before.
absl::Status PoolAttach::ReadFirstPages(Client* client) {
  Samples samples;
  std::vector<std::byte> page(kPage);
  for (std::size_t i = 0; i < pages_.size(); ++i) {
    const TimeNs start = MonotonicNowNs();
    AGENTMEM_ASSIGN_OR_RETURN(const Memory memory, Open(client, 0, false));
    std::copy_n(memory.region.data() + pages_[i], kPage, page.data());
    samples.Add(static_cast<double>(MonotonicNowNs() - start));
    AGENTMEM_RETURN_IF_ERROR(Matches(page.data() - pages_[i], i, 1));
  }
  AGENTMEM_ASSIGN_OR_RETURN(const Memory memory, Open(client, 0, false));
  const std::vector<std::byte> zeros(kPage);
  std::mt19937_64 random(seed_);
  for (std::size_t i = 0; i < kZeros; ++i) {
    const std::uint64_t at = random() % (region_bytes_ / kPage) * kPage;
    if (std::find(pages_.begin(), pages_.end(), at) != pages_.end()) continue;
    if (!std::equal(zeros.begin(), zeros.end(), memory.region.data() + at)) {
      return DataLoss("attach_elsewhere: a page that nobody wrote is not zero");
    }
  }
  AddRow("first_page", samples.Percentile(0.5));
  CaseResult* const row = &result_->cases.back();
  row->p50_ns = row->value;
  row->p99_ns = samples.Percentile(0.99);
  row->p999_ns = samples.Percentile(0.999);
  Bar(row->p99_ns <= 10e6,
      "an open and its first page from another node's memory, p99 at most 10 "
      "ms, it is " +
          DurationText(row->p99_ns) + " of " + std::to_string(samples.size()) +
          ", the slowest " + DurationText(samples.Percentile(1)) +
          ", every byte compared");
  return absl::OkStatus();
}

absl::Status PoolAttach::CommitHere(Memory* memory) const {
  Fill(0, 2, memory->region.data() + pages_[0]);
  const auto version = memory->region.Commit();
  return version ? absl::OkStatus() : FromLibrary(version.status());
}

// By the process that held the region when its node died.
absl::Status PoolAttach::CommitLate(Memory* held) {
  CommitOptions options;
  options.timeout = kLateTimeout;
  const auto dead = held->region.Commit(options);
  AGENTMEM_RETURN_IF_ERROR(cluster_->node(kAway)->Restart());
  AGENTMEM_RETURN_IF_ERROR(cluster_->AwaitPeers());
  const auto late = held->region.Commit(options);
  AGENTMEM_ASSIGN_OR_RETURN(Client again, Connect(kAway));
  const absl::Status writer = Open(&again, 0, true).status();
  Bar(!dead.ok() && !late.ok() && !writer.ok(),
      "no commit of the old writer succeeds; while its node is dead: " +
          CodeText(dead.status()) + "; after it was started again: " +
          CodeText(late.status()) + "; opened there for writing: " +
          absl::StatusCodeToString(writer.code()) + " (" +
          StatusMessage(writer) + ")");
  return absl::OkStatus();
}

absl::StatusOr<PoolAttach::Memory> PoolAttach::CommitElsewhere(
    Client* here, TimeNs since) const {
  AGENTMEM_RETURN_IF_ERROR(AwaitLeave(since).status());
  AGENTMEM_ASSIGN_OR_RETURN(Memory memory, TakeOver(here));
  AGENTMEM_RETURN_IF_ERROR(CommitHere(&memory));
  return memory;
}

// Its memd has not lost a thing, and does not know that it was away.
absl::Status PoolAttach::AddStandstill(Client* here) {
  agent_ = "late";
  AGENTMEM_ASSIGN_OR_RETURN(Client away, Connect(kAway));
  AGENTMEM_ASSIGN_OR_RETURN(Memory held, Write(&away));
  const pid_t pid = cluster_->node(kAway)->pid();
  const TimeNs stopped = MonotonicNowNs();
  ::kill(pid, SIGSTOP);
  const auto memory = CommitElsewhere(here, stopped);
  ::kill(pid, SIGCONT);
  AGENTMEM_RETURN_IF_ERROR(memory.status());
  CommitOptions options;
  options.timeout = kLateTimeout;
  // UNAVAILABLE: it has not met its peers again, nothing is decided yet.
  const TimeNs give_up = MonotonicNowNs() + kPatienceNs;
  int unavailable = 0;
  auto late = held.region.Commit(options);
  while (IsUnavailable(late.status()) && MonotonicNowNs() < give_up) {
    ++unavailable;
    late = held.region.Commit(options);
  }
  const Status all = held.agent.Commit(options);
  Bar(IsAborted(late.status()) && IsAborted(all),
      "late commits through a node that stood still (SIGSTOP) until another "
      "one had its agent are ABORTED; after " +
          std::to_string(unavailable) + " times UNAVAILABLE the region's: " +
          CodeText(late.status()) + "; the agent's: " + CodeText(all));
  return CheckNewest(here);
}

absl::Status PoolAttach::CheckNewest(Client* client) const {
  AGENTMEM_ASSIGN_OR_RETURN(const Memory memory, Open(client, 0, false));
  for (std::size_t i = 0; i < pages_.size(); ++i) {
    AGENTMEM_RETURN_IF_ERROR(Matches(memory.region.data(), i, i == 0 ? 2 : 1));
  }
  return absl::OkStatus();
}

absl::Status PoolAttach::Add() {
  if (EtcdChild::Program().empty()) {
    result_->notes.push_back(
        "attach_elsewhere: not measured, etcd is not installed (Debian: "
        "etcd-server)");
    return absl::OkStatus();
  }
  AGENTMEM_RETURN_IF_ERROR(Start());
  AGENTMEM_ASSIGN_OR_RETURN(Client away, Connect(kAway));
  AGENTMEM_ASSIGN_OR_RETURN(Memory held, Write(&away));
  AGENTMEM_ASSIGN_OR_RETURN(Client here, Connect(kHere));
  const TimeNs killed = MonotonicNowNs();
  cluster_->node(kAway)->Kill();
  AGENTMEM_ASSIGN_OR_RETURN(const double lease_ns, AwaitLeave(killed));
  AddRow("lease", lease_ns);
  AGENTMEM_ASSIGN_OR_RETURN(Memory memory, TakeOver(&here));
  AddRow("writer", static_cast<double>(MonotonicNowNs() - killed));
  AGENTMEM_RETURN_IF_ERROR(ReadFirstPages(&here));
  AGENTMEM_RETURN_IF_ERROR(CommitHere(&memory));
  AGENTMEM_RETURN_IF_ERROR(CommitLate(&held));
  AGENTMEM_RETURN_IF_ERROR(CheckNewest(&here));
  AGENTMEM_ASSIGN_OR_RETURN(Client back, Connect(kAway));
  AGENTMEM_RETURN_IF_ERROR(CheckNewest(&back));
  return AddStandstill(&here);
}

void PoolAttach::AddRow(const std::string& part, double ns) {
  CaseResult row;
  row.name = "attach_elsewhere/" + part;
  row.unit = "ns";
  row.value = ns;
  result_->cases.push_back(row);
}

void PoolAttach::Bar(bool holds, const std::string& text) {
  result_->notes.push_back("attach_elsewhere: " + text +
                           (holds ? ": holds" : ": MISSED"));
}

absl::Status AddAttachCases(const SuiteOptions& options, std::uint64_t seed,
                            SuiteResult* result) {
  return PoolAttach(options, seed, result).Add();
}

}  // namespace agentmem::bench
