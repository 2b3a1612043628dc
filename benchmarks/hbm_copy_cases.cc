// Offload and onload in fragments, beside pinned copies and the plain ways.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "benchmarks/comparison.h"
#include "benchmarks/hbm_bench.h"
#include "benchmarks/hbm_bytes.h"

namespace agentmem::bench {
namespace {

constexpr std::uint32_t kKiB = 1 << 10;

constexpr FragmentCase kFragmentCases[] = {
    {"2MiB", 2048 * kKiB, 0.97},   {"64KiB", 64 * kKiB, 0.95},
    {"16KiB", 16 * kKiB, 0.90},    {"4KiB", 4 * kKiB, 0.80},
    {"mixed", kMixedFragments, 0},
};
// Ours by the better plain way, round by round, where ways differ: at one size
// they are the same copies, and two runs of one differ by as much.
constexpr double kPlainBar = 0.97;
constexpr double kBidirectionalBar = 1.75;

absl::Status Arrived(const std::string& what,
                     std::optional<std::uint64_t> wrong) {
  if (!wrong.has_value()) return absl::OkStatus();
  return DataLoss(what + ": byte " + std::to_string(*wrong) + " is wrong");
}

std::string CopyName(Direction direction, const FragmentCase& one) {
  return (direction == Direction::kToHost ? "offload/" : "onload/") +
         std::string(one.name);
}

bool WaysDiffer(const FragmentCase& one) { return one.bytes <= 16 * kKiB; }

std::string PlainName(const std::string& name) {
  return name + " by the better plain way";
}

std::string CrossoverText(const SplitRule& rule) {
  const std::string kernel =
      rule.small == CopyMethod::kStaged ? "staged" : "by the kernel";
  if (rule.below == kKernelNever) return "never by the kernel";
  if (rule.below == kKernelAlways) return "always " + kernel;
  return kernel + " below " + std::to_string(rule.below) + " bytes";
}

}  // namespace

std::span<const FragmentCase> HbmBench::FragmentCases() {
  return kFragmentCases;
}

std::vector<Bar> HbmBench::CopyBars() {
  std::vector<Bar> bars;
  for (const Direction direction : {Direction::kToHost, Direction::kToDevice}) {
    for (const FragmentCase& one : kFragmentCases) {
      const std::string name = CopyName(direction, one);
      if (one.bar != 0) bars.push_back({name, one.bar});
      if (WaysDiffer(one)) bars.push_back({PlainName(name), kPlainBar});
    }
  }
  return bars;
}

std::vector<Bar> HbmBench::BidirectionalBars() {
  return {{"bidirectional/2MiB", kBidirectionalBar}};
}

absl::Status HbmBench::SetUp() {
  if (is_set_up_) return absl::OkStatus();
  AGENTMEM_RETURN_IF_ERROR(memory_.Take(scale_.bytes));
  const MonotonicClock clock;
  MeasureBounds bounds;
  bounds.time_max = 20 * kSecondNs;
  AGENTMEM_RETURN_IF_ERROR(
      ToAbsl(MeasureCrossover(device_, clock, bounds, &crossovers_)));
  result_->notes.push_back(
      "crossover: to host " + CrossoverText(crossovers_.to_host.rule) +
      ", to device " + CrossoverText(crossovers_.to_device.rule));
  is_set_up_ = true;
  return absl::OkStatus();
}

TimeNs HbmScale::RoundsUntil(std::size_t number, std::size_t cases) const {
  if (budget_ns == 0 || cases == 0) return kNoDeadline;
  const DurationNs fifth = budget_ns / 5;
  const double share =
      std::min(1.0, static_cast<double>(number) / static_cast<double>(cases));
  return begin + fifth + static_cast<DurationNs>(3 * fifth * share);
}

bool HbmBench::Another(int round) {
  constexpr int kRoundsMin = 2;
  if (round == 0) ++cases_begun_;
  if (round < kRoundsMin || round >= scale_.rounds) {
    return round < scale_.rounds;
  }
  if (MonotonicNowNs() < scale_.RoundsUntil(cases_begun_, cases_)) return true;
  if (!std::exchange(was_late_, true)) {
    result_->notes.push_back(
        "this machine is slow: behind " +
        std::to_string(result_->cases.size()) + " rows, cases have 2 to " +
        std::to_string(scale_.rounds) + " rounds, as there is time");
  }
  return false;
}

absl::StatusOr<double> HbmBench::Timed(const Way& way) const {
  HbmPost post(device_);
  const TimeNs start = MonotonicNowNs();
  AGENTMEM_RETURN_IF_ERROR(way(&post));
  AGENTMEM_RETURN_IF_ERROR(post.Await());
  return static_cast<double>(MonotonicNowNs() - start);
}

absl::Status HbmBench::Move(const HbmMemory& memory, Direction direction,
                            std::span<char> host) const {
  HbmPost post(device_);
  AGENTMEM_RETURN_IF_ERROR(post.CopyPinned(direction, memory.device(), host));
  return post.Await();
}

absl::Status HbmBench::PrepareOffload(const HbmMemory& memory,
                                      std::uint64_t seed) const {
  FillInOrder(memory.source(), seed);
  AGENTMEM_RETURN_IF_ERROR(Move(memory, Direction::kToDevice, memory.source()));
  std::memset(memory.output().data(), kPoison, memory.output().size());
  return absl::OkStatus();
}

absl::Status HbmBench::CheckOffload(const HbmMemory& memory, std::uint64_t seed,
                                    std::uint32_t fragment_bytes) {
  return Arrived("offload",
                 fragment_bytes == 0
                     ? WrongInOrder(memory.output(), seed)
                     : WrongScattered(memory.output(), seed, fragment_bytes));
}

absl::StatusOr<double> HbmBench::Offload(std::uint32_t fragment_bytes,
                                         const Way& way) {
  const std::uint64_t seed = seed_++;
  AGENTMEM_RETURN_IF_ERROR(PrepareOffload(memory_, seed));
  AGENTMEM_ASSIGN_OR_RETURN(const double ns, Timed(way));
  AGENTMEM_RETURN_IF_ERROR(CheckOffload(memory_, seed, fragment_bytes));
  return ns;
}

absl::Status HbmBench::PrepareOnload(const HbmMemory& memory,
                                     std::uint64_t seed,
                                     std::uint32_t fragment_bytes) const {
  const std::span<char> output = memory.output();
  std::memset(output.data(), kPoison, output.size());
  AGENTMEM_RETURN_IF_ERROR(Move(memory, Direction::kToDevice, output));
  if (fragment_bytes == 0) {
    FillInOrder(memory.source(), seed);
  } else {
    FillScattered(memory.source(), seed, fragment_bytes);
  }
  return absl::OkStatus();
}

absl::Status HbmBench::CheckOnload(const HbmMemory& memory,
                                   std::uint64_t seed) const {
  AGENTMEM_RETURN_IF_ERROR(Move(memory, Direction::kToHost, memory.output()));
  return Arrived("onload", WrongInOrder(memory.output(), seed));
}

absl::StatusOr<double> HbmBench::Onload(std::uint32_t fragment_bytes,
                                        const Way& way) {
  const std::uint64_t seed = seed_++;
  AGENTMEM_RETURN_IF_ERROR(PrepareOnload(memory_, seed, fragment_bytes));
  AGENTMEM_ASSIGN_OR_RETURN(const double ns, Timed(way));
  AGENTMEM_RETURN_IF_ERROR(CheckOnload(memory_, seed));
  return ns;
}

CaseResult* HbmBench::AddRow(const std::string& name, Samples* ours,
                             const std::string& baseline, Samples* baseline_ns,
                             std::uint64_t bytes) {
  const Unit unit = Unit::MegabytesPerSecond(static_cast<double>(bytes));
  CaseResult row;
  row.name = name;
  row.p50_ns = ours->Percentile(0.5);
  row.p99_ns = ours->Percentile(0.99);
  row.p999_ns = ours->Percentile(0.999);
  row.unit = unit.name;
  row.higher_is_better = unit.higher_is_better;
  row.value = unit.Of(row.p50_ns);
  row.baseline = baseline;
  row.baseline_p50_ns = baseline_ns->Percentile(0.5);
  row.baseline_value = unit.Of(row.baseline_p50_ns);
  result_->cases.push_back(std::move(row));
  return &result_->cases.back();
}

CaseResult* HbmBench::AddTimes(const std::string& name, Samples* ours,
                               const std::string& baseline,
                               Samples* baseline_ns) {
  CaseResult* const row = AddRow(name, ours, baseline, baseline_ns, 0);
  row->unit = "ns";
  row->higher_is_better = false;
  row->value = row->p50_ns;
  row->baseline_value = row->baseline_p50_ns;
  return row;
}

void HbmBench::MeasureBar(const std::string& name, double ratio) {
  Bar* const bar = FindBar(&result_->bars, name);
  if (!logic_only_) bar->measured = ratio;
}

absl::Status HbmBench::AddCopy(Direction direction, const FragmentCase& one) {
  const std::uint32_t fragment_bytes = one.bytes;
  const bool to_host = direction == Direction::kToHost;
  const std::span<char> host = to_host ? memory_.output() : memory_.source();
  std::vector<Fragment> fragments =
      ScatteredFragments(memory_.device(), host, fragment_bytes);
  const auto plain = [&](CopyMethod method) -> Way {
    return [&fragments, direction, method](HbmPost* post) {
      return post->Copy(direction, method, fragments);
    };
  };
  struct Measured {
    std::string name;
    std::uint32_t fragment_bytes;
    Way way;
    Samples ns;
  };
  std::vector<Measured> sides = {
      {"",
       fragment_bytes,
       [&](HbmPost* post) {
         return post->CopySplit(direction, fragments,
                                crossovers_.of(direction).rule);
       },
       {}},
      {"pinned",
       0,
       [&](HbmPost* post) {
         return post->CopyPinned(direction, memory_.device(), host);
       },
       {}},
      {"/dma_only", fragment_bytes, plain(CopyMethod::kCopyEngine), {}}};
  if (fragment_bytes <= kKernelFragmentBytesMax &&
      device_->properties().kernel_fragments_max != 0) {
    sides.push_back(
        {"/kernel_only", fragment_bytes, plain(CopyMethod::kKernel), {}});
  }
  // No plain way, and no bar: is it what the crossover should have taken?
  const std::size_t plain_end = sides.size();
  if (fragment_bytes <= kKernelFragmentBytesMax &&
      device_->properties().stages) {
    sides.push_back(
        {"/staged_only", fragment_bytes, plain(CopyMethod::kStaged), {}});
  }
  std::vector<double> by_plain;
  for (int round = 0; Another(round); ++round) {
    std::vector<double> took;
    for (Measured& side : sides) {
      AGENTMEM_ASSIGN_OR_RETURN(
          const double ns, to_host ? Offload(side.fragment_bytes, side.way)
                                   : Onload(side.fragment_bytes, side.way));
      side.ns.Add(ns);
      took.push_back(ns);
    }
    by_plain.push_back(
        *std::min_element(took.begin() + 2, took.begin() + plain_end) /
        took[0]);
  }
  const std::string name = CopyName(direction, one);
  const double ours =
      AddRow(name, &sides[0].ns, "pinned", &sides[1].ns, host.size())->Ratio();
  for (std::size_t i = 2; i < sides.size(); ++i) {
    AddRow(name + sides[i].name, &sides[i].ns, "pinned", &sides[1].ns,
           host.size());
  }
  if (one.bar != 0) MeasureBar(name, ours);
  if (WaysDiffer(one)) {
    MeasureBar(PlainName(name), Median(std::move(by_plain)));
  }
  return absl::OkStatus();
}

absl::Status HbmBench::AddCopies() {
  for (const Direction direction : {Direction::kToHost, Direction::kToDevice}) {
    for (const FragmentCase& one : kFragmentCases) {
      AGENTMEM_RETURN_IF_ERROR(AddCopy(direction, one));
      TellSoFar();
    }
  }
  return absl::OkStatus();
}

// The first half of the memory leaves the device, the second comes.
absl::StatusOr<double> HbmBench::BothWays(bool at_once,
                                          std::uint32_t fragment_bytes) {
  const std::uint64_t half = scale_.bytes / 2;
  const std::span<char> source = memory_.source();
  const std::span<char> output = memory_.output();
  const std::uint64_t leaving = seed_++;
  const std::uint64_t coming = seed_++;
  FillInOrder(source.first(half), leaving);
  std::memset(source.data() + half, kPoison, half);
  AGENTMEM_RETURN_IF_ERROR(Move(memory_, Direction::kToDevice, source));
  FillScattered(source.subspan(half), coming, fragment_bytes);
  std::memset(output.data(), kPoison, output.size());
  std::vector<Fragment> down =
      ScatteredFragments(memory_.device(), output.first(half), fragment_bytes);
  std::vector<Fragment> up = ScatteredFragments(
      memory_.device() + half, source.subspan(half), fragment_bytes);
  AGENTMEM_ASSIGN_OR_RETURN(
      const double ns, Timed([&](HbmPost* post) {
        AGENTMEM_RETURN_IF_ERROR(post->CopySplit(Direction::kToHost, down,
                                                 crossovers_.to_host.rule));
        if (!at_once) AGENTMEM_RETURN_IF_ERROR(post->Await());
        return post->CopySplit(Direction::kToDevice, up,
                               crossovers_.to_device.rule);
      }));
  AGENTMEM_RETURN_IF_ERROR(
      Arrived("the half that left",
              WrongScattered(output.first(half), leaving, fragment_bytes)));
  AGENTMEM_RETURN_IF_ERROR(Move(memory_, Direction::kToHost, output));
  AGENTMEM_RETURN_IF_ERROR(Arrived("the half that came",
                                   WrongInOrder(output.subspan(half), coming)));
  return ns;
}

absl::Status HbmBench::AddBidirectional() {
  constexpr std::uint32_t kFragment = 2048 * kKiB;
  Samples at_once;
  Samples in_turn;
  for (int round = 0; Another(round); ++round) {
    AGENTMEM_ASSIGN_OR_RETURN(const double together, BothWays(true, kFragment));
    at_once.Add(together);
    AGENTMEM_ASSIGN_OR_RETURN(const double apart, BothWays(false, kFragment));
    in_turn.Add(apart);
  }
  const CaseResult* const row =
      AddRow("bidirectional/2MiB", &at_once, "one direction, then the other",
             &in_turn, scale_.bytes);
  MeasureBar(row->name, row->Ratio());
  return absl::OkStatus();
}

}  // namespace agentmem::bench
