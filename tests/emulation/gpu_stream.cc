#include "tests/emulation/gpu_stream.h"

#include <utility>

namespace agentmem::emulation {

std::uint64_t GpuEvent::Post() {
  const std::lock_guard lock(mutex_);
  pending_.insert(++posted_);
  return posted_;
}

void GpuEvent::Done(std::uint64_t number) {
  {
    const std::lock_guard lock(mutex_);
    pending_.erase(number);
  }
  changed_.notify_all();
}

bool GpuEvent::HasPassed() {
  const std::lock_guard lock(mutex_);
  return !pending_.contains(posted_);
}

std::uint64_t GpuEvent::last_posted() {
  const std::lock_guard lock(mutex_);
  return posted_;
}

void GpuEvent::Await(std::uint64_t number) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !pending_.contains(number); });
}

GpuStream::GpuStream(std::function<void(cudaError_t)> fails)
    : fails_(std::move(fails)), thread_([this] { Run(); }) {}

GpuStream::~GpuStream() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
    is_held_ = false;
  }
  changed_.notify_all();
  thread_.join();
}

void GpuStream::Post(std::function<cudaError_t()> work) {
  {
    const std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
  }
  changed_.notify_all();
}

void GpuStream::Drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return work_.empty() && !is_busy_; });
}

void GpuStream::Hold(bool is_held) {
  {
    const std::lock_guard lock(mutex_);
    is_held_ = is_held;
  }
  changed_.notify_all();
}

std::uint64_t GpuStream::done() {
  const std::lock_guard lock(mutex_);
  return done_;
}

void GpuStream::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return ends_ || (!work_.empty() && !is_held_); });
    if (work_.empty()) {
      if (ends_) return;
      continue;
    }
    const std::function<cudaError_t()> work = std::move(work_.front());
    work_.pop_front();
    is_busy_ = true;
    lock.unlock();
    const cudaError_t error = work();
    if (error != cudaSuccess) fails_(error);
    lock.lock();
    is_busy_ = false;
    ++done_;
    changed_.notify_all();
  }
}

}  // namespace agentmem::emulation
