// Waiting for the device: events are asked for, more and more seldom; and an
// event that could not be recorded is recorded later.
//
// Threads: any. Errors: WaitForDevice is false at the deadline. Cost: spins for
// some microseconds, then sleeps up to 100 us between two looks.
#ifndef AGENTMEM_CLIENT_KV_WAIT_H_
#define AGENTMEM_CLIENT_KV_WAIT_H_

#include <poll.h>
#include <time.h>

#include <algorithm>

#include "client/deadline.h"
#include "cuda/device.h"
#include "proto/outcome.h"

namespace agentmem::client {

// A device that has not ended a copy by then is taken for broken: copies of all
// of a large machine's DRAM take less.
inline constexpr std::uint64_t kDeviceBrokenNs = 30'000'000'000;

template <typename Done>
bool WaitForDevice(Done done, const Deadline& deadline) {
  constexpr int kLooksAtOnce = 64;
  constexpr long kSleepNsMin = 5'000;
  constexpr long kSleepNsMax = 100'000;
  long sleep_ns = kSleepNsMin;
  for (int look = 0;; ++look) {
    if (done()) return true;
    if (look < kLooksAtOnce) continue;
    if (deadline.Passed()) return false;
    // (A device's event is nothing that can be slept on beside a deadline.)
    const timespec pause = {0, sleep_ns};
    ppoll(nullptr, 0, &pause, nullptr);
    sleep_ns = std::min(2 * sleep_ns, kSleepNsMax);
  }
}

// Of what is posted to `stream`. While a device records no event, what it would
// stand behind is pending: it may be copied still. Only a device that is lost
// copies nothing (kFailed).
inline EventState QueryOrRecord(Device* device, Stream stream, Event* event,
                                Outcome* why) {
  if (event->value() == 0) {
    *why = device->Record(stream, event);
    if (why->code == Code::kUnavailable) return EventState::kFailed;
    if (!why->ok()) return EventState::kPending;
  }
  return device->Query(*event, why);
}

// False: it has not passed.
inline bool EndFence(Device* device, Event* fence) {
  if (fence->value() == 0) return true;
  if (device->Query(*fence, nullptr) == EventState::kPending) return false;
  *fence = Event();
  return true;
}

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_KV_WAIT_H_
