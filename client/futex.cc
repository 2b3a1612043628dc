#include "client/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>

namespace agentmem::client {

void FutexWait(std::atomic<std::uint32_t>* word, std::uint32_t expected,
               DurationNs timeout_ns) {
  const timespec timeout = {
      static_cast<time_t>(timeout_ns / kSecondNs),
      static_cast<long>(timeout_ns % kSecondNs)};  // NOLINT: timespec's type
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(word), FUTEX_WAIT,
          expected, &timeout, nullptr, 0);
}

void FutexWakeAll(std::atomic<std::uint32_t>* word) {
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(word), FUTEX_WAKE,
          INT_MAX, nullptr, nullptr, 0);
}

}  // namespace agentmem::client
