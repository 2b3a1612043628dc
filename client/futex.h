// Waiting on a 32-bit word that another process changes.
//
// The word is in shared memory, so the private variants must not be used.
//
// Threads: thread-safe. Errors: none; every return is a reason to look again.
// Cost: one system call.
#ifndef AGENTMEM_CLIENT_FUTEX_H_
#define AGENTMEM_CLIENT_FUTEX_H_

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace agentmem::client {

// Returns when woken, when the word is not `expected`, after `timeout_ns`, or
// for a signal.
void FutexWait(std::atomic<std::uint32_t>* word, std::uint32_t expected,
               DurationNs timeout_ns);
void FutexWakeAll(std::atomic<std::uint32_t>* word);

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_FUTEX_H_
