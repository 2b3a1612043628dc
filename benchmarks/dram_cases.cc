// The DRAM tier of the suite `tiers`, beside memcpy.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "benchmarks/block_sizes.h"
#include "benchmarks/comparison.h"
#include "benchmarks/connection.h"
#include "benchmarks/memd_child.h"
#include "benchmarks/report.h"
#include "benchmarks/stopwatch.h"
#include "benchmarks/suites.h"

namespace agentmem::bench {
namespace {

// Beyond three quarters of its budget memd begins to write blocks down.
constexpr double kFill = 0.7;
// Field notes of this class of machine; below four fifths the run says so.
constexpr double kMemcpyAnchorMbPerS = 19'000;

struct Scale {
  std::size_t set_bytes;  // of each size; beyond any cache
  std::size_t put_bytes;  // of each size, in a round
  std::size_t puts_max;   // in a round
  int rounds;

  std::size_t SetCount(std::size_t size) const { return set_bytes / size; }
  std::size_t PutCount(std::size_t size) const {
    return std::clamp<std::size_t>(put_bytes / size, 1, puts_max);
  }
};

Scale ScaleOf(const SuiteOptions& options) {
  if (options.quick) return {16 << 20, 4 << 20, 200, 3};
  return {256 << 20, 24 << 20, 2000, 9};
}

class DramBench {
 public:
  DramBench(const Scale& scale, SuiteResult* result)
      : scale_(scale),
        result_(result),
        heap_(scale.set_bytes, 'h'),
        bytes_(kBlockSizes.back(), 'd'),
        out_(kBlockSizes.back(), 'o') {}

  absl::Status SetUp(const SuiteOptions& options);
  // A smaller memd: what is put into it from then on takes others' places.
  absl::Status SetUpFull(const SuiteOptions& options);
  absl::Status AddGets(std::size_t size);
  absl::Status AddPuts(const std::string& name, std::size_t size);
  absl::Status AddRecycledPuts(std::size_t size);
  void AddNotes();

 private:
  absl::Status Start(const MemdOptions& memd);
  absl::Status Fill(std::size_t size, std::size_t count);
  // The set's blocks in random order.
  std::vector<std::uint32_t> Order(std::size_t size);
  Side GetSide(std::size_t size, bool copy,
               const std::vector<std::uint32_t>& order);
  Side MemcpySide(std::size_t size, const std::vector<std::uint32_t>& order);

  static std::uint32_t GetSet(std::size_t size) {
    return static_cast<std::uint32_t>(size);
  }
  static std::uint32_t PutSet(std::size_t size) {
    return static_cast<std::uint32_t>(size) + 1;
  }

  const Scale scale_;
  SuiteResult* const result_;
  std::vector<char> heap_;  // memcpy's working set, as large as ours
  const std::vector<char> bytes_;
  std::vector<char> out_;
  const Stopwatch stopwatch_;
  std::mt19937_64 random_{2};
  std::unique_ptr<MemdChild> memd_;
  std::unique_ptr<Connection> connection_;
};

absl::Status DramBench::SetUp(const SuiteOptions& options) {
  MemdOptions memd;
  memd.program = options.memd;
  double bytes = 0;
  for (const std::size_t size : kBlockSizes) {
    const std::size_t puts =
        scale_.PutCount(size) * static_cast<std::size_t>(scale_.rounds);
    bytes += static_cast<double>(scale_.set_bytes + puts * size);
    memd.slots += scale_.SetCount(size) + puts;
  }
  memd.dram_bytes = static_cast<std::uint64_t>(bytes / kFill) + (128 << 20);
  memd.slots += 4096;  // granted ahead
  return Start(memd);
}

absl::Status DramBench::SetUpFull(const SuiteOptions& options) {
  MemdOptions memd;
  memd.program = options.memd;
  memd.dram_bytes = scale_.set_bytes;
  memd.slots = scale_.SetCount(kBlockSizes.front()) + 4096;
  return Start(memd);
}

absl::Status DramBench::Start(const MemdOptions& memd) {
  connection_.reset();
  memd_.reset();
  AGENTMEM_ASSIGN_OR_RETURN(memd_, MemdChild::Start(memd));
  AGENTMEM_ASSIGN_OR_RETURN(Connection connection,
                            Connection::Open(memd_->socket_path()));
  connection_ = std::make_unique<Connection>(std::move(connection));
  return absl::OkStatus();
}

absl::Status DramBench::Fill(std::size_t size, std::size_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    AGENTMEM_RETURN_IF_ERROR(connection_->Put(KeyOf(GetSet(size), i), bytes_,
                                              size, AGENTMEM_CACHE,
                                              AGENTMEM_VISIBLE));
  }
  return absl::OkStatus();
}

std::vector<std::uint32_t> DramBench::Order(std::size_t size) {
  std::vector<std::uint32_t> order(scale_.SetCount(size));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_);
  return order;
}

Side DramBench::GetSide(std::size_t size, bool copy,
                        const std::vector<std::uint32_t>& order) {
  const auto run = [this, size, copy, &order](
                       int, Samples* samples) -> absl::StatusOr<double> {
    agentmem_client* const client = connection_->get();
    std::size_t failures = 0;
    samples->Reserve(order.size());
    const double ns =
        stopwatch_.TimeSingles(order.size(), samples, [&](std::size_t i) {
          const agentmem_key key = KeyOf(GetSet(size), order[i]);
          agentmem_span span;
          if (agentmem_get(client, &key, 1, 0, &span, nullptr) != 0) {
            ++failures;
            return;
          }
          if (copy) std::memcpy(out_.data(), span.data, size);
          Keep(out_[0]);
          agentmem_release(client, &span, 1);
        });
    if (failures == 0) return ns;
    return Internal(std::to_string(failures) + " blocks were not in DRAM");
  };
  return {"agentmem", run};
}

Side DramBench::MemcpySide(std::size_t size,
                           const std::vector<std::uint32_t>& order) {
  const auto run = [this, size, &order](
                       int, Samples* samples) -> absl::StatusOr<double> {
    samples->Reserve(order.size());
    return stopwatch_.TimeSingles(order.size(), samples, [&](std::size_t i) {
      std::memcpy(out_.data(), &heap_[order[i] * size], size);
      Keep(out_[0]);
    });
  };
  return {"memcpy", run};
}

absl::Status DramBench::AddGets(std::size_t size) {
  AGENTMEM_RETURN_IF_ERROR(Fill(size, scale_.SetCount(size)));
  const std::vector<std::uint32_t> order = Order(size);
  const Side copy_out = MemcpySide(size, order);
  AGENTMEM_ASSIGN_OR_RETURN(
      const CaseResult span,
      Compare("dram_get_span/" + SizeText(size), Unit::OpsPerSecond(),
              scale_.rounds, {GetSide(size, false, order), copy_out}));
  AGENTMEM_ASSIGN_OR_RETURN(
      const CaseResult copy,
      Compare("dram_get_copy/" + SizeText(size),
              Unit::MegabytesPerSecond(static_cast<double>(size)),
              scale_.rounds, {GetSide(size, true, order), copy_out}));
  result_->cases.push_back(span);
  result_->cases.push_back(copy);
  return absl::OkStatus();
}

absl::Status DramBench::AddRecycledPuts(std::size_t size) {
  // All of the budget, and half of it again, in slots of this size.
  AGENTMEM_RETURN_IF_ERROR(Fill(size, scale_.SetCount(size) * 3 / 2));
  return AddPuts("dram_put_full", size);
}

absl::Status DramBench::AddPuts(const std::string& name, std::size_t size) {
  const std::size_t count = scale_.PutCount(size);
  const auto put = [&, this](int round,
                             Samples* samples) -> absl::StatusOr<double> {
    absl::Status failed = absl::OkStatus();
    std::uint32_t next = static_cast<std::uint32_t>(round * count);
    const double ns = stopwatch_.TimeSingles(count, samples, [&](std::size_t) {
      const absl::Status done =
          connection_->Put(KeyOf(PutSet(size), next++), bytes_, size,
                           AGENTMEM_CACHE, AGENTMEM_VISIBLE);
      if (!done.ok()) failed = done;
    });
    if (!failed.ok()) return failed;
    return ns;
  };
  const auto copy = [&, this](int, Samples* samples) {
    const std::size_t places = heap_.size() / size;
    return absl::StatusOr<double>(
        stopwatch_.TimeSingles(count, samples, [&](std::size_t i) {
          std::memcpy(&heap_[i % places * size], bytes_.data(), size);
          Keep(heap_[0]);
        }));
  };
  AGENTMEM_ASSIGN_OR_RETURN(
      const CaseResult result,
      Compare(name + "/" + SizeText(size),
              Unit::MegabytesPerSecond(static_cast<double>(size)),
              scale_.rounds, {{"agentmem", put}, {"memcpy", copy}}));
  result_->cases.push_back(result);
  return absl::OkStatus();
}

void DramBench::AddNotes() {
  auto& notes = result_->notes;
  notes.push_back(
      "dram_get: random order over " + SizeText(scale_.set_bytes) +
      " a size; span: pinned and released, its bytes not read; copy: also "
      "copied out; memcpy: out of a heap as large, in the same order");
  notes.push_back(
      "dram_put_visible: new keys into free memory, put and waited for, one at "
      "a time, so each maps pages that this process has not touched; "
      "dram_put_full: into a pool that is full, so each takes the place of "
      "others, while memd writes cache blocks down; memcpy: into touched "
      "memory");
  for (const CaseResult& one : result_->cases) {
    if (one.name != "dram_get_copy/1MiB") continue;
    if (one.baseline_value >= 0.8 * kMemcpyAnchorMbPerS) continue;
    char text[200];
    std::snprintf(text, sizeof(text),
                  "memcpy of 1 MiB reached %.0f MB/s out of %s that no cache "
                  "holds (19-20 GB/s where one does); load average %.1f on %u "
                  "cores",
                  one.baseline_value, SizeText(scale_.set_bytes).c_str(),
                  LoadAverage(), result_->machine.cores);
    notes.push_back(text);
  }
}

}  // namespace

absl::Status AddDramCases(const SuiteOptions& options, SuiteResult* result) {
  DramBench bench(ScaleOf(options), result);
  AGENTMEM_RETURN_IF_ERROR(bench.SetUp(options));
  for (const std::size_t size : kBlockSizes) {
    AGENTMEM_RETURN_IF_ERROR(bench.AddGets(size));
  }
  for (const std::size_t size : kBlockSizes) {
    AGENTMEM_RETURN_IF_ERROR(bench.AddPuts("dram_put_visible", size));
  }
  AGENTMEM_RETURN_IF_ERROR(bench.SetUpFull(options));
  for (const std::size_t size : kBlockSizes) {
    AGENTMEM_RETURN_IF_ERROR(bench.AddRecycledPuts(size));
  }
  bench.AddNotes();
  return absl::OkStatus();
}

}  // namespace agentmem::bench
