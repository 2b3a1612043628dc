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
  Target& target = targets_.emplace_back();
  target.data = data;
  target.lent.resize(data->bytes() / kExtentBytes);
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

void Populator::Lend(std::size_t index, std::uint32_t extent) {
  MutexLock lock(&mutex_);
  targets_[index].lent[extent] = true;
}

void Populator::TakeBack(std::size_t index, std::uint32_t extent) {
  MutexLock lock(&mutex_);
  targets_[index].lent[extent] = false;
}

std::optional<Populator::Work> Populator::NextWork() {
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    Target& target = targets_[i];
    if (!target.again.empty()) {
      const std::uint32_t extent = target.again.back();
      target.again.pop_back();
      return Work{i, extent};
    }
    if (target.touched != target.wanted) return Work{i, target.touched++};
  }
  return std::nullopt;
}

bool Populator::IsWanted(const Work& work) {
  MutexLock lock(&mutex_);
  return !stop_ && !targets_[work.index].lent[work.extent];
}

void Populator::Run() {
  // It runs ahead of need: whoever waits for a processor comes first.
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
  for (;;) {
    std::optional<Work> work;
    const SharedMemory* data = nullptr;
    {
      MutexLock lock(&mutex_);
      while (!work.has_value()) {
        if (stop_) return;
        work = NextWork();
        if (!work.has_value()) changed_.Wait(&mutex_);
      }
      data = targets_[work->index].data;
    }
    std::uint64_t offset = work->extent * kExtentBytes;
    const std::uint64_t end = offset + kExtentBytes;
    while (offset < end && IsWanted(*work) &&
           data->Populate(offset, kStepBytes)) {
      offset += kStepBytes;
    }
  }
}

}  // namespace agentmem
