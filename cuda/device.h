// A GPU as agentmem needs it: eight verbs. CUDA is behind it
// (cuda/cuda_device), or threads and malloc (cuda/host_device), so that
// everything above is the same code where there is no GPU.
//
// What a copy touches must stay until its event has passed: device memory, host
// memory, its registration. (The arrays of a CopyBatch are read in the call.)
//
// Work on one stream runs in its order; work on several at once. An event is
// recorded on a stream and passes when all that was posted there before it is
// done. Whoever recorded an event ends it with Query, once that has not
// answered kPending: its place is used anew. Events of a Device that ends first
// are void.
//
// A copy that fails on the device is told by events: by all that are recorded
// on its stream behind it, since nobody knows whose copy it was. With CUDA the
// device is lost then.
//
// Ownership: a Device owns its context, its streams and events; memory that is
// allocated here is the caller's until Free. Threads: all verbs are
// thread-safe. Errors: each returns an Outcome that names the call, the size
// and the device; RESOURCE_EXHAUSTED: no memory, the caller makes room and
// tries again; UNAVAILABLE: no such device, or it was lost: everything fails
// from there on. Nothing aborts. Cost: in each verb; nothing waits for the
// device but Free and Register.
#ifndef AGENTMEM_CUDA_DEVICE_H_
#define AGENTMEM_CUDA_DEVICE_H_

#include <cstdint>
#include <span>
#include <string>

#include "base/strong_id.h"
#include "proto/outcome.h"

namespace agentmem {

// An address in device memory. Not a pointer: nobody here reads through it.
using DeviceAddress = StrongId<struct DeviceAddressTag, std::uint64_t>;

constexpr DeviceAddress operator+(DeviceAddress at, std::uint64_t bytes) {
  return DeviceAddress(at.value() + bytes);
}

// A queue of the device's work, by the native handle (cudaStream_t). Does not
// own it. There is no default one: who means CUDA's says so.
class Stream {
 public:
  static constexpr Stream Of(std::uint64_t native) { return Stream(native); }
  static constexpr Stream LegacyDefault() { return Stream(1); }
  static constexpr Stream PerThreadDefault() { return Stream(2); }
  constexpr std::uint64_t native() const { return native_; }
  friend constexpr bool operator==(Stream, Stream) = default;

 private:
  constexpr explicit Stream(std::uint64_t native) : native_(native) {}

  std::uint64_t native_;
};

// 0: none. Passed already, where it is waited for.
using Event = StrongId<struct EventTag, std::uint64_t>;

enum class EventState : std::uint8_t { kPending, kPassed, kFailed };

// Bytes that lie together on both sides. `host` lies in registered memory, all
// of it in one range of Register; or in memory of this device, all of it in one
// range of Allocate: a copy within it, by the direction from or to `device`.
struct Fragment {
  DeviceAddress device;
  char* host = nullptr;
  std::uint32_t bytes = 0;
};

enum class Direction : std::uint8_t { kToHost, kToDevice };

enum class CopyMethod : std::uint8_t {
  kCopyEngine,  // DMA: takes no multiprocessor
  kKernel,      // gather or scatter, a few multiprocessors, 16 bytes at a time
  // As kKernel, between the fragments and a ring in the device's memory, and
  // DMA between that and the host, in pieces that lie together there. (A kernel
  // that reads the host's memory has two thirds of the bus on an H100.) On
  // to_host or to_device, by the direction; on another stream it is kKernel.
  kStaged,
};

struct Fp8Batch;  // cuda/fp8_batch.h

// In no order: what is written by one fragment, or piece of `fp8`, belongs to
// no other of the batch.
struct CopyBatch {
  Direction direction = Direction::kToHost;
  CopyMethod method = CopyMethod::kCopyEngine;
  std::span<const Fragment> fragments;
  // Not null: KV that becomes FP8 on its way out of the device, and what it was
  // on its way in. By kernels, whatever `method` is, and without fragments.
  const Fp8Batch* fp8 = nullptr;
};

// Longer ones are no case for kKernel, wherever a machine's crossover lies: a
// warp copies a fragment.
inline constexpr std::uint32_t kKernelFragmentBytesMax = 64u << 10;

// Others of a kKernel or kStaged batch go by the copy engine.
inline bool KernelTakes(const Fragment& fragment) {
  const std::uint64_t places = fragment.device.value() |
                               reinterpret_cast<std::uint64_t>(fragment.host) |
                               fragment.bytes;
  return places % 16 == 0 && fragment.bytes <= kKernelFragmentBytesMax;
}

struct DeviceProperties {
  std::string name;  // as the driver says; "host" of the host device
  std::string id;    // of it alone on this node: its UUID; "host"
  std::uint64_t memory_bytes = 0;
  std::uint32_t multiprocessors = 0;
  std::uint32_t copy_engines = 0;
  std::uint32_t compute_major = 0;
  std::uint32_t compute_minor = 0;
  bool copies_batches = false;  // many fragments in one call of the driver
  // Of a kKernel or kStaged batch, and descriptors of one of FP8. 0: no kernels
  // here, the copy engine takes all, and there is no FP8.
  std::uint32_t kernel_fragments_max = 0;
  bool stages = false;  // else kStaged is kKernel
  // Streams of its own, one a direction: copies both ways at once.
  Stream to_host = Stream::LegacyDefault();
  Stream to_device = Stream::LegacyDefault();
  // And for what stays within the device, beside what leaves it or comes in.
  Stream gather = Stream::LegacyDefault();
  Stream scatter = Stream::LegacyDefault();
  // And for what goes down or comes up by itself, behind no engine's work.
  Stream down = Stream::LegacyDefault();
  Stream up = Stream::LegacyDefault();
};

class Device {
 public:
  virtual ~Device() = default;

  // Aligned to 256 bytes or more. RESOURCE_EXHAUSTED: too little is free.
  virtual Outcome Allocate(std::uint64_t bytes, DeviceAddress* memory) = 0;
  // Waits for what runs on the device. An address that Allocate did not give is
  // left alone.
  virtual void Free(DeviceAddress memory) = 0;
  // The device may reach `host` from here on, or (kEnd) no more: exactly a
  // range that was registered. Runs at 1 to 2 GB/s: once, in chunks, at start.
  enum class Registration : std::uint8_t { kBegin, kEnd };
  virtual Outcome Register(std::span<char> host, Registration what) = 0;
  // Posts the copies to `stream`. INVALID_ARGUMENT, nothing posted: a fragment
  // of 0 bytes, or whose `host` is neither registered nor of this device, or
  // more of them than kernel_fragments_max; FP8 that is not as fp8_batch.h
  // says. FAILED_PRECONDITION, nothing posted: FP8 without kernels; the stream
  // is being captured into a graph.
  // RESOURCE_EXHAUSTED, nothing posted: the kernels under way have all
  // descriptors; try again when an event has passed. After another error some
  // may be posted: their memory stays until an event behind them.
  virtual Outcome Copy(const CopyBatch& batch, Stream stream) = 0;
  // RESOURCE_EXHAUSTED: more events are pending than the device keeps.
  // FAILED_PRECONDITION, here and of Wait: as of Copy.
  virtual Outcome Record(Stream stream, Event* event) = 0;
  // kFailed: what it stood behind failed (told in `why`, if that is not null).
  virtual EventState Query(Event event, Outcome* why) = 0;
  // What is posted to `stream` from here on waits for the event; the caller
  // does not. INVALID_ARGUMENT: the event was ended by Query.
  virtual Outcome Wait(Stream stream, Event event) = 0;
  virtual const DeviceProperties& properties() const = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_DEVICE_H_
