#include "memd/store/completion_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/check.h"
#include "base/status.h"

namespace agentmem {

CompletionQueue::CompletionQueue() = default;

absl::Status CompletionQueue::Open() {
  event_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_.valid()) {
    return ErrnoStatus("the store's completion eventfd cannot be made");
  }
  return absl::OkStatus();
}

void CompletionQueue::Push(std::span<const StoreCompletion> completions) {
  if (completions.empty()) return;
  MutexLock lock(&mutex_);
  const bool was_empty = queue_.empty();
  queue_.insert(queue_.end(), completions.begin(), completions.end());
  if (was_empty) {
    const std::uint64_t one = 1;
    AGENTMEM_CHECK(::write(event_.get(), &one, sizeof(one)) == sizeof(one));
  }
}

std::size_t CompletionQueue::Pop(std::span<StoreCompletion> out) {
  MutexLock lock(&mutex_);
  const std::size_t count = std::min(out.size(), queue_.size());
  if (count == 0) return 0;
  const auto end = queue_.begin() + static_cast<std::ptrdiff_t>(count);
  std::copy(queue_.begin(), end, out.begin());
  queue_.erase(queue_.begin(), end);
  if (queue_.empty()) {
    std::uint64_t value;
    AGENTMEM_CHECK(::read(event_.get(), &value, sizeof(value)) ==
                   sizeof(value));
  }
  return count;
}

}  // namespace agentmem
