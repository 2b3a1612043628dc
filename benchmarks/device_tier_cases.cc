// Device memory as a tier, in the suite `tiers`: all sizes.
#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "base/status.h"
#include "benchmarks/block_sizes.h"
#include "benchmarks/comparison.h"
#include "benchmarks/connection.h"
#include "benchmarks/device_kv.h"
#include "benchmarks/hbm_bytes.h"
#include "benchmarks/memd_child.h"
#include "benchmarks/pool_seed.h"
#include "benchmarks/stopwatch.h"
#include "benchmarks/suites.h"

namespace agentmem::bench {
namespace {

struct Scale {
  std::uint64_t set_bytes;  // of each size
  std::uint32_t count_max;
  int rounds;

  std::uint32_t Count(std::size_t size) const {
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(set_bytes / size, count_max));
  }
};

Scale ScaleOf(const SuiteOptions& options) {
  if (options.quick) return {16 << 20, 64, 2};
  return {128 << 20, 1024, 5};
}

class DeviceTierBench {
 public:
  DeviceTierBench(const Scale& scale, std::uint64_t seed, SuiteResult* result)
      : scale_(scale), seed_(seed), result_(result) {}

  absl::Status SetUp(const SuiteOptions& options);
  absl::Status Add(std::size_t size);
  void AddNotes();

 private:
  std::uint64_t SeedOf(std::size_t size, std::uint32_t number) const {
    return seed_ + size * 4096 + number;
  }
  absl::Status Put(std::size_t size) const;
  // A round: all blocks once, in another order each time, one at a time, all
  // of them from `tier`.
  absl::StatusOr<double> Loads(DeviceKv* kv, std::size_t size,
                               agentmem_tier tier, Samples* samples);
  absl::Status AddRow(const std::string& name, DeviceKv* kv, std::size_t size,
                      agentmem_tier tier);

  const Scale scale_;
  const std::uint64_t seed_;
  SuiteResult* const result_;
  const Stopwatch stopwatch_;
  std::mt19937_64 random_{7};
  std::unique_ptr<MemdChild> memd_;
  std::unique_ptr<Connection> connection_;
  std::string why_no_gpu_;  // empty: it is one
};

absl::Status DeviceTierBench::SetUp(const SuiteOptions& options) {
  MemdOptions memd;
  memd.program = options.memd;
  // Twice of what is put: memd has no reason to write anything down.
  memd.dram_bytes = 2 * kBlockSizes.size() * scale_.set_bytes;
  AGENTMEM_ASSIGN_OR_RETURN(memd_, MemdChild::Start(memd));
  AGENTMEM_ASSIGN_OR_RETURN(Connection connection,
                            Connection::Open(memd_->socket_path()));
  connection_ = std::make_unique<Connection>(std::move(connection));
  return absl::OkStatus();
}

absl::Status DeviceTierBench::Put(std::size_t size) const {
  std::vector<char> bytes(size);
  for (std::uint32_t i = 0; i < scale_.Count(size); ++i) {
    FillInOrder(bytes, SeedOf(size, i));
    AGENTMEM_RETURN_IF_ERROR(
        connection_->Put(KeyOf(static_cast<std::uint32_t>(size), i), bytes,
                         size, AGENTMEM_CACHE, AGENTMEM_VISIBLE));
  }
  return absl::OkStatus();
}

absl::StatusOr<double> DeviceTierBench::Loads(DeviceKv* kv, std::size_t size,
                                              agentmem_tier tier,
                                              Samples* samples) {
  const std::uint32_t count = scale_.Count(size);
  std::vector<std::uint32_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  std::shuffle(numbers.begin(), numbers.end(), random_);
  std::vector<agentmem_key> keys;
  std::vector<std::uint64_t> seeds;
  for (const std::uint32_t number : numbers) {
    keys.push_back(KeyOf(static_cast<std::uint32_t>(size), number));
    seeds.push_back(SeedOf(size, number));
  }
  AGENTMEM_RETURN_IF_ERROR(kv->Poison());
  std::uint32_t elsewhere = 0;
  absl::Status failed = absl::OkStatus();
  const double ns = stopwatch_.TimeSingles(count, samples, [&](std::size_t i) {
    const absl::Status done =
        kv->Load({&keys[i], 1}, static_cast<std::uint32_t>(i));
    if (!done.ok()) failed = done;
    if (kv->tiers().front() != tier) ++elsewhere;
  });
  AGENTMEM_RETURN_IF_ERROR(failed);
  AGENTMEM_RETURN_IF_ERROR(kv->Check(seeds));
  if (elsewhere != 0 && tier != AGENTMEM_TIER_NONE) {
    return FailedPrecondition(
        std::to_string(elsewhere) + " of " + std::to_string(count) +
        " blocks came from another tier than " + std::to_string(tier));
  }
  return ns;
}

absl::Status DeviceTierBench::Add(std::size_t size) {
  AGENTMEM_RETURN_IF_ERROR(Put(size));
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::unique_ptr<DeviceKv> kv,
      DeviceKv::Open(connection_->get(), size, scale_.Count(size)));
  why_no_gpu_ = kv->why_no_gpu();
  result_->device = kv->name();
  // The device learns of the memory that the blocks lie in.
  Samples ignored;
  AGENTMEM_RETURN_IF_ERROR(
      Loads(kv.get(), size, AGENTMEM_TIER_DRAM, &ignored).status());
  AGENTMEM_RETURN_IF_ERROR(
      AddRow("hbm_load/", kv.get(), size, AGENTMEM_TIER_DRAM));
  AGENTMEM_RETURN_IF_ERROR(kv->Keep());
  // They come into the pool, wherever they are just now.
  AGENTMEM_RETURN_IF_ERROR(
      Loads(kv.get(), size, AGENTMEM_TIER_NONE, &ignored).status());
  return AddRow("hbm_hit/", kv.get(), size, AGENTMEM_TIER_HBM);
}

absl::Status DeviceTierBench::AddRow(const std::string& name, DeviceKv* kv,
                                     std::size_t size, agentmem_tier tier) {
  const Side ours = {"agentmem", [&](int, Samples* samples) {
                       return Loads(kv, size, tier, samples);
                     }};
  const Side pinned = {
      "pinned", [&](int, Samples* samples) -> absl::StatusOr<double> {
        double sum = 0;
        for (std::uint32_t i = 0; i < scale_.Count(size); ++i) {
          AGENTMEM_ASSIGN_OR_RETURN(const double ns, kv->CopyPinned(size));
          samples->Add(ns);
          sum += ns;
        }
        return sum / scale_.Count(size);
      }};
  AGENTMEM_ASSIGN_OR_RETURN(
      const CaseResult row,
      Compare(name + SizeText(size),
              Unit::MegabytesPerSecond(static_cast<double>(size)),
              scale_.rounds, {ours, pinned}));
  result_->cases.push_back(row);
  return absl::OkStatus();
}

void DeviceTierBench::AddNotes() {
  result_->notes.push_back(
      std::string("hbm_load: blocks in DRAM, one at a time in random order, "
                  "into an engine's pages by agentmem_kv_load, in fragments of "
                  "32 KiB (one token's 2 KiB of 4 KiB), until all of it is in "
                  "device memory; hbm_hit: the same of blocks in a pool in "
                  "device memory; every byte compared there; beside one pinned "
                  "copy as long") +
      (why_no_gpu_.empty()
           ? ""
           : "; logic only, copies are the host device's, by a thread: " +
                 why_no_gpu_));
}

}  // namespace

absl::Status AddDeviceCases(const SuiteOptions& options, SuiteResult* result) {
  DeviceTierBench bench(ScaleOf(options), FreshSeed(result), result);
  AGENTMEM_RETURN_IF_ERROR(bench.SetUp(options));
  for (const std::size_t size : kBlockSizes) {
    AGENTMEM_RETURN_IF_ERROR(bench.Add(size));
  }
  bench.AddNotes();
  return absl::OkStatus();
}

}  // namespace agentmem::bench
