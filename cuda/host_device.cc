#include "cuda/host_device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace agentmem {
namespace {

constexpr std::uint64_t kAlignment = 256;
constexpr std::uint32_t kPlaceBits = 20;

constexpr const char* kPointNames[] = {"Allocate", "Register", "Copy",
                                       "a copy",   "Record",   "Wait"};

std::string Number(std::uint64_t value) { return std::to_string(value); }

}  // namespace

bool HostDevice::Within(const std::map<std::uint64_t, std::uint64_t>& ranges,
                        std::uint64_t begin, std::uint64_t bytes) {
  auto range = ranges.upper_bound(begin);
  if (range == ranges.begin()) return false;
  --range;
  const std::uint64_t offset = begin - range->first;
  return offset <= range->second && bytes <= range->second - offset;
}

Outcome HostDevice::LostOutcome(const char* call) {
  return Fail(Code::kUnavailable,
              std::string(call) + ": the host device is lost");
}

HostDevice::HostDevice(Options options)
    : options_(std::move(options)), held_(options_.held) {
  properties_.name = "host";
  properties_.id = "host";
  properties_.memory_bytes = options_.memory_bytes;
  properties_.multiprocessors = 1;
  properties_.copy_engines = 1;
  properties_.copies_batches = true;
  properties_.kernel_fragments_max = options_.kernel_fragments_max;
  properties_.stages = options_.kernel_fragments_max != 0;
  properties_.to_host = Stream::Of(0x100);
  properties_.to_device = Stream::Of(0x101);
  properties_.gather = Stream::Of(0x102);
  properties_.scatter = Stream::Of(0x103);
  properties_.down = Stream::Of(0x104);
  properties_.up = Stream::Of(0x105);
  for (const Failure& failure : options_.failures) FailNth(failure);
  started_ = pthread_create(
                 &thread_, nullptr,
                 [](void* self) -> void* {
                   static_cast<HostDevice*>(self)->Loop();
                   return nullptr;
                 },
                 this) == 0;
  MutexLock lock(&mutex_);
  lost_ = !started_;
}

HostDevice::~HostDevice() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    work_.NotifyOne();
  }
  if (started_) pthread_join(thread_, nullptr);
  MutexLock lock(&mutex_);
  for (const auto& [at, bytes] : allocated_) {
    std::free(Bytes(DeviceAddress(at)));
  }
}

char* HostDevice::Bytes(DeviceAddress at) {
  return reinterpret_cast<char*>(at.value());
}

Outcome HostDevice::Allocate(std::uint64_t bytes, DeviceAddress* memory) {
  MutexLock lock(&mutex_);
  if (Outcome passes = Passes(Point::kAllocate, "Allocate"); !passes.ok()) {
    return passes;
  }
  if (bytes == 0) {
    return Fail(Code::kInvalidArgument,
                "Allocate on the host device: 0 bytes were asked for");
  }
  const std::uint64_t left = options_.memory_bytes - counts_.allocated_bytes;
  void* fresh = nullptr;
  if (bytes <= left) {
    const std::uint64_t whole = (bytes + kAlignment - 1) & ~(kAlignment - 1);
    fresh = std::aligned_alloc(kAlignment, whole);
  }
  if (fresh == nullptr) {
    return Fail(Code::kResourceExhausted,
                "Allocate on the host device: " + Number(bytes) +
                    " bytes were asked for, " + Number(left) + " of " +
                    Number(options_.memory_bytes) + " are free");
  }
  std::memset(fresh, kPoison, bytes);
  *memory = DeviceAddress(AddressOf(static_cast<char*>(fresh)));
  allocated_.emplace(memory->value(), bytes);
  counts_.allocated_bytes += bytes;
  return {};
}

void HostDevice::Free(DeviceAddress memory) {
  MutexLock lock(&mutex_);
  auto found = allocated_.find(memory.value());
  if (found == allocated_.end()) {
    Broke("Free of an address that Allocate did not give");
    return;
  }
  if (!lost_ && Touched(found->first, found->second)) {
    Broke("Free of memory that a posted copy touches");
  }
  AwaitPosted();
  // Looked for again: the wait let others in.
  found = allocated_.find(memory.value());
  if (found == allocated_.end()) return Broke("Free by two threads at once");
  counts_.allocated_bytes -= found->second;
  allocated_.erase(found);
  std::free(Bytes(memory));
}

Outcome HostDevice::Register(std::span<char> host, Registration what) {
  MutexLock lock(&mutex_);
  const std::uint64_t begin = AddressOf(host.data());
  const std::string text =
      "Register of " + Number(host.size()) + " bytes with the host device: ";
  if (what == Registration::kBegin) {
    if (Outcome passes = Passes(Point::kRegister, "Register"); !passes.ok()) {
      return passes;
    }
    if (host.empty()) return Fail(Code::kInvalidArgument, text + "none");
    auto after = registered_.lower_bound(begin);
    bool taken = after != registered_.end() &&
                 Overlap(begin, host.size(), after->first, after->second);
    if (after != registered_.begin()) {
      --after;
      taken |= Overlap(begin, host.size(), after->first, after->second);
    }
    if (taken) {
      return Fail(Code::kInvalidArgument, text + "some are registered already");
    }
    registered_.emplace(begin, host.size());
    counts_.registered_bytes += host.size();
    return {};
  }
  auto found = registered_.find(begin);
  if (found == registered_.end() || found->second != host.size()) {
    return Fail(Code::kInvalidArgument,
                text + "to be ended, but no such range was registered");
  }
  if (!lost_ && Touched(begin, host.size())) {
    Broke("the end of a registration that a posted copy touches");
  }
  AwaitPosted();
  registered_.erase(begin);
  counts_.registered_bytes -= host.size();
  return {};
}

Outcome HostDevice::Copy(const CopyBatch& batch, Stream stream) {
  MutexLock lock(&mutex_);
  if (Outcome passes = Passes(Point::kPost, "Copy"); !passes.ok()) {
    return passes;
  }
  if (batch.fp8 != nullptr) {
    return PostFp8(batch, stream);
  }
  for (std::size_t i = 0; i < batch.fragments.size(); ++i) {
    Outcome checked = CheckFragment(batch.fragments[i], i);
    if (!checked.ok()) return checked;
  }
  if (batch.method != CopyMethod::kCopyEngine &&
      options_.kernel_fragments_max != 0 &&
      batch.fragments.size() > options_.kernel_fragments_max) {
    return Fail(Code::kInvalidArgument,
                "Copy on the host device: " + Number(batch.fragments.size()) +
                    " fragments by a kernel, at most " +
                    Number(options_.kernel_fragments_max));
  }
  if (batch.fragments.empty()) return {};
  Work& work = Post(stream, Work::Kind::kCopy);
  work.direction = batch.direction;
  work.method = batch.method;
  work.fragments.assign(batch.fragments.begin(), batch.fragments.end());
  counts_.fragments_pending += batch.fragments.size();
  return {};
}

Outcome HostDevice::CheckFragment(const Fragment& fragment,
                                  std::size_t index) const {
  const char* wrong = nullptr;
  if (fragment.bytes == 0) {
    wrong = " is of 0 bytes";
  } else if (!Within(allocated_, fragment.device.value(), fragment.bytes)) {
    wrong = " lies outside of the device memory that was allocated";
  } else if (!Within(registered_, AddressOf(fragment.host), fragment.bytes) &&
             !Within(allocated_, AddressOf(fragment.host), fragment.bytes)) {
    wrong =
        " lies outside of the host memory that was registered, and of the "
        "device's";
  } else {
    return {};
  }
  return Fail(Code::kInvalidArgument,
              "Copy on the host device: fragment " + Number(index) + " (" +
                  Number(fragment.bytes) + " bytes)" + wrong);
}

Outcome HostDevice::Record(Stream stream, Event* event) {
  MutexLock lock(&mutex_);
  if (Outcome passes = Passes(Point::kRecord, "Record"); !passes.ok()) {
    return passes;
  }
  if (free_places_.empty()) {
    if (places_.size() >= options_.pending_events_max ||
        places_.size() >> kPlaceBits != 0) {
      return Fail(Code::kResourceExhausted,
                  "Record on the host device: " + Number(places_.size()) +
                      " events are pending, as many as it keeps: end some "
                      "with Query");
    }
    free_places_.push_back(static_cast<std::uint32_t>(places_.size()));
    places_.emplace_back();
  }
  const std::uint32_t index = free_places_.back();
  free_places_.pop_back();
  Place& place = places_[index];
  ++place.turn;
  place.event = std::make_shared<Recorded>();
  Post(stream, Work::Kind::kRecord).event = place.event;
  ++counts_.events_pending;
  *event = Event((place.turn << kPlaceBits) | index);
  return {};
}

EventState HostDevice::Query(Event event, Outcome* why) {
  if (event == Event()) return EventState::kPassed;
  MutexLock lock(&mutex_);
  Outcome failed;
  EventState state = EventState::kFailed;
  if (Place* place = Find(event); lost_) {
    failed = LostOutcome("Query");
  } else if (place == nullptr) {
    Broke("Query of an event that was ended, or never recorded");
    failed =
        Fail(Code::kInvalidArgument, "Query on the host device: no such event");
  } else if (place->event->state == EventState::kPending) {
    return EventState::kPending;
  } else {
    state = place->event->state;
    failed = std::move(place->event->why);
    place->event.reset();
    free_places_.push_back(static_cast<std::uint32_t>(place - places_.data()));
    --counts_.events_pending;
  }
  if (why != nullptr && state == EventState::kFailed) *why = std::move(failed);
  return state;
}

Outcome HostDevice::Wait(Stream stream, Event event) {
  MutexLock lock(&mutex_);
  if (Outcome passes = Passes(Point::kWait, "Wait"); !passes.ok()) {
    return passes;
  }
  if (event == Event()) return {};
  const Place* place = Find(event);
  if (place == nullptr) {
    Broke("Wait for an event that was ended, or never recorded");
    return Fail(Code::kInvalidArgument,
                "Wait on the host device: no such event");
  }
  Post(stream, Work::Kind::kWait).event = place->event;
  return {};
}

HostDevice::Place* HostDevice::Find(Event event) {
  const std::uint64_t index = event.value() & ((1u << kPlaceBits) - 1);
  if (index >= places_.size()) return nullptr;
  Place& place = places_[index];
  if (place.turn != event.value() >> kPlaceBits) return nullptr;
  return place.event != nullptr ? &place : nullptr;
}

HostDevice::Work& HostDevice::Post(Stream stream, Work::Kind kind) {
  Queue& queue = queues_[stream.native()];
  Work& work = queue.work.emplace_back();
  work.kind = kind;
  work.posted = ++posted_;
  work_.NotifyOne();
  return work;
}

Outcome HostDevice::Passes(Point point, const char* call) {
  if (lost_) return LostOutcome(call);
  const auto at = static_cast<std::size_t>(point);
  Outcome outcome;
  std::erase_if(armed_[at], [&](Armed& armed) {
    if (--armed.left > 0) return false;
    outcome = Fail(armed.code, std::string(kPointNames[at]) +
                                   " on the host device: failed, as asked for");
    return true;
  });
  return outcome;
}

}  // namespace agentmem
