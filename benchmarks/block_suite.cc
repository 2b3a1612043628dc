#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "benchmarks/comparison.h"
#include "benchmarks/connection.h"
#include "benchmarks/match_cases.h"
#include "benchmarks/memd_child.h"
#include "benchmarks/memory_baseline.h"
#include "benchmarks/report.h"
#include "benchmarks/stopwatch.h"
#include "benchmarks/suites.h"

namespace agentmem::bench {
namespace {

constexpr std::size_t kLarge = 256 << 10;
constexpr std::size_t kSmall = 4 << 10;
constexpr std::size_t kBatchKeys = 32;
constexpr double kMemoryShare = 0.4;  // of what is available, for large blocks
// Beyond three quarters of the budget memd begins to write blocks down.
constexpr double kFill = 0.7;
constexpr double kHitBarNs = 150;

enum KeySet : std::uint32_t { kLargeSet = 1, kSmallSet = 2, kPutSet = 3 };

struct Scale {
  std::size_t blocks;  // in DRAM, of both sizes
  std::size_t large;
  int rounds;
  std::size_t singles;  // timed one by one, in a round
  std::size_t batches;  // of Stopwatch::kBatchOps, in a round
  std::size_t puts() const {
    return static_cast<std::size_t>(rounds) * kPutsInRound;
  }
  static constexpr std::size_t kPutsInRound = 2000;
};

Scale ScaleOf(const SuiteOptions& options) {
  if (options.quick) return {2'000, 200, 3, 2'000, 50};
  const double room =
      kMemoryShare * static_cast<double>(AvailableMemoryBytes());
  const std::size_t fit = static_cast<std::size_t>(room / kLarge);
  return {100'000, std::clamp<std::size_t>(fit, 16, 100'000), 9, 100'000,
          2'000};
}

// The suite's memd, its blocks, and the same in a map of this process.
class BlockBench {
 public:
  BlockBench(const Scale& scale, SuiteResult* result)
      : scale_(scale), result_(result), bytes_(kLarge, 'b') {}

  absl::Status SetUp(const SuiteOptions& options);
  absl::Status AddCases();

 private:
  absl::Status Fill(KeySet set, std::size_t count, std::size_t length);
  agentmem_key RandomKey(KeySet set, std::size_t count) {
    return KeyOf(set, static_cast<std::uint32_t>(random_() % count));
  }
  absl::Status AddGet(const std::string& name, KeySet set, std::size_t count);
  absl::Status AddGetBatch();
  absl::Status AddContains();
  absl::Status AddPut();
  // Singles into `samples`, then batches: what each round of a case is. op is
  // given a random key of the set, which lies in the nearest cache: a table of
  // keys as long as a round would take the caches from what is measured.
  template <class Op>
  absl::StatusOr<double> TimeBoth(KeySet set, std::size_t count,
                                  Samples* samples, Op&& op) {
    samples->Reserve(scale_.singles);
    failures_ = 0;
    agentmem_key keys[Stopwatch::kBatchOps];
    const auto next = [&](std::size_t i) {
      keys[i % Stopwatch::kBatchOps] = RandomKey(set, count);
    };
    const auto run = [&](std::size_t i) { op(keys[i % Stopwatch::kBatchOps]); };
    stopwatch_.TimeSingles(scale_.singles, samples, run, next);
    const double ns = stopwatch_.TimeBatches(scale_.batches, run, next);
    if (failures_ == 0) return ns;
    return Internal(std::to_string(failures_) + " operations failed");
  }

  const Scale scale_;
  SuiteResult* const result_;
  const std::vector<char> bytes_;
  const Stopwatch stopwatch_;
  std::unique_ptr<MemdChild> memd_;
  std::unique_ptr<Connection> connection_;
  MemoryBaseline map_;
  std::mt19937_64 random_{1};
  std::size_t failures_ = 0;
};

absl::Status BlockBench::SetUp(const SuiteOptions& options) {
  const std::size_t small = scale_.blocks - scale_.large;
  const std::size_t more = scale_.puts() + 2 * kMatchBlocks;
  MemdOptions memd;
  memd.program = options.memd;
  memd.dram_bytes = static_cast<std::uint64_t>(
      static_cast<double>(scale_.large * kLarge + (small + more) * kSmall) /
          kFill +
      (64 << 20));
  // Slots that are granted ahead are neither free nor resident.
  memd.slots = scale_.blocks + more + 4096;
  AGENTMEM_ASSIGN_OR_RETURN(memd_, MemdChild::Start(memd));
  AGENTMEM_ASSIGN_OR_RETURN(Connection connection,
                            Connection::Open(memd_->socket_path()));
  connection_ = std::make_unique<Connection>(std::move(connection));
  map_.Reserve(scale_.blocks);
  AGENTMEM_RETURN_IF_ERROR(Fill(kLargeSet, scale_.large, kLarge));
  return Fill(kSmallSet, small, kSmall);
}

absl::Status BlockBench::Fill(KeySet set, std::size_t count,
                              std::size_t length) {
  for (std::uint32_t i = 0; i < count; ++i) {
    const agentmem_key key = KeyOf(set, i);
    AGENTMEM_RETURN_IF_ERROR(connection_->Put(
        key, bytes_, length, AGENTMEM_CACHE, AGENTMEM_VISIBLE));
    map_.Insert(key, {bytes_.data(), length});
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    AGENTMEM_ASSIGN_OR_RETURN(const agentmem_tier tier,
                              connection_->TierOf(KeyOf(set, i)));
    if (tier == AGENTMEM_TIER_DRAM) continue;
    return Internal("block " + std::to_string(i) + " of " +
                    std::to_string(length) + " bytes is not in DRAM");
  }
  return absl::OkStatus();
}

absl::Status BlockBench::AddGet(const std::string& name, KeySet set,
                                std::size_t count) {
  agentmem_client* const client = connection_->get();
  const Side ours = {
      "agentmem", [&](int, Samples* samples) {
        return TimeBoth(set, count, samples, [&](const agentmem_key& key) {
          agentmem_span span;
          failures_ += agentmem_get(client, &key, 1, 0, &span, nullptr) != 0;
          Keep(span.data);
          agentmem_release(client, &span, 1);
        });
      }};
  const Side theirs = {MemoryBaseline::kName, [&](int, Samples* samples) {
                         return TimeBoth(set, count, samples,
                                         [&](const agentmem_key& key) {
                                           const auto bytes = map_.Find(key);
                                           failures_ += bytes.empty();
                                           Keep(bytes.data());
                                         });
                       }};
  AGENTMEM_ASSIGN_OR_RETURN(
      const CaseResult one,
      Compare(name, Unit::Nanoseconds(), scale_.rounds, {ours, theirs}));
  result_->cases.push_back(one);
  return absl::OkStatus();
}

absl::Status BlockBench::AddGetBatch() {
  agentmem_key keys[kBatchKeys];
  const auto next = [&](std::size_t) {
    for (agentmem_key& key : keys) key = RandomKey(kLargeSet, scale_.large);
  };
  agentmem_client* const client = connection_->get();
  agentmem_span spans[kBatchKeys];
  MemoryBaseline::Bytes found[kBatchKeys + 1];
  const std::size_t singles = scale_.singles / 10;
  const auto finish = [this](double ns) -> absl::StatusOr<double> {
    if (failures_ == 0) return ns;
    return Internal(std::to_string(failures_) + " batches failed");
  };
  failures_ = 0;
  const Side ours = {"agentmem", [&](int, Samples* samples) {
                       return finish(stopwatch_.TimeSingles(
                           singles, samples,
                           [&](std::size_t) {
                             failures_ += agentmem_get(client, keys, kBatchKeys,
                                                       0, spans, nullptr) != 0;
                             agentmem_release(client, spans, kBatchKeys);
                           },
                           next));
                     }};
  const Side theirs = {MemoryBaseline::kName, [&](int, Samples* samples) {
                         return finish(stopwatch_.TimeSingles(
                             singles, samples,
                             [&](std::size_t) {
                               failures_ += map_.FindAll({keys, kBatchKeys},
                                                         found) != kBatchKeys;
                               Keep(found[0].data());
                             },
                             next));
                       }};
  AGENTMEM_ASSIGN_OR_RETURN(const CaseResult one,
                            Compare("get_batch_32/262144", Unit::Nanoseconds(),
                                    scale_.rounds, {ours, theirs}));
  result_->cases.push_back(one);
  return absl::OkStatus();
}

absl::Status BlockBench::AddContains() {
  agentmem_client* const client = connection_->get();
  const Side ours = {"agentmem", [&](int, Samples* samples) {
                       return TimeBoth(
                           kLargeSet, scale_.large, samples,
                           [&](const agentmem_key& key) {
                             agentmem_tier tier = AGENTMEM_TIER_NONE;
                             agentmem_contains(client, &key, 1, &tier, nullptr);
                             failures_ += tier != AGENTMEM_TIER_DRAM;
                           });
                     }};
  const Side theirs = {MemoryBaseline::kName, [&](int, Samples* samples) {
                         return TimeBoth(kLargeSet, scale_.large, samples,
                                         [&](const agentmem_key& key) {
                                           failures_ += !map_.Contains(key);
                                         });
                       }};
  AGENTMEM_ASSIGN_OR_RETURN(
      const CaseResult one,
      Compare("contains", Unit::Nanoseconds(), scale_.rounds, {ours, theirs}));
  result_->cases.push_back(one);
  return absl::OkStatus();
}

absl::Status BlockBench::AddPut() {
  std::vector<char> copies(Scale::kPutsInRound * kSmall, 'c');
  absl::Status failed = absl::OkStatus();
  const Side ours = {
      "agentmem", [&](int round, Samples* samples) -> absl::StatusOr<double> {
        const std::uint32_t first =
            static_cast<std::uint32_t>(round) * Scale::kPutsInRound;
        const double ns = stopwatch_.TimeSingles(
            Scale::kPutsInRound, samples, [&](std::size_t i) {
              const absl::Status put = connection_->Put(
                  KeyOf(kPutSet, first + static_cast<std::uint32_t>(i)), bytes_,
                  kSmall, AGENTMEM_CACHE, AGENTMEM_VISIBLE);
              if (!put.ok()) failed = put;
            });
        if (!failed.ok()) return failed;
        return ns;
      }};
  const Side theirs = {"memcpy", [&](int, Samples* samples) {
                         const double ns = stopwatch_.TimeSingles(
                             Scale::kPutsInRound, samples, [&](std::size_t i) {
                               std::memcpy(&copies[i * kSmall], bytes_.data(),
                                           kSmall);
                               Keep(copies[i * kSmall]);
                             });
                         return absl::StatusOr<double>(ns);
                       }};
  AGENTMEM_ASSIGN_OR_RETURN(const CaseResult one,
                            Compare("put_visible/4096", Unit::Nanoseconds(),
                                    scale_.rounds, {ours, theirs}));
  result_->cases.push_back(one);
  return absl::OkStatus();
}

absl::Status BlockBench::AddCases() {
  AGENTMEM_RETURN_IF_ERROR(AddGet("get_hit/262144", kLargeSet, scale_.large));
  const double p50 = result_->cases.back().p50_ns;
  const double baseline_p50 = result_->cases.back().baseline_p50_ns;
  AGENTMEM_RETURN_IF_ERROR(
      AddGet("get_hit/4096", kSmallSet, scale_.blocks - scale_.large));
  AGENTMEM_RETURN_IF_ERROR(AddGetBatch());
  AGENTMEM_RETURN_IF_ERROR(AddContains());
  const std::size_t matches = scale_.rounds > 3 ? 200 : 10;
  AGENTMEM_RETURN_IF_ERROR(
      AddMatchCases(*connection_, 16, scale_.rounds, matches, result_));
  AGENTMEM_RETURN_IF_ERROR(
      AddMatchCases(*connection_, 512, scale_.rounds, matches / 2, result_));
  AGENTMEM_RETURN_IF_ERROR(AddPut());
  auto& notes = result_->notes;
  notes.push_back(std::to_string(scale_.large) + " blocks of 256 KiB and " +
                  std::to_string(scale_.blocks - scale_.large) +
                  " of 4 KiB are resident (as many large ones as fit into "
                  "40% of the memory available here); get_hit/262144 is over "
                  "the large ones, in random order");
  notes.push_back(
      "percentiles: single operations, less the clock's own " +
      DurationText(stopwatch_.overhead_ns()) + ", in ticks of about " +
      DurationText(stopwatch_.tick_ns()) +
      "; throughput: the mean in batches of 64, median of " +
      std::to_string(scale_.rounds) +
      " rounds in turns with the baseline (get_batch, match and put: the mean "
      "of single operations)");
  notes.push_back("bar: get_hit/262144 p50 at most " + DurationText(kHitBarNs) +
                  ": " + DurationText(p50) +
                  (p50 <= kHitBarNs ? ", holds" : ", MISSED") +
                  "; the baseline's: " + DurationText(baseline_p50));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SuiteResult> RunBlockSuite(const SuiteOptions& options) {
  SuiteResult result;
  result.suite = "block";
  result.machine = DescribeMachine();
  BlockBench bench(ScaleOf(options), &result);
  AGENTMEM_RETURN_IF_ERROR(bench.SetUp(options));
  AGENTMEM_RETURN_IF_ERROR(bench.AddCases());
  return result;
}

}  // namespace agentmem::bench
