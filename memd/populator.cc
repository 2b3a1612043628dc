#include "memd/populator.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

#include "proto/types.h"

namespace agentmem {
namespace {

constexpr int kNice = 19;
// Touched at once, some 20 us: kernels that do not preempt their own work let
// nobody else have the processor meanwhile.
constexpr std::uint64_t kStepBytes = 64 << 10;
static_assert(kExtentBytes % kStepBytes == 0);

}  // namespace

Populator::Populator() : thread_([this] { Run(); }) {}

Populator::~Populator() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
  }
  changed_.NotifyOne();
  thread_.join();
}

std::size_t Populator::Add(const SharedMemory* data) {
  MutexLock lock(&mutex_);
  targets_.push_back(Target{data});
  return targets_.size() - 1;
}

void Populator::Ahead(std::size_t index, std::uint32_t extents) {
  {
    MutexLock lock(&mutex_);
    Target& target = targets_[index];
    const std::uint64_t all = target.data->bytes() / kExtentBytes;
    const std::uint32_t wanted = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(all, extents + kExtentsAhead));
    if (wanted <= target.wanted) return;
    target.wanted = wanted;
  }
  changed_.NotifyOne();
}

void Populator::Again(std::size_t index, std::uint32_t extent) {
  {
    MutexLock lock(&mutex_);
    targets_[index].again.push_back(extent);
  }
  changed_.NotifyOne();
}

void Populator::Run() {
  // It runs ahead of need: whoever waits for a processor comes first.
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
  for (;;) {
    const SharedMemory* data = nullptr;
    std::uint64_t offset = 0;
    {
      MutexLock lock(&mutex_);
      while (data == nullptr) {
        if (stop_) return;
        for (Target& target : targets_) {
          if (!target.again.empty()) {
            offset = target.again.back() * kExtentBytes;
            target.again.pop_back();
          } else if (target.touched != target.wanted) {
            offset = target.touched++ * kExtentBytes;
          } else {
            continue;
          }
          data = target.data;
          break;
        }
        if (data == nullptr) changed_.Wait(&mutex_);
      }
    }
    const std::uint64_t end = offset + kExtentBytes;
    while (offset < end && data->Populate(offset, kStepBytes)) {
      offset += kStepBytes;
    }
  }
}

}  // namespace agentmem
