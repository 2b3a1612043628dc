#include "cuda/copy_plan.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

namespace agentmem {
namespace {

constexpr double kKernelGainMin = 1.03;
// What lies together on the host.
constexpr std::uint64_t kRunBytes = 64 << 10;

// A copy of each direction and method, in fragments of one size.
struct Sample {
  Direction direction = Direction::kToHost;
  CopyMethod method = CopyMethod::kCopyEngine;
  std::size_t step = 0;  // of the ladder
};

// The same bytes on the device and, registered, on the host.
class Scratch {
 public:
  explicit Scratch(Device* device) : device_(device) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // The device's memory first: freeing it waits for the copies that touch both.
  ~Scratch() {
    if (memory_.value() != 0) device_->Free(memory_);
    if (event_.value() != 0) device_->Query(event_, nullptr);
    if (registered_) {
      // Nobody is there to be told, and the memory goes either way.
      (void)device_->Register(host_, Device::Registration::kEnd);
    }
    if (!host_.empty()) ::munmap(host_.data(), host_.size());
  }

  Outcome Take(std::uint64_t bytes) {
    void* const host =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (host == MAP_FAILED) {
      return Fail(Code::kResourceExhausted,
                  "measuring copies: " + std::to_string(bytes) +
                      " bytes of host memory: " + std::strerror(errno));
    }
    host_ = {static_cast<char*>(host), bytes};
    Outcome taken = device_->Register(host_, Device::Registration::kBegin);
    if (!taken.ok()) return taken;
    registered_ = true;
    DeviceAddress memory;
    taken = device_->Allocate(bytes, &memory);
    if (taken.ok()) memory_ = memory;
    return taken;
  }

  // All bytes once, in fragments of `bytes`. On the device neighbours are five
  // places apart, on the host runs are three: both are odd and the counts
  // powers of two, so each place is taken once.
  std::span<const Fragment> FragmentsOf(std::uint32_t bytes) {
    const std::uint64_t count = host_.size() / bytes;
    const std::uint64_t of_run = std::max<std::uint64_t>(1, kRunBytes / bytes);
    const std::uint64_t runs = count / of_run;
    fragments_.clear();
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t run = i / of_run * 3 % runs;
      fragments_.push_back({memory_ + (i * 5 % count) * bytes,
                            host_.data() + (run * of_run + i % of_run) * bytes,
                            bytes});
    }
    return fragments_;
  }

  std::uint64_t bytes() const { return host_.size(); }
  // The event on which somebody waits; 0: none.
  Event* event() { return &event_; }

 private:
  Device* const device_;
  std::span<char> host_;
  bool registered_ = false;
  DeviceAddress memory_;
  Event event_;
  std::vector<Fragment> fragments_;
};

class Measurement {
 public:
  Measurement(Device* device, const Clock& clock, DurationNs time_max,
              Scratch* scratch)
      : device_(device),
        clock_(clock),
        deadline_(clock.Now() + time_max),
        scratch_(scratch) {}

  bool late() const { return clock_.Now() >= deadline_; }
  Outcome Late() const {
    return Fail(Code::kDeadlineExceeded,
                "measuring copies on " + device_->properties().name +
                    ": not each size was copied once within the time; the last "
                    "was a copy of " +
                    std::to_string(scratch_->bytes()) + " bytes");
  }

  Outcome Take(const Sample& sample, std::uint64_t* bytes_per_second) {
    const DeviceProperties& properties = device_->properties();
    const Stream stream = sample.direction == Direction::kToHost
                              ? properties.to_host
                              : properties.to_device;
    const CopyBatch batch{
        sample.direction, sample.method,
        scratch_->FragmentsOf(kCrossoverLadder.at(sample.step))};
    const TimeNs begin = clock_.Now();
    Outcome outcome = device_->Copy(batch, stream);
    if (!outcome.ok()) return outcome;
    Event recorded;
    outcome = device_->Record(stream, &recorded);
    if (!outcome.ok()) return outcome;
    *scratch_->event() = recorded;
    outcome = Await();
    if (!outcome.ok()) return outcome;
    const auto taken =
        static_cast<double>(std::max<DurationNs>(1, clock_.Now() - begin));
    *bytes_per_second = static_cast<std::uint64_t>(
        static_cast<double>(scratch_->bytes()) * kSecondNs / taken);
    return {};
  }

 private:
  Outcome Await() {
    for (;;) {
      Outcome why;
      switch (device_->Query(*scratch_->event(), &why)) {
        case EventState::kPassed:
          *scratch_->event() = Event();
          return {};
        case EventState::kFailed:
          *scratch_->event() = Event();
          if (!why.ok()) return why;
          return Fail(Code::kInternal, "measuring copies: a copy failed");
        case EventState::kPending:
          break;
      }
      if (late()) return Late();
    }
  }

  Device* const device_;
  const Clock& clock_;
  const TimeNs deadline_;
  Scratch* const scratch_;
};

// Every direction and method, of one step of the ladder.
template <typename Do>
Outcome ForEachSample(std::size_t step, bool stages, Do&& take) {
  for (const Direction direction : {Direction::kToHost, Direction::kToDevice}) {
    for (const CopyMethod method :
         {CopyMethod::kCopyEngine, CopyMethod::kKernel, CopyMethod::kStaged}) {
      if (method == CopyMethod::kStaged && !stages) continue;
      Outcome outcome = take(Sample{direction, method, step});
      if (!outcome.ok()) return outcome;
    }
  }
  return {};
}

std::uint64_t* RateOf(const Sample& sample, Crossovers* found) {
  Crossover& crossover = sample.direction == Direction::kToHost
                             ? found->to_host
                             : found->to_device;
  CopyRates& rates = crossover.rates.at(sample.step);
  switch (sample.method) {
    case CopyMethod::kKernel:
      return &rates.kernel;
    case CopyMethod::kStaged:
      return &rates.staged;
    default:
      return &rates.engine;
  }
}

}  // namespace

FragmentSplit SplitBySize(std::span<Fragment> fragments,
                          std::uint32_t crossover_bytes) {
  const auto is_small = [crossover_bytes](const Fragment& fragment) {
    return fragment.bytes < crossover_bytes || crossover_bytes == kKernelAlways;
  };
  // Those that lie together stay so.
  const auto engine =
      std::is_partitioned(fragments.begin(), fragments.end(), is_small)
          ? std::partition_point(fragments.begin(), fragments.end(), is_small)
          : std::stable_partition(fragments.begin(), fragments.end(), is_small);
  const auto count = static_cast<std::size_t>(engine - fragments.begin());
  return {fragments.first(count), fragments.subspan(count)};
}

SplitRule RuleOf(const LadderRates& rates) {
  const auto figure = [](std::uint64_t rate) {
    return static_cast<double>(std::max<std::uint64_t>(1, rate));
  };
  const bool stages =
      std::any_of(rates.begin(), rates.end(),
                  [](const CopyRates& step) { return step.staged != 0; });
  SplitRule best;
  double least = 0;
  bool is_first = true;
  // The plainer one where they are alike.
  for (const CopyMethod small : {CopyMethod::kKernel, CopyMethod::kStaged}) {
    if (small == CopyMethod::kStaged && !stages) continue;
    for (std::size_t kernels = 0; kernels <= rates.size(); ++kernels) {
      double lost = 0;  // in what each size takes longer than by its fastest
      for (std::size_t step = 0; step < rates.size(); ++step) {
        const CopyRates& of_step = rates.at(step);
        const double engine = figure(of_step.engine);
        const double kernel = figure(of_step.kernel) / kKernelGainMin;
        const double staged = figure(of_step.staged) / kKernelGainMin;
        const double chosen = step >= kernels                ? engine
                              : small == CopyMethod::kStaged ? staged
                                                             : kernel;
        lost += std::max({engine, kernel, staged}) / chosen - 1;
      }
      if (!is_first && lost >= least) continue;
      is_first = false;
      least = lost;
      best.small = small;
      best.below = kernels == 0              ? kKernelNever
                   : kernels == rates.size() ? kKernelAlways
                                             : kCrossoverLadder.at(kernels);
    }
  }
  return best;
}

Outcome MeasureCrossover(Device* device, const Clock& clock,
                         const MeasureBounds& bounds, Crossovers* crossovers) {
  if (bounds.bytes < kMeasureBytesMin || bounds.rounds < 1) {
    return Fail(Code::kInvalidArgument,
                "measuring copies: bytes is " + std::to_string(bounds.bytes) +
                    ", at least " + std::to_string(kMeasureBytesMin) +
                    "; rounds is " + std::to_string(bounds.rounds) +
                    ", at least 1");
  }
  Scratch scratch(device);
  Measurement measurement(device, clock, bounds.time_max, &scratch);
  Outcome outcome = scratch.Take(std::bit_floor(bounds.bytes));
  if (!outcome.ok()) return outcome;
  // What only the first copies pay, such as loading the kernel, is no rate.
  const bool stages = device->properties().stages;
  outcome = ForEachSample(kCrossoverLadder.size() - 1, stages,
                          [&measurement](const Sample& sample) {
                            std::uint64_t ignored = 0;
                            return measurement.Take(sample, &ignored);
                          });
  if (!outcome.ok()) return outcome;

  Crossovers found;
  for (std::uint32_t round = 0; round < bounds.rounds; ++round) {
    for (std::size_t step = 0; step < kCrossoverLadder.size(); ++step) {
      if (measurement.late()) {
        if (round > 0) break;
        return measurement.Late();
      }
      outcome = ForEachSample(step, stages, [&](const Sample& sample) {
        std::uint64_t rate = 0;
        Outcome taken = measurement.Take(sample, &rate);
        std::uint64_t* const best = RateOf(sample, &found);
        *best = std::max(*best, rate);
        return taken;
      });
      // After the first round there is an answer, and the time is only up.
      if (round > 0 && outcome.code == Code::kDeadlineExceeded) break;
      if (!outcome.ok()) return outcome;
    }
  }
  found.to_host.rule = RuleOf(found.to_host.rates);
  found.to_device.rule = RuleOf(found.to_device.rates);
  *crossovers = found;
  return {};
}

}  // namespace agentmem
