// The durable store of the suite `tiers`, beside RocksDB alone.
//
// First the puts; then memd and RocksDB write all down and start again, other
// blocks fill memd's DRAM, and what was put is read, each block once: half of
// the rounds with the files in the page cache, half without.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "benchmarks/block_sizes.h"
#include "benchmarks/comparison.h"
#include "benchmarks/connection.h"
#include "benchmarks/memd_child.h"
#include "benchmarks/page_cache.h"
#include "benchmarks/report.h"
#include "benchmarks/rocks_baseline.h"
#include "benchmarks/stopwatch.h"
#include "benchmarks/suites.h"

namespace agentmem::bench {
namespace {

constexpr std::size_t kInFlight = 16;
constexpr std::uint32_t kFillerSet = 7;
constexpr std::uint32_t kFillerBytes = 256 << 10;
// Field notes of this class of machine; below four fifths the run says so.
constexpr double kRocksGetAnchorMbPerS = 1'900;

struct Scale {
  std::uint64_t dram_bytes;
  std::size_t single_bytes;  // a round, put one at a time
  std::size_t singles_max;
  std::size_t batch_bytes;  // a round, put kInFlight at a time
  std::size_t batches_max;
  int rounds;

  std::size_t Singles(std::size_t size) const {
    return std::clamp<std::size_t>(single_bytes / size, 4, singles_max);
  }
  std::size_t Batches(std::size_t size) const {
    return std::clamp<std::size_t>(batch_bytes / (size * kInFlight), 1,
                                   batches_max);
  }
  std::size_t Puts(std::size_t size) const {
    return static_cast<std::size_t>(rounds) *
           (Singles(size) + Batches(size) * kInFlight);
  }
  // Blocks that one round reads; two rounds, warm and cold, for each of puts.
  std::size_t Gets(std::size_t size) const {
    return Puts(size) / static_cast<std::size_t>(2 * rounds);
  }
};

Scale ScaleOf(const SuiteOptions& options) {
  if (options.quick) return {128 << 20, 1 << 20, 20, 4 << 20, 2, 2};
  return {512 << 20, 24 << 20, 128, 32 << 20, 16, 6};
}

class StoreBench {
 public:
  StoreBench(const Scale& scale, SuiteResult* result)
      : scale_(scale), result_(result), bytes_(kBlockSizes.back()) {
    // Nothing that a disk or a log could make smaller.
    std::mt19937_64 random(3);
    for (char& byte : bytes_) byte = static_cast<char>(random());
  }

  absl::Status SetUp(const SuiteOptions& options);
  absl::Status AddPuts(std::size_t size);
  // Everything below, nothing above.
  absl::Status Settle();
  absl::Status AddGets(std::size_t size, bool cold);
  void AddNotes();

 private:
  using KeyRange = std::span<const agentmem_key>;

  // Each side writes the same keys.
  std::vector<Side> PutSides(std::size_t size, std::size_t groups,
                             std::size_t group, std::uint32_t first);
  std::vector<Side> GetSides(std::size_t size, bool cold);
  absl::Status PutAtOnce(KeyRange keys, std::size_t size);
  absl::StatusOr<double> PutRound(
      std::size_t groups, std::size_t group, std::size_t size,
      std::uint32_t first, Samples* samples,
      const std::function<absl::Status(KeyRange)>& put);
  absl::StatusOr<double> GetRound(
      std::size_t size, int round, Samples* samples,
      const std::function<absl::Status(const agentmem_key&)>& get);
  absl::Status GetOurs(const agentmem_key& key, std::size_t size);
  absl::Status Connect();
  std::vector<agentmem_key> RoundKeys(std::size_t size, int round) const;

  const Scale scale_;
  SuiteResult* const result_;
  std::vector<char> bytes_;
  const Stopwatch stopwatch_;
  std::unique_ptr<MemdChild> memd_;
  std::unique_ptr<Connection> connection_;
  std::vector<std::unique_ptr<RocksBaseline>> rocks_;
};

absl::Status StoreBench::SetUp(const SuiteOptions& options) {
  MemdOptions memd;
  memd.program = options.memd;
  memd.dram_bytes = scale_.dram_bytes;
  // kInFlight of the largest.
  memd.grant_quota_bytes = kInFlight * kBlockSizes.back();
  AGENTMEM_ASSIGN_OR_RETURN(memd_, MemdChild::Start(memd));
  for (const auto& [name, values] :
       {std::pair("/tables", RocksBaseline::Values::kInTables),
        std::pair("/blobs", RocksBaseline::Values::kInBlobs)}) {
    AGENTMEM_ASSIGN_OR_RETURN(
        auto rocks, RocksBaseline::Open(memd_->directory() + name, values));
    rocks_.push_back(std::move(rocks));
  }
  return Connect();
}

absl::Status StoreBench::Connect() {
  AGENTMEM_ASSIGN_OR_RETURN(Connection connection,
                            Connection::Open(memd_->socket_path()));
  connection_ = std::make_unique<Connection>(std::move(connection));
  return absl::OkStatus();
}

absl::Status StoreBench::PutAtOnce(KeyRange keys, std::size_t size) {
  agentmem_put_id puts[kInFlight] = {};
  agentmem_error error = {};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    AGENTMEM_RETURN_IF_ERROR(
        ToStatus(agentmem_put(connection_->get(), &keys[i], bytes_.data(), size,
                              AGENTMEM_STATE, AGENTMEM_DURABLE, kTimeoutNs,
                              &puts[i], &error),
                 error));
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    AGENTMEM_RETURN_IF_ERROR(ToStatus(
        agentmem_put_wait(connection_->get(), puts[i], kTimeoutNs, &error),
        error));
  }
  return absl::OkStatus();
}

// Nanoseconds a put, from `groups` groups of `group` puts.
absl::StatusOr<double> StoreBench::PutRound(
    std::size_t groups, std::size_t group, std::size_t size,
    std::uint32_t first, Samples* samples,
    const std::function<absl::Status(KeyRange)>& put) {
  std::vector<agentmem_key> keys(groups * group);
  for (agentmem_key& key : keys) {
    key = KeyOf(static_cast<std::uint32_t>(size), first++);
  }
  absl::Status failed = absl::OkStatus();
  const double ns = stopwatch_.TimeSingles(groups, samples, [&](std::size_t i) {
    const absl::Status done = put(KeyRange(&keys[i * group], group));
    if (!done.ok()) failed = done;
  });
  if (!failed.ok()) return failed;
  return ns / static_cast<double>(group);
}

std::vector<Side> StoreBench::PutSides(std::size_t size, std::size_t groups,
                                       std::size_t group, std::uint32_t first) {
  const auto first_of = [=](int round) {
    return first + static_cast<std::uint32_t>(static_cast<std::size_t>(round) *
                                              groups * group);
  };
  std::vector<Side> sides;
  sides.push_back({"agentmem", [=, this](int round, Samples* samples) {
                     return PutRound(
                         groups, group, size, first_of(round), samples,
                         [&](KeyRange keys) { return PutAtOnce(keys, size); });
                   }});
  for (const auto& rocks : rocks_) {
    RocksBaseline* const db = rocks.get();
    sides.push_back({db->name() + (group > 1 ? ", WriteBatch of 16" : ""),
                     [=, this](int round, Samples* samples) {
                       return PutRound(groups, group, size, first_of(round),
                                       samples, [&](KeyRange keys) {
                                         return db->Put(keys, bytes_, size);
                                       });
                     }});
  }
  return sides;
}

absl::Status StoreBench::AddPuts(std::size_t size) {
  const Unit unit = Unit::MegabytesPerSecond(static_cast<double>(size));
  const std::size_t singles = scale_.Singles(size);
  const std::size_t batches = scale_.Batches(size);
  AGENTMEM_ASSIGN_OR_RETURN(
      const CaseResult one,
      Compare("store_put_durable/" + SizeText(size), unit, scale_.rounds,
              PutSides(size, singles, 1, 0)));
  result_->cases.push_back(one);
  const auto next = static_cast<std::uint32_t>(
      singles * static_cast<std::size_t>(scale_.rounds));
  AGENTMEM_ASSIGN_OR_RETURN(
      const CaseResult many,
      Compare("store_put_durable_16/" + SizeText(size), unit, scale_.rounds,
              PutSides(size, batches, kInFlight, next)));
  result_->cases.push_back(many);
  return absl::OkStatus();
}

absl::Status StoreBench::Settle() {
  connection_.reset();
  AGENTMEM_RETURN_IF_ERROR(memd_->Restart());
  for (const auto& rocks : rocks_) {
    AGENTMEM_RETURN_IF_ERROR(rocks->Reopen());
  }
  AGENTMEM_RETURN_IF_ERROR(Connect());
  const std::uint64_t fillers = scale_.dram_bytes / kFillerBytes * 5 / 4;
  for (std::uint32_t i = 0; i < fillers; ++i) {
    // Durable, so that nothing of them is written down during the gets.
    const bool last = i + 1 == fillers || i % 16 == 15;
    AGENTMEM_RETURN_IF_ERROR(connection_->Put(
        KeyOf(kFillerSet, i), bytes_, kFillerBytes, AGENTMEM_STATE,
        last ? AGENTMEM_DURABLE : AGENTMEM_VISIBLE));
  }
  return absl::OkStatus();
}

std::vector<agentmem_key> StoreBench::RoundKeys(std::size_t size,
                                                int round) const {
  // A fixed shuffle of all that was put, cut in one piece for each round.
  std::vector<agentmem_key> keys(scale_.Puts(size));
  std::uint32_t next = 0;
  for (agentmem_key& key : keys) {
    key = KeyOf(static_cast<std::uint32_t>(size), next++);
  }
  std::mt19937_64 random(4);
  std::shuffle(keys.begin(), keys.end(), random);
  const std::size_t count = scale_.Gets(size);
  const auto begin =
      keys.begin() +
      static_cast<std::ptrdiff_t>(static_cast<std::size_t>(round) * count);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

absl::StatusOr<double> StoreBench::GetRound(
    std::size_t size, int round, Samples* samples,
    const std::function<absl::Status(const agentmem_key&)>& get) {
  const std::vector<agentmem_key> keys = RoundKeys(size, round);
  absl::Status failed = absl::OkStatus();
  const double ns =
      stopwatch_.TimeSingles(keys.size(), samples, [&](std::size_t i) {
        const absl::Status done = get(keys[i]);
        if (!done.ok()) failed = done;
      });
  if (!failed.ok()) return failed;
  return ns;
}

absl::Status StoreBench::GetOurs(const agentmem_key& key, std::size_t size) {
  agentmem_error error = {};
  agentmem_span span = {};
  AGENTMEM_RETURN_IF_ERROR(ToStatus(
      agentmem_get(connection_->get(), &key, 1, kTimeoutNs, &span, &error),
      error));
  const bool promoted = span.tier == AGENTMEM_TIER_STORE && span.length == size;
  agentmem_release(connection_->get(), &span, 1);
  if (promoted) return absl::OkStatus();
  return Internal("a block was not read from the store");
}

std::vector<Side> StoreBench::GetSides(std::size_t size, bool cold) {
  const int base = cold ? scale_.rounds : 0;  // other blocks than the warm ones
  std::vector<Side> sides;
  sides.push_back({"agentmem", [=, this](int round, Samples* samples) {
                     if (cold) DropPageCache(memd_->directory());
                     return GetRound(size, base + round, samples,
                                     [&](const agentmem_key& key) {
                                       return GetOurs(key, size);
                                     });
                   }});
  for (const auto& rocks : rocks_) {
    RocksBaseline* const db = rocks.get();
    sides.push_back({db->name(), [=, this](int round, Samples* samples) {
                       if (cold) DropPageCache(memd_->directory());
                       return GetRound(size, base + round, samples,
                                       [&](const agentmem_key& key) {
                                         return db->Get(key, size);
                                       });
                     }});
  }
  return sides;
}

absl::Status StoreBench::AddGets(std::size_t size, bool cold) {
  const Unit unit = Unit::MegabytesPerSecond(static_cast<double>(size));
  AGENTMEM_ASSIGN_OR_RETURN(
      const CaseResult one,
      Compare((cold ? "store_get_cold/" : "store_get/") + SizeText(size), unit,
              scale_.rounds, GetSides(size, cold)));
  result_->cases.push_back(one);
  return absl::OkStatus();
}

void StoreBench::AddNotes() {
  auto& notes = result_->notes;
  notes.push_back(
      "store_put_durable: class state, one at a time, against a synced Put; "
      "_16: 16 posted, then waited for, against a synced WriteBatch of 16; "
      "its percentiles are of 16 puts");
  notes.push_back(
      "store_get: blocks that only the store has (memd restarted, its DRAM "
      "full of others), each read once, its files in the page cache; cold: "
      "page cache dropped before each round; RocksDB reopened likewise");
  notes.push_back(
      "RocksDB: no compression, memtables of 64 MiB, XXH3 checksums, pinned "
      "reads; values in tables or in blob files, whichever was faster");
  for (const CaseResult& one : result_->cases) {
    if (one.name != "store_get/256KiB") continue;
    if (one.baseline_value >= 0.8 * kRocksGetAnchorMbPerS) continue;
    char text[200];
    std::snprintf(
        text, sizeof(text),
        "RocksDB's get of 256 KiB reached %.0f MB/s here (1.9 GB/s "
        "was measured on such a machine); load average %.1f on %u cores",
        one.baseline_value, LoadAverage(), result_->machine.cores);
    notes.push_back(text);
  }
}

}  // namespace

absl::Status AddStoreCases(const SuiteOptions& options, SuiteResult* result) {
  StoreBench bench(ScaleOf(options), result);
  AGENTMEM_RETURN_IF_ERROR(bench.SetUp(options));
  for (const std::size_t size : kBlockSizes) {
    AGENTMEM_RETURN_IF_ERROR(bench.AddPuts(size));
  }
  AGENTMEM_RETURN_IF_ERROR(bench.Settle());
  // All warm ones first: a cold round drops the files of every size.
  for (const bool cold : {false, true}) {
    for (const std::size_t size : kBlockSizes) {
      AGENTMEM_RETURN_IF_ERROR(bench.AddGets(size, cold));
    }
  }
  bench.AddNotes();
  return absl::OkStatus();
}

}  // namespace agentmem::bench
