// A device whose copies take the time that a test says, by a clock that moves
// when an event is asked for; it fails where it is told to, and knows what was
// not given back. It copies nothing.
//
// Threads: thread-compatible. Errors: the scripted ones; INVALID_ARGUMENT: a
// fragment outside of what was allocated and registered.
#ifndef AGENTMEM_TESTS_UNIT_CUDA_SCRIPTED_DEVICE_H_
#define AGENTMEM_TESTS_UNIT_CUDA_SCRIPTED_DEVICE_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "base/clock.h"
#include "cuda/device.h"

namespace agentmem {

class ScriptedDevice final : public Device {
 public:
  struct Cost {
    double fragment_ns = 0;
    double byte_ns = 0;
  };

  explicit ScriptedDevice(ManualClock* clock) : clock_(clock) {
    shown.name = "scripted";
    shown.multiprocessors = 7;
    shown.to_host = Stream::Of(100);
    shown.to_device = Stream::Of(200);
  }

  Cost& cost(Direction direction, CopyMethod method) {
    return costs_[{direction, method}];
  }

  // What a test sets.
  DeviceProperties shown;
  int fail_call = 0;   // the how manieth call that can fail does; 0: none
  int fail_query = 0;  // the same of events
  bool stuck = false;  // events do not pass before memory is freed
  std::map<int, DurationNs> hiccups;  // that much longer is the n-th copy

  // What it reads.
  int calls = 0;
  int queries = 0;
  int copies = 0;
  std::uint64_t allocated_bytes_max = 0;
  std::uint64_t copied_bytes_max = 0;
  std::uint64_t least_fragments = UINT64_MAX;
  std::uint64_t neighbours = 0;  // fragments behind the one before, both sides
  std::string broken;            // a rule of device.h that was not kept

  std::size_t left() const {
    return memory_.size() + registered_.size() + events_.size();
  }

  Outcome Allocate(std::uint64_t bytes, DeviceAddress* memory) override {
    if (Fails()) return Failure("Allocate");
    *memory = DeviceAddress(1 << 20);
    memory_[1 << 20] = bytes;
    allocated_bytes_max = std::max(allocated_bytes_max, bytes);
    return {};
  }
  void Free(DeviceAddress memory) override {
    if (memory_.erase(memory.value()) == 0) broken += "Free of what is not;";
    stuck = false;
    if (clock_->Now() < busy_until_) {
      clock_->Advance(busy_until_ - clock_->Now());
    }
  }
  Outcome Register(std::span<char> host, Registration what) override {
    if (what == Registration::kBegin) {
      if (Fails()) return Failure("Register");
      registered_[host.data()] = host.size();
      return {};
    }
    if (clock_->Now() < busy_until_ || stuck) broken += "taken from a copy;";
    const auto found = registered_.find(host.data());
    if (found == registered_.end() || found->second != host.size()) {
      broken += "registration of what is not;";
    } else {
      registered_.erase(found);
    }
    return {};
  }
  Outcome Copy(const CopyBatch& batch, Stream stream) override {
    if (Fails()) return Failure("Copy");
    if (!(stream == (batch.direction == Direction::kToHost
                         ? shown.to_host
                         : shown.to_device))) {
      broken += "the other direction's stream;";
    }
    ++copies;
    const Cost cost = costs_[{batch.direction, batch.method}];
    double ns =
        hiccups.contains(copies) ? static_cast<double>(hiccups.at(copies)) : 0;
    std::uint64_t bytes = 0;
    std::set<const char*> places;
    const Fragment* before = nullptr;
    for (const Fragment& fragment : batch.fragments) {
      if (!Known(fragment)) {
        return Fail(Code::kInvalidArgument, "a fragment of unknown memory");
      }
      places.insert(fragment.host);
      if (before != nullptr && before->host + before->bytes == fragment.host &&
          before->device + before->bytes == fragment.device) {
        ++neighbours;
      }
      before = &fragment;
      ns += cost.fragment_ns + cost.byte_ns * fragment.bytes;
      bytes += fragment.bytes;
    }
    if (places.size() != batch.fragments.size()) broken += "a place twice;";
    copied_bytes_max = std::max(copied_bytes_max, bytes);
    least_fragments =
        std::min<std::uint64_t>(least_fragments, batch.fragments.size());
    busy_until_ =
        std::max(busy_until_, clock_->Now()) + static_cast<DurationNs>(ns);
    return {};
  }
  Outcome Record(Stream, Event* event) override {
    if (Fails()) return Failure("Record");
    *event = Event(++next_event_);
    events_[next_event_] = busy_until_;
    return {};
  }
  EventState Query(Event event, Outcome* why) override {
    const auto found = events_.find(event.value());
    if (found == events_.end()) {
      broken += "an event that is not;";
      return EventState::kFailed;
    }
    clock_->Advance(kMicrosecondNs);
    if (++queries == fail_query) {
      events_.erase(found);
      if (why != nullptr) *why = Failure("Query");
      return EventState::kFailed;
    }
    if (stuck || clock_->Now() < found->second) return EventState::kPending;
    events_.erase(found);
    return EventState::kPassed;
  }
  Outcome Wait(Stream, Event) override { return {}; }
  const DeviceProperties& properties() const override { return shown; }

 private:
  bool Fails() { return ++calls == fail_call; }
  Outcome Failure(const char* verb) const {
    return Fail(Code::kUnavailable,
                std::string(verb) + " of scripted: the device was lost");
  }
  bool Known(const Fragment& fragment) const {
    const auto memory = memory_.upper_bound(fragment.device.value());
    const auto host = registered_.upper_bound(fragment.host);
    if (memory == memory_.begin() || host == registered_.begin()) return false;
    const auto m = std::prev(memory);
    const auto h = std::prev(host);
    return fragment.device.value() + fragment.bytes <= m->first + m->second &&
           fragment.host + fragment.bytes <= h->first + h->second;
  }

  ManualClock* const clock_;
  std::map<std::pair<Direction, CopyMethod>, Cost> costs_;
  std::map<std::uint64_t, std::uint64_t> memory_;
  std::map<const char*, std::size_t> registered_;
  std::map<std::uint64_t, TimeNs> events_;
  std::uint64_t next_event_ = 0;
  TimeNs busy_until_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_CUDA_SCRIPTED_DEVICE_H_
