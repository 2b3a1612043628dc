// A Device without a GPU: device memory is malloc, copies run on a thread of
// its own. Everything above Device runs on it, in tests and in the demo, so it
// is strict where CUDA is lax: device addresses outside of an allocation are
// refused, what is freed under a copy is counted, fresh memory is poison.
//
// The thread takes the streams in turn, one step of each: a fragment or an FP8
// piece of a batch, an event, or a wait. So bytes move only between the post
// and the event, streams keep their order, and two of them interleave. All
// Stream values are streams here, the default ones too (they wait for no
// other).
//
// A test holds the thread and steps it: Hold, post, Step(1), look. Nothing here
// reads a clock.
//
// A copy that fails leaves its stream failed: what is posted there is not
// copied, and its events, and those of streams that wait for them, fail, until
// Mend. (CUDA goes further: there, the device is lost. That is Lose.)
//
// Ownership: owns its memory, also what was not freed. Work that was not done
// when it ends is dropped. Threads: thread-safe; Hold, Step and Run are one
// thread's. Errors: those of Device; a call that breaks a rule of device.h
// without having an Outcome is counted (broken_rules). Cost: a post copies its
// fragments; Free and Register wait for all that was posted before (also while
// it is held: another thread must step it then).
#ifndef AGENTMEM_CUDA_HOST_DEVICE_H_
#define AGENTMEM_CUDA_HOST_DEVICE_H_

#include <pthread.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "cuda/device.h"
#include "cuda/fp8_batch.h"

namespace agentmem {

class HostDevice final : public Device {
 public:
  // Where a failure can be asked for.
  enum class Point : std::uint8_t {
    kAllocate,
    kRegister,  // only of kBegin
    kPost,      // a call of Copy
    kCopy,      // a fragment or a piece, when its turn comes
    kRecord,
    kWait,
  };
  // The nth passage of the point fails, counted from 1.
  struct Failure {
    Point point = Point::kAllocate;
    std::uint64_t nth = 1;
    Code code = Code::kResourceExhausted;
  };
  struct Options {
    std::uint64_t memory_bytes = 1ULL << 30;
    std::uint32_t pending_events_max = 4096;
    std::uint32_t kernel_fragments_max = 32768;
    bool held = false;
    std::vector<Failure> failures;
  };
  struct Counts {
    std::uint64_t allocated_bytes = 0;  // now
    std::uint64_t registered_bytes = 0;
    std::uint64_t fragments_pending = 0;  // and pieces of FP8
    std::uint64_t events_pending = 0;     // recorded, not ended by Query
    std::uint64_t fragments_copied = 0;
    std::uint64_t bytes_to_host = 0;
    std::uint64_t bytes_to_device = 0;
    std::uint64_t bytes_within = 0;      // from device memory to device memory
    std::uint64_t kernel_fragments = 0;  // of those copied, what kKernel took
    std::uint64_t fp8_pieces = 0;        // that became FP8, or were it
    std::uint64_t fp8_batches = 0;       // of them, as they were posted
  };

  static constexpr char kPoison = '\xA5';

  explicit HostDevice(Options options);
  ~HostDevice() override;
  HostDevice(const HostDevice&) = delete;
  HostDevice& operator=(const HostDevice&) = delete;

  Outcome Allocate(std::uint64_t bytes, DeviceAddress* memory) override;
  void Free(DeviceAddress memory) override;
  Outcome Register(std::span<char> host, Registration what) override;
  Outcome Copy(const CopyBatch& batch, Stream stream) override;
  Outcome Record(Stream stream, Event* event) override;
  EventState Query(Event event, Outcome* why) override;
  Outcome Wait(Stream stream, Event event) override;
  const DeviceProperties& properties() const override { return properties_; }

  // No step is taken from here on; returns when none is under way.
  void Hold();
  // Takes `steps` steps, or as many as can be taken, and holds again. Answers
  // how many were taken.
  std::uint64_t Step(std::uint64_t steps);
  std::uint64_t StepStream(Stream stream, std::uint64_t steps);
  void Run();
  // Returns when nothing is left that can be done. Not while held.
  void Drain();

  // As in Options, counted from here on.
  void FailNth(Failure failure);
  // What was asked for and has not failed yet does not.
  void Disarm();
  // Failed streams work again; what they skipped stays skipped.
  void Mend();
  // The device is lost: everything fails with UNAVAILABLE from here on.
  void Lose();

  Counts counts() const;
  std::uint64_t broken_rules() const;
  std::string first_broken_rule() const;
  // For tests that look into device memory: it is this process's.
  static char* Bytes(DeviceAddress at);

 private:
  struct Recorded {
    EventState state = EventState::kPending;
    Outcome why;
  };
  // What was posted by one call. `event`: of a record or a wait.
  struct Work {
    enum class Kind : std::uint8_t { kCopy, kFp8, kRecord, kWait };
    Kind kind = Kind::kCopy;
    std::uint64_t posted = 0;  // its place in the order of all posts
    Direction direction = Direction::kToHost;
    CopyMethod method = CopyMethod::kCopyEngine;
    std::vector<Fragment> fragments;
    Fp8Shape shape;  // of kFp8, and what follows
    std::vector<Fp8Piece> pieces;
    std::vector<std::uint32_t> pages;
    std::size_t next = 0;  // of the fragments or pieces
    std::shared_ptr<Recorded> event;
  };
  struct Queue {
    std::deque<Work> work;
    Outcome failed;  // OK: it has not
  };
  // An event's id is its place and the place's turn.
  struct Place {
    std::uint64_t turn = 0;
    std::shared_ptr<Recorded> event;  // null: free
  };
  struct Armed {
    std::uint64_t left = 0;
    Code code = Code::kOk;
  };
  static constexpr std::size_t kPoints = 6;

  static std::uint64_t AddressOf(const char* host) {
    return reinterpret_cast<std::uint64_t>(host);
  }
  // Do [begin, begin + bytes) and [other, other + other_bytes) share a byte?
  static bool Overlap(std::uint64_t begin, std::uint64_t bytes,
                      std::uint64_t other, std::uint64_t other_bytes) {
    return begin < other + other_bytes && other < begin + bytes;
  }
  // Does one range of `ranges` (address -> bytes) hold all of it?
  static bool Within(const std::map<std::uint64_t, std::uint64_t>& ranges,
                     std::uint64_t begin, std::uint64_t bytes);
  static bool PieceTouches(const Work& work, const Fp8Piece& piece,
                           std::uint64_t begin, std::uint64_t bytes);
  static Outcome LostOutcome(const char* call);

  void Loop();
  Queue* Next() AGENTMEM_REQUIRES(mutex_);
  void TakeStep(Queue* queue) AGENTMEM_REQUIRES(mutex_);
  void CopyOne(Queue* queue) AGENTMEM_REQUIRES(mutex_);
  void ConvertOne(Queue* queue) AGENTMEM_REQUIRES(mutex_);
  std::uint64_t StepOn(const Stream* stream, std::uint64_t steps);
  bool Blocked(const Queue& queue) const AGENTMEM_REQUIRES(mutex_);
  Work& Post(Stream stream, Work::Kind kind) AGENTMEM_REQUIRES(mutex_);
  // Waits until all that was posted before this call is done.
  void AwaitPosted() AGENTMEM_REQUIRES(mutex_);
  bool Pending(std::uint64_t posted_before) const AGENTMEM_REQUIRES(mutex_);
  // Is a copy posted that touches these bytes?
  bool Touched(std::uint64_t begin, std::uint64_t bytes) const
      AGENTMEM_REQUIRES(mutex_);
  Outcome Passes(Point point, const char* call) AGENTMEM_REQUIRES(mutex_);
  Outcome CheckFragment(const Fragment& fragment, std::size_t index) const
      AGENTMEM_REQUIRES(mutex_);
  Outcome PostFp8(const CopyBatch& copy, Stream stream)
      AGENTMEM_REQUIRES(mutex_);
  Outcome CheckPiece(const Fp8Batch& batch, std::size_t index) const
      AGENTMEM_REQUIRES(mutex_);
  Place* Find(Event event) AGENTMEM_REQUIRES(mutex_);
  void Broke(std::string rule) AGENTMEM_REQUIRES(mutex_);

  const Options options_;
  DeviceProperties properties_;
  pthread_t thread_ = {};
  bool started_ = false;

  mutable Mutex mutex_;
  CondVar work_;  // the thread may have something to do
  CondVar done_;  // a step was taken
  std::map<std::uint64_t, std::uint64_t> allocated_
      AGENTMEM_GUARDED_BY(mutex_);  // address -> bytes
  std::map<std::uint64_t, std::uint64_t> registered_
      AGENTMEM_GUARDED_BY(mutex_);
  std::map<std::uint64_t, Queue> queues_ AGENTMEM_GUARDED_BY(mutex_);
  std::uint64_t last_stream_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  std::uint64_t posted_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  std::vector<Place> places_ AGENTMEM_GUARDED_BY(mutex_);
  std::vector<std::uint32_t> free_places_ AGENTMEM_GUARDED_BY(mutex_);
  std::array<std::vector<Armed>, kPoints> armed_ AGENTMEM_GUARDED_BY(mutex_);
  bool held_ AGENTMEM_GUARDED_BY(mutex_);
  bool stepping_ AGENTMEM_GUARDED_BY(mutex_) = false;  // one is under way
  bool stopping_ AGENTMEM_GUARDED_BY(mutex_) = false;
  bool lost_ AGENTMEM_GUARDED_BY(mutex_) = false;
  std::uint64_t allowed_ AGENTMEM_GUARDED_BY(mutex_) = 0;  // while held
  const Stream* only_ AGENTMEM_GUARDED_BY(mutex_) = nullptr;
  Counts counts_ AGENTMEM_GUARDED_BY(mutex_);
  std::uint64_t broken_rules_ AGENTMEM_GUARDED_BY(mutex_) = 0;
  std::string first_broken_rule_ AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_HOST_DEVICE_H_
