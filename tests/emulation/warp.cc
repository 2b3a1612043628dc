#include "tests/emulation/warp.h"

#include <algorithm>
#include <array>
#include <memory>

#include "tests/emulation/emulated_gpu.h"
#include "tests/emulation/fiber.h"

namespace agentmem::emulation {
namespace {

constexpr std::uint32_t kLanes = 32;
constexpr std::uint32_t kAll = 0xffffffff;

class Warp {
 public:
  // Lanes that are there run `kernel`; `place`: of the first.
  void Run(const ThreadPlace& place, std::uint32_t lanes,
           const std::function<void()>& kernel) {
    for (std::uint32_t i = 0; i < lanes; ++i) {
      places_[i] = place;
      places_[i].thread.x += i;
      fibers_[i].Start(kernel);
    }
    turns_ = {};
    std::uint32_t running = lanes;
    // Others first each time: no order may be relied on.
    for (std::uint32_t first = 0; running > 0; first += 7) {
      waiting_ = 0;
      for (std::uint32_t i = 0; i < lanes && why_.empty(); ++i) {
        at_ = (first + i) % lanes;
        if (fibers_[at_].has_ended()) continue;
        fibers_[at_].Enter();
        if (fibers_[at_].has_ended()) --running;
      }
      if (why_.empty() && waiting_ != 0 && waiting_ != kLanes) {
        why_ = std::to_string(waiting_) +
               " lanes of 32 came to an instruction of the warp";
      }
      if (!why_.empty()) return;
    }
  }

  const ThreadPlace& place() const { return places_[at_]; }
  std::string& why() { return why_; }

  void End(const std::string& why) {
    why_ = why;
    fibers_[at_].Leave();  // for good
  }

  // All lanes' values at the instruction `what`.
  const std::array<std::uint32_t, kLanes>& Meet(char what, std::uint32_t mask,
                                                std::uint32_t value) {
    if (mask != kAll) End("an instruction of a part of a warp");
    const std::uint32_t lane = at_;
    // Two in turn: who goes on first writes while others still read.
    auto& values = values_[turns_[lane]++ % 2];
    if (waiting_++ == 0) what_ = what;
    if (what_ != what) End("lanes of a warp at different instructions");
    values[lane] = value;
    fibers_[lane].Leave();
    return values;
  }

 private:
  std::array<Fiber, kLanes> fibers_;
  std::array<ThreadPlace, kLanes> places_;
  std::array<std::array<std::uint32_t, kLanes>, 2> values_ = {};
  std::array<std::uint32_t, kLanes> turns_ = {};
  std::uint32_t at_ = 0;
  std::uint32_t waiting_ = 0;
  char what_ = 0;
  std::string why_;
};

thread_local std::unique_ptr<Warp> warp;
thread_local GpuMemory::Range touched;  // the last one: neighbours mostly are

}  // namespace

const ThreadPlace& Here() { return warp->place(); }

std::uint32_t Shuffle(std::uint32_t mask, std::uint32_t value,
                      std::uint32_t lane) {
  return warp->Meet('s', mask, value)[lane % kLanes];
}

std::uint32_t ReduceMax(std::uint32_t mask, std::uint32_t value) {
  const auto& values = warp->Meet('m', mask, value);
  return *std::max_element(values.begin(), values.end());
}

void Touch(const void* memory, std::uint64_t bytes) {
  const auto at = reinterpret_cast<std::uint64_t>(memory);
  const auto holds = [&] {
    return at >= touched.begin && at - touched.begin < touched.bytes &&
           bytes <= touched.bytes - (at - touched.begin);
  };
  if (!holds()) touched = EmulatedGpu::Get().memory().RangeOf(at);
  if (!holds()) {
    warp->End("a kernel touched " + std::to_string(bytes) +
              " bytes that it cannot reach");
  }
  if (at % bytes != 0) {
    warp->End("a kernel touched " + std::to_string(bytes) +
              " bytes that are not aligned");
  }
}

std::string RunGrid(std::uint32_t blocks, std::uint32_t threads,
                    const std::function<void()>& kernel) {
  if (warp == nullptr) warp = std::make_unique<Warp>();
  warp->why().clear();
  touched = {};
  ThreadPlace place;
  place.blocks = dim3(blocks);
  place.threads = dim3(threads);
  for (std::uint32_t block = 0; block < blocks; ++block) {
    for (std::uint32_t at = 0; at < threads; at += kLanes) {
      place.block = dim3(block, 0, 0);
      place.thread = dim3(at, 0, 0);
      warp->Run(place, std::min(kLanes, threads - at), kernel);
      if (!warp->why().empty()) return warp->why();
    }
  }
  return "";
}

}  // namespace agentmem::emulation
