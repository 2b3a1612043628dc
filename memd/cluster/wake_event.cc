#include "memd/cluster/wake_event.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#include "base/check.h"

namespace agentmem {

WakeEvent::WakeEvent() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  AGENTMEM_CHECK(event_.valid());
}

void WakeEvent::Signal() {
  const std::uint64_t one = 1;
  // Full only if it is signalled already.
  [[maybe_unused]] const ssize_t ignored =
      write(event_.get(), &one, sizeof(one));
}

bool WakeEvent::Wait(TimeNs deadline) {
  while (true) {
    const DurationNs left =
        deadline == kNoDeadline
            ? 0
            : std::max<DurationNs>(deadline - MonotonicNowNs(), 0);
    const timespec timeout = {left / kSecondNs, left % kSecondNs};
    pollfd event = {event_.get(), POLLIN, 0};
    const int ready =
        ppoll(&event, 1, deadline == kNoDeadline ? nullptr : &timeout, nullptr);
    if (ready > 0) {
      std::uint64_t count;
      return read(event_.get(), &count, sizeof(count)) == sizeof(count);
    }
    if (ready == 0) return false;
  }
}

}  // namespace agentmem
