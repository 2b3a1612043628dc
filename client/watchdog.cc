#include "client/watchdog.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "client/small_thread.h"
#include "proto/agent_messages.h"

namespace agentmem::client {
namespace {

constexpr short kHangUp = POLLRDHUP | POLLHUP | POLLERR | POLLNVAL;

}  // namespace

Outcome Watchdog::Start(int socket, const UserFault* faults) {
  socket_ = socket;
  faults_ = faults;
  stop_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  int error = stop_.valid() ? 0 : errno;
  if (error == 0) {
    error = StartSmallThread("agentmem-faults", &Watchdog::Run, this, &thread_);
  }
  if (error != 0) {
    return Fail(
        Code::kResourceExhausted,
        std::string("no thread to watch over faults: ") + std::strerror(error));
  }
  started_ = true;
  return {};
}

Watchdog::~Watchdog() {
  if (!started_) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written =
      write(stop_.get(), &one, sizeof(one));  // an eventfd at 0 has room
  pthread_join(thread_, nullptr);
}

void Watchdog::Add(WatchedRange* range) {
  MutexLock lock(&mutex_);
  range->expired = false;
  range->previous = nullptr;
  range->next = ranges_;
  if (ranges_ != nullptr) ranges_->previous = range;
  ranges_ = range;
}

void Watchdog::Remove(WatchedRange* range) {
  MutexLock lock(&mutex_);
  (range->previous != nullptr ? range->previous->next : ranges_) = range->next;
  if (range->next != nullptr) range->next->previous = range->previous;
}

void* Watchdog::Run(void* self) {
  static_cast<Watchdog*>(self)->Loop();
  return nullptr;
}

void Watchdog::Loop() {
  if (!AwaitHangUp()) return;
  const TimeNs gone_at = MonotonicNowNs();
  gone_.store(true, std::memory_order_release);
  WakeAll();
  for (;;) {
    pollfd waiting[2] = {{stop_.get(), POLLIN, 0}, {faults_->fd(), POLLIN, 0}};
    poll(waiting, 2, Expire(gone_at));
    if (waiting[0].revents != 0) return;
    if ((waiting[1].revents & POLLIN) != 0) AnswerFaults();
  }
}

// False: the connection ends.
bool Watchdog::AwaitHangUp() {
  for (;;) {
    pollfd waiting[2] = {{stop_.get(), POLLIN, 0}, {socket_, POLLRDHUP, 0}};
    poll(waiting, 2, -1);
    if (waiting[0].revents != 0) return false;
    if ((waiting[1].revents & kHangUp) != 0) return true;
  }
}

void Watchdog::WakeAll() {
  MutexLock lock(&mutex_);
  for (WatchedRange* range = ranges_; range != nullptr; range = range->next) {
    faults_->Wake(range->address, range->bytes);
  }
}

int Watchdog::Expire(TimeNs gone_at) {
  const TimeNs now = MonotonicNowNs();
  DurationNs next = kNoDeadline;
  MutexLock lock(&mutex_);
  for (WatchedRange* range = ranges_; range != nullptr; range = range->next) {
    if (range->expired || range->fault_timeout_ns > kNoDeadline - gone_at) {
      continue;
    }
    const DurationNs left = gone_at + range->fault_timeout_ns - now;
    if (left > 0) {
      next = std::min(next, left);
      continue;
    }
    range->expired = true;
    faults_->Wake(range->address, range->bytes);
  }
  if (next == kNoDeadline) return -1;
  return static_cast<int>(
      std::min<DurationNs>((next + 999'999) / 1'000'000, 60'000));
}

void Watchdog::AnswerFaults() {
  uffd_msg messages[16];
  const ssize_t got = read(faults_->fd(), messages, sizeof(messages));
  if (got <= 0) return;
  const std::size_t count = static_cast<std::size_t>(got) / sizeof(messages[0]);
  for (std::size_t i = 0; i < count; ++i) AnswerFault(messages[i]);
}

void Watchdog::AnswerFault(const uffd_msg& message) {
  if (message.event != UFFD_EVENT_PAGEFAULT) return;
  const std::uint64_t unit = message.arg.pagefault.address & ~(kUnitBytes - 1);
  if ((message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0) {
    faults_->Unprotect(unit, kUnitBytes);
    return;
  }
  MutexLock lock(&mutex_);
  const WatchedRange* range = ranges_;
  while (range != nullptr && unit - range->address >= range->bytes) {
    range = range->next;
  }
  if (range == nullptr) return;  // closed meanwhile
  if (!range->expired || !faults_->can_poison()) {
    waiting_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  // Counted before its toucher can see it.
  poisoned_.fetch_add(1, std::memory_order_relaxed);
  if (!faults_->Poison(unit, kUnitBytes)) {
    poisoned_.fetch_sub(1, std::memory_order_relaxed);
  }
}

}  // namespace agentmem::client
