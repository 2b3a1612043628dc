// The thread of the host device, and how tests drive it.
#include <algorithm>
#include <cstring>
#include <utility>

#include "cuda/host_device.h"

namespace agentmem {

bool HostDevice::Pending(std::uint64_t posted_before) const {
  return std::any_of(queues_.begin(), queues_.end(), [&](const auto& entry) {
    const std::deque<Work>& work = entry.second.work;
    return !work.empty() && work.front().posted <= posted_before;
  });
}

void HostDevice::AwaitPosted() {
  const std::uint64_t posted = posted_;
  while (started_ && Pending(posted)) done_.Wait(&mutex_);
}

bool HostDevice::Touched(std::uint64_t begin, std::uint64_t bytes) const {
  for (const auto& [stream, queue] : queues_) {
    for (const Work& work : queue.work) {
      for (std::size_t i = work.next; i < work.fragments.size(); ++i) {
        const Fragment& fragment = work.fragments[i];
        if (Overlap(begin, bytes, fragment.device.value(), fragment.bytes) ||
            Overlap(begin, bytes, AddressOf(fragment.host), fragment.bytes)) {
          return true;
        }
      }
      for (std::size_t i = work.next; i < work.pieces.size(); ++i) {
        if (PieceTouches(work, work.pieces[i], begin, bytes)) return true;
      }
    }
  }
  return false;
}

void HostDevice::Broke(std::string rule) {
  if (broken_rules_++ == 0) first_broken_rule_ = std::move(rule);
}

void HostDevice::Loop() {
  MutexLock lock(&mutex_);
  while (!stopping_) {
    Queue* queue = held_ && allowed_ == 0 ? nullptr : Next();
    if (queue == nullptr) {
      work_.Wait(&mutex_);
      continue;
    }
    if (held_) --allowed_;
    stepping_ = true;
    TakeStep(queue);
    stepping_ = false;
    done_.NotifyAll();
  }
}

bool HostDevice::Blocked(const Queue& queue) const {
  if (queue.work.empty()) return true;
  const Work& work = queue.work.front();
  return work.kind == Work::Kind::kWait && !lost_ &&
         work.event->state == EventState::kPending;
}

// The stream after the last one that has something to do.
HostDevice::Queue* HostDevice::Next() {
  auto at = queues_.upper_bound(last_stream_);
  for (std::size_t i = 0; i < queues_.size(); ++i, ++at) {
    if (at == queues_.end()) at = queues_.begin();
    if (only_ != nullptr && only_->native() != at->first) continue;
    if (Blocked(at->second)) continue;
    last_stream_ = at->first;
    return &at->second;
  }
  return nullptr;
}

void HostDevice::TakeStep(Queue* queue) {
  Work& work = queue->work.front();
  switch (work.kind) {
    case Work::Kind::kCopy:
      CopyOne(queue);
      if (work.next < work.fragments.size()) return;
      break;
    case Work::Kind::kFp8:
      ConvertOne(queue);
      if (work.next < work.pieces.size()) return;
      break;
    case Work::Kind::kRecord:
      work.event->state =
          queue->failed.ok() ? EventState::kPassed : EventState::kFailed;
      work.event->why = queue->failed;
      break;
    case Work::Kind::kWait:
      if (work.event->state == EventState::kFailed && queue->failed.ok()) {
        queue->failed = work.event->why;
      }
      break;
  }
  queue->work.pop_front();
}

void HostDevice::CopyOne(Queue* queue) {
  Work& work = queue->work.front();
  const Fragment fragment = work.fragments[work.next];
  const Direction direction = work.direction;
  const bool by_kernel = work.method != CopyMethod::kCopyEngine &&
                         KernelTakes(fragment) &&
                         options_.kernel_fragments_max != 0;
  const bool is_within =
      Within(allocated_, AddressOf(fragment.host), fragment.bytes);
  if (queue->failed.ok()) queue->failed = Passes(Point::kCopy, "a copy");
  if (queue->failed.ok()) {
    // Copied without the mutex, as a device would: a thread that touches these
    // bytes before the event has passed is a race for ThreadSanitizer. `work`
    // stays: it is popped by this thread alone, and a deque's elements do not
    // move.
    mutex_.Unlock();
    char* device = Bytes(fragment.device);
    if (direction == Direction::kToHost) {
      std::memcpy(fragment.host, device, fragment.bytes);
    } else {
      std::memcpy(device, fragment.host, fragment.bytes);
    }
    mutex_.Lock();
    ++counts_.fragments_copied;
    counts_.kernel_fragments += by_kernel;
    if (is_within) {
      counts_.bytes_within += fragment.bytes;
    } else if (direction == Direction::kToHost) {
      counts_.bytes_to_host += fragment.bytes;
    } else {
      counts_.bytes_to_device += fragment.bytes;
    }
  }
  ++work.next;
  --counts_.fragments_pending;
}

void HostDevice::Hold() {
  MutexLock lock(&mutex_);
  held_ = true;
  allowed_ = 0;
  while (stepping_) done_.Wait(&mutex_);
}

std::uint64_t HostDevice::Step(std::uint64_t steps) {
  return StepOn(nullptr, steps);
}

std::uint64_t HostDevice::StepStream(Stream stream, std::uint64_t steps) {
  return StepOn(&stream, steps);
}

std::uint64_t HostDevice::StepOn(const Stream* stream, std::uint64_t steps) {
  MutexLock lock(&mutex_);
  if (!held_) {
    Broke("Step without Hold");
    return 0;
  }
  only_ = stream;
  allowed_ = steps;
  work_.NotifyOne();
  // Next moves the turn on, so it is put back after each look.
  while (true) {
    const std::uint64_t turn = last_stream_;
    const bool more = allowed_ > 0 && Next() != nullptr;
    last_stream_ = turn;
    if (!stepping_ && !more) break;
    done_.Wait(&mutex_);
  }
  const std::uint64_t taken = steps - allowed_;
  allowed_ = 0;
  only_ = nullptr;
  return taken;
}

void HostDevice::Run() {
  MutexLock lock(&mutex_);
  held_ = false;
  work_.NotifyOne();
}

void HostDevice::Drain() {
  MutexLock lock(&mutex_);
  if (held_) return Broke("Drain while held");
  AwaitPosted();
}

void HostDevice::FailNth(Failure failure) {
  MutexLock lock(&mutex_);
  const auto at = static_cast<std::size_t>(failure.point);
  armed_[at].push_back({std::max<std::uint64_t>(failure.nth, 1), failure.code});
}

void HostDevice::Disarm() {
  MutexLock lock(&mutex_);
  for (std::vector<Armed>& point : armed_) point.clear();
}

void HostDevice::Mend() {
  MutexLock lock(&mutex_);
  for (auto& [stream, queue] : queues_) queue.failed = {};
}

void HostDevice::Lose() {
  MutexLock lock(&mutex_);
  // Who is told of the loss may free what a copy touched: none is under way.
  const bool held = std::exchange(held_, true);
  allowed_ = 0;
  while (stepping_) done_.Wait(&mutex_);
  lost_ = true;
  held_ = held;
  work_.NotifyOne();
}

HostDevice::Counts HostDevice::counts() const {
  MutexLock lock(&mutex_);
  return counts_;
}

std::uint64_t HostDevice::broken_rules() const {
  MutexLock lock(&mutex_);
  return broken_rules_;
}

std::string HostDevice::first_broken_rule() const {
  MutexLock lock(&mutex_);
  return first_broken_rule_;
}

}  // namespace agentmem
