#include "memd/populator.h"

#include <algorithm>

#include "proto/types.h"

namespace agentmem {

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
    data->Populate(offset, kExtentBytes);
  }
}

}  // namespace agentmem
