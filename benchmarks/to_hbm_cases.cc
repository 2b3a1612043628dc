// Blocks that come from another node's memory, or from the store, into device
// memory: the whole way, by agentmem_kv_load, beside the slower of the two
// links on it, which are measured in the same run.
//
// Each round loads other blocks than the rounds before, which nobody has read
// yet. Every byte is compared in device memory.
//
// Each twice: where DRAM has the size of the load, holds take a quarter of it,
// and the load goes in windows for want of them; where it has eight times as
// much ("roomy"), what ends a window is the load's own doing.
//
// And out of DRAM: the first load of an engine that has just started, once what
// libagentmem registers ahead is registered, beside the same load again.
#include <algorithm>
#include <bit>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "benchmarks/comparison.h"
#include "benchmarks/connection.h"
#include "benchmarks/device_kv.h"
#include "benchmarks/hbm_bytes.h"
#include "benchmarks/memd_child.h"
#include "benchmarks/page_cache.h"
#include "benchmarks/pool_cluster.h"
#include "benchmarks/pool_seed.h"
#include "benchmarks/processor_time.h"
#include "benchmarks/raw_disk.h"
#include "benchmarks/raw_fabric.h"
#include "benchmarks/suites.h"
#include "cuda/open_device.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kBlockBytes = 2 * kMiB;  // 16 tokens of all layers
constexpr double kBar = 0.9;
constexpr std::uint32_t kSet = 11;  // of keys
// As many as memd's default quota of grants allows of this size.
constexpr std::size_t kInFlight = 4;
constexpr std::uint32_t kFabricDepth = 8;
constexpr std::uint64_t kSpinUs = 50;
// Of quick runs: the quota of grants, a part of it, has kInFlight blocks.
constexpr std::uint64_t kDramBytesMin = 128 * kMiB;

struct Link {
  std::string name;
  std::vector<double> ns;  // of all bytes of a case
};

class ToHbmBench {
 public:
  // `dram_loads`: so many of its loads fit into DRAM.
  // `gpu`: there is one, and the bars of its cases are announced.
  ToHbmBench(const SuiteOptions& options, bool gpu, std::uint64_t bytes,
             int dram_loads, int rounds, std::uint64_t seed,
             SuiteResult* result)
      : options_(options),
        gpu_(gpu),
        bytes_(bytes),
        dram_bytes_(std::max(bytes * dram_loads, kDramBytesMin)),
        rounds_(rounds),
        seed_(seed),
        result_(result) {}

  absl::Status AddPool(const std::string& name);
  absl::Status AddStore(const std::string& name);
  absl::Status AddFirst(const std::string& name);

 private:
  std::uint32_t PerRound() const {
    return static_cast<std::uint32_t>(bytes_ / kBlockBytes);
  }
  // What pushes all before it out of DRAM.
  std::uint32_t Fillers() const {
    return static_cast<std::uint32_t>(dram_bytes_ / kBlockBytes * 5 / 4);
  }
  std::uint32_t Measured() const {
    return PerRound() * static_cast<std::uint32_t>(rounds_);
  }
  std::uint64_t SeedOf(std::uint32_t number) const { return seed_ + number; }
  absl::Status Connect(const std::string& socket_path);
  // Blocks [first, first + count), waited for.
  absl::Status Put(std::uint32_t first, std::uint32_t count,
                   agentmem_class block_class, agentmem_ack ack);
  // Numbers of blocks, of the first `count`, that only `tier` has: `needed` at
  // least.
  absl::StatusOr<std::vector<std::uint32_t>> OnlyIn(agentmem_tier tier,
                                                    std::uint32_t count,
                                                    std::uint32_t needed) const;
  // Nanoseconds.
  absl::StatusOr<double> Load(std::span<const std::uint32_t> numbers);
  absl::Status Measure(const std::string& name,
                       const std::vector<std::uint32_t>& numbers,
                       const Side& source);
  void AddRow(const std::string& name, std::vector<double> ours,
              const Link& source, const Link& pinned);

  const SuiteOptions options_;
  const bool gpu_;
  const std::uint64_t bytes_;
  const std::uint64_t dram_bytes_;
  const int rounds_;
  const std::uint64_t seed_;
  SuiteResult* const result_;
  std::unique_ptr<Connection> client_;
  std::unique_ptr<DeviceKv> kv_;
};

absl::Status ToHbmBench::Connect(const std::string& socket_path) {
  kv_.reset();
  AGENTMEM_ASSIGN_OR_RETURN(Connection client, Connection::Open(socket_path));
  client_ = std::make_unique<Connection>(std::move(client));
  return absl::OkStatus();
}

absl::Status ToHbmBench::Put(std::uint32_t first, std::uint32_t count,
                             agentmem_class block_class, agentmem_ack ack) {
  std::vector<char> bytes(kBlockBytes);
  agentmem_error error = {};
  for (std::uint32_t done = 0; done < count; done += kInFlight) {
    const auto now = std::min<std::size_t>(kInFlight, count - done);
    agentmem_put_id puts[kInFlight] = {};
    for (std::uint32_t i = 0; i < now; ++i) {
      const std::uint32_t number = first + done + i;
      FillInOrder(bytes, SeedOf(number));
      const agentmem_key key = KeyOf(kSet, number);
      AGENTMEM_RETURN_IF_ERROR(
          ToStatus(agentmem_put(client_->get(), &key, bytes.data(), kBlockBytes,
                                block_class, ack, kTimeoutNs, &puts[i], &error),
                   error));
    }
    for (std::uint32_t i = 0; i < now; ++i) {
      AGENTMEM_RETURN_IF_ERROR(ToStatus(
          agentmem_put_wait(client_->get(), puts[i], kTimeoutNs, &error),
          error));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::uint32_t>> ToHbmBench::OnlyIn(
    agentmem_tier tier, std::uint32_t count, std::uint32_t needed) const {
  std::vector<std::uint32_t> numbers;
  for (std::uint32_t number = 0; number < count; ++number) {
    AGENTMEM_ASSIGN_OR_RETURN(const agentmem_tier found,
                              client_->TierOf(KeyOf(kSet, number)));
    if (found == tier) numbers.push_back(number);
  }
  if (numbers.size() >= needed) return numbers;
  return FailedPrecondition("only " + std::to_string(numbers.size()) + " of " +
                            std::to_string(count) + " blocks are in tier " +
                            std::to_string(tier) + " alone, " +
                            std::to_string(needed) + " are needed");
}

absl::StatusOr<double> ToHbmBench::Load(
    std::span<const std::uint32_t> numbers) {
  std::vector<agentmem_key> keys;
  std::vector<std::uint64_t> seeds;
  for (const std::uint32_t number : numbers) {
    keys.push_back(KeyOf(kSet, number));
    seeds.push_back(SeedOf(number));
  }
  AGENTMEM_RETURN_IF_ERROR(kv_->Poison());
  const TimeNs start = MonotonicNowNs();
  AGENTMEM_RETURN_IF_ERROR(kv_->Load(keys, 0));
  const auto ns = static_cast<double>(MonotonicNowNs() - start);
  AGENTMEM_RETURN_IF_ERROR(kv_->Check(seeds));
  return ns;
}

absl::Status ToHbmBench::Measure(const std::string& name,
                                 const std::vector<std::uint32_t>& numbers,
                                 const Side& source) {
  AGENTMEM_ASSIGN_OR_RETURN(
      kv_, DeviceKv::Open(client_->get(), kBlockBytes, PerRound()));
  const std::uint64_t pinned_bytes = std::min(bytes_, HbmMemory::kChunkBytes);
  std::vector<double> ours;
  Link link = {source.name, {}};
  Link pinned = {"pinned", {}};
  for (int round = 0; round < rounds_; ++round) {
    AGENTMEM_ASSIGN_OR_RETURN(
        const double ns,
        Load(std::span(numbers).subspan(
            static_cast<std::size_t>(round) * PerRound(), PerRound())));
    ours.push_back(ns);
    Samples ignored;
    AGENTMEM_ASSIGN_OR_RETURN(const double link_ns,
                              source.run(round, &ignored));
    link.ns.push_back(link_ns);
    AGENTMEM_ASSIGN_OR_RETURN(const double pinned_ns,
                              kv_->CopyPinned(pinned_bytes));
    pinned.ns.push_back(pinned_ns * static_cast<double>(bytes_) /
                        static_cast<double>(pinned_bytes));
  }
  AddRow(name, std::move(ours), link, pinned);
  return absl::OkStatus();
}

void ToHbmBench::AddRow(const std::string& name, std::vector<double> ours,
                        const Link& source, const Link& pinned) {
  const Unit unit = Unit::MegabytesPerSecond(static_cast<double>(bytes_));
  const bool is_source = Median(source.ns) >= Median(pinned.ns);
  const Link& slower = is_source ? source : pinned;
  const Link& faster = is_source ? pinned : source;
  CaseResult row;
  row.name = name;
  Samples samples;
  for (const double ns : ours) samples.Add(ns);
  row.p50_ns = samples.Percentile(0.5);
  row.p99_ns = samples.Percentile(0.99);
  row.p999_ns = samples.Percentile(0.999);
  row.unit = unit.name;
  row.higher_is_better = unit.higher_is_better;
  row.value = unit.Of(Median(std::move(ours)));
  row.baseline = slower.name;
  row.baseline_p50_ns = Median(slower.ns);
  row.baseline_value = unit.Of(row.baseline_p50_ns);
  char text[200];
  std::snprintf(text, sizeof(text),
                "%s: %llu MiB from each round's blocks, every byte compared in "
                "device memory; the other link, %s, %.0f MB/s; ratio %.3f",
                name.c_str(), static_cast<unsigned long long>(bytes_ / kMiB),
                faster.name.c_str(), unit.Of(Median(faster.ns)), row.Ratio());
  std::string note = text;
  if (gpu_ && kv_->is_gpu()) {
    FindBar(&result_->bars, name)->measured = row.Ratio();
  } else {
    note += ": logic only, by the host device (" + kv_->why_no_gpu() + ")";
  }
  result_->notes.push_back(note);
  result_->cases.push_back(std::move(row));
}

absl::Status ToHbmBench::AddPool(const std::string& name) {
  PoolClusterOptions options;
  options.program = options_.memd;
  options.dram_bytes = dram_bytes_;
  options.export_bytes =
      (Measured() + Fillers()) * kBlockBytes * 9 / 8 + kDramBytesMin;
  options.spin_us = kSpinUs;
  AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<PoolCluster> cluster,
                            PoolCluster::Start(options));
  AGENTMEM_RETURN_IF_ERROR(AwaitQuiet(*cluster));
  AGENTMEM_RETURN_IF_ERROR(Connect(cluster->socket_path(0)));
  const std::uint32_t count = Measured() + Fillers();
  AGENTMEM_RETURN_IF_ERROR(Put(0, count, AGENTMEM_CACHE, AGENTMEM_REPLICATED));
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> numbers,
                            OnlyIn(AGENTMEM_TIER_POOL, count, Measured()));
  RawFabricOptions raw;
  raw.window_bytes = bytes_;
  raw.spin_ns = kSpinUs * kMicrosecondNs;
  AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<RawFabric> fabric,
                            RawFabric::Start(raw, seed_));
  RawFabricRun run;
  run.depth = kFabricDepth;
  run.length = kBlockBytes;
  run.group = PerRound();
  const Side reads = {"fi_read, depth 8", [&](int, Samples* samples) {
                        return fabric->Run(run, samples);
                      }};
  const absl::Status measured = Measure(name, numbers, reads);
  kv_.reset();
  client_.reset();
  return measured;
}

absl::Status ToHbmBench::AddStore(const std::string& name) {
  MemdOptions options;
  options.program = options_.memd;
  options.dram_bytes = dram_bytes_;
  AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<MemdChild> memd,
                            MemdChild::Start(options));
  AGENTMEM_RETURN_IF_ERROR(Connect(memd->socket_path()));
  AGENTMEM_RETURN_IF_ERROR(
      Put(0, Measured(), AGENTMEM_STATE, AGENTMEM_DURABLE));
  client_.reset();
  AGENTMEM_RETURN_IF_ERROR(memd->Restart());
  AGENTMEM_RETURN_IF_ERROR(Connect(memd->socket_path()));
  // Durable, so that nothing of them is written down during the loads.
  AGENTMEM_RETURN_IF_ERROR(
      Put(Measured(), Fillers(), AGENTMEM_STATE, AGENTMEM_DURABLE));
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::vector<std::uint32_t> numbers,
      OnlyIn(AGENTMEM_TIER_STORE, Measured(), Measured()));
  AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<RawDisk> disk,
                            RawDisk::Make(memd->directory(), bytes_));
  DropPageCache(memd->directory());
  const Side reads = {"disk, 1 MiB reads, two at a time", [&](int, Samples*) {
                        auto ns = disk->Read();
                        // For the load that follows.
                        DropPageCache(memd->directory());
                        return ns;
                      }};
  const absl::Status measured = Measure(name, numbers, reads);
  kv_.reset();
  client_.reset();
  return measured;
}

absl::Status ToHbmBench::AddFirst(const std::string& name) {
  MemdOptions options;
  options.program = options_.memd;
  options.dram_bytes = dram_bytes_;
  AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<MemdChild> memd,
                            MemdChild::Start(options));
  AGENTMEM_RETURN_IF_ERROR(Connect(memd->socket_path()));
  AGENTMEM_RETURN_IF_ERROR(
      Put(0, PerRound(), AGENTMEM_CACHE, AGENTMEM_VISIBLE));
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> numbers,
                            OnlyIn(AGENTMEM_TIER_DRAM, PerRound(), PerRound()));
  const std::uint64_t pinned_bytes = std::min(bytes_, HbmMemory::kChunkBytes);
  std::vector<double> ours;
  std::vector<double> ahead;
  Link again = {"the same again", {}};
  Link pinned = {"pinned", {}};
  for (int round = 0; round < rounds_; ++round) {
    AGENTMEM_RETURN_IF_ERROR(Connect(memd->socket_path()));
    AGENTMEM_ASSIGN_OR_RETURN(
        kv_, DeviceKv::Open(client_->get(), kBlockBytes, PerRound()));
    AGENTMEM_ASSIGN_OR_RETURN(const double ahead_ns,
                              kv_->AwaitRegistered(bytes_));
    ahead.push_back(ahead_ns);
    AGENTMEM_ASSIGN_OR_RETURN(const double ns, Load(numbers));
    ours.push_back(ns);
    AGENTMEM_ASSIGN_OR_RETURN(const double again_ns, Load(numbers));
    again.ns.push_back(again_ns);
    AGENTMEM_ASSIGN_OR_RETURN(const double pinned_ns,
                              kv_->CopyPinned(pinned_bytes));
    pinned.ns.push_back(pinned_ns * static_cast<double>(bytes_) /
                        static_cast<double>(pinned_bytes));
  }
  AddRow(name, std::move(ours), again, pinned);
  char text[120];
  std::snprintf(text, sizeof(text),
                "%s: what the device opened with was registered ahead in %.1f "
                "ms at the median",
                name.c_str(), Median(std::move(ahead)) / 1e6);
  result_->notes.push_back(text);
  kv_.reset();
  client_.reset();
  return absl::OkStatus();
}

struct Group {
  const char* name;
  absl::Status (ToHbmBench::*add)(const std::string& name);
  int dram_loads;
};

constexpr Group kGroups[] = {
    {"pool_to_hbm", &ToHbmBench::AddPool, 1},
    {"pool_to_hbm_roomy", &ToHbmBench::AddPool, 8},
    {"store_to_hbm", &ToHbmBench::AddStore, 1},
    {"store_to_hbm_roomy", &ToHbmBench::AddStore, 8},
    {"first_load", &ToHbmBench::AddFirst, 8},
};

std::uint64_t BytesOf(const SuiteOptions& options, bool gpu) {
  if (options.copy_bytes != 0) return std::bit_floor(options.copy_bytes);
  if (options.quick) return 16 * kMiB;
  return gpu ? 1024 * kMiB : 64 * kMiB;
}

bool IsThereAGpu() {
  std::unique_ptr<Device> gpu;
  return OpenDevice(0, &gpu).ok();
}

}  // namespace

void AddToHbmCases(const SuiteOptions& options, SuiteResult* result) {
  std::vector<const Group*> wanted;
  for (const Group& group : kGroups) {
    if (std::string_view(group.name).find(options.only) !=
        std::string_view::npos) {
      wanted.push_back(&group);
    }
  }
  // A GPU that was lost is not to be opened anew.
  const bool lost = result->device_lost;
  const bool gpu = lost || IsThereAGpu();
  if (gpu) {
    for (const Group* group : wanted) {
      result->bars.push_back({group->name, kBar});
    }
  }
  if (lost) {
    result->notes.push_back(
        "NOT MEASURED: what comes into device memory from other nodes and the "
        "store: the device was lost before");
    return;
  }
  const int rounds = options.quick ? 2 : 3;
  const std::uint64_t seed = FreshSeed(result);
  for (const Group* group : wanted) {
    ToHbmBench bench(options, gpu, BytesOf(options, gpu), group->dram_loads,
                     rounds, seed, result);
    const absl::Status added = (bench.*group->add)(group->name);
    if (!added.ok()) {
      const std::string why =
          std::string(group->name) + ": " + StatusMessage(added);
      if (result->failure.empty()) result->failure = why;
      result->notes.push_back("FAILED: " + why);
    }
    if (options.so_far) options.so_far(*result);
  }
}

absl::StatusOr<SuiteResult> RunHbmAndToHbmSuite(const SuiteOptions& options) {
  AGENTMEM_ASSIGN_OR_RETURN(SuiteResult result, RunHbmSuite(options));
  AddToHbmCases(options, &result);
  return result;
}

}  // namespace agentmem::bench
