// Streams and events of the emulated GPU.
//
// Ownership: a stream owns its thread, and what is posted to it keeps itself
// alive. Threads: thread-safe. Errors: work answers CUDA's codes; the first
// failure is the whole device's. Cost: a post is a lock and a wake-up.
#ifndef AGENTMEM_TESTS_EMULATION_GPU_STREAM_H_
#define AGENTMEM_TESTS_EMULATION_GPU_STREAM_H_

#include <driver_types.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

namespace agentmem::emulation {

// Passed, when its last record is done.
class GpuEvent {
 public:
  std::uint64_t Post();  // the record's number
  void Done(std::uint64_t number);
  bool HasPassed();
  std::uint64_t last_posted();
  void Await(std::uint64_t number);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t posted_ = 0;
  std::set<std::uint64_t> pending_;
};

class GpuStream {
 public:
  // Runs what is posted, in its order. `fails`: told what work answered.
  explicit GpuStream(std::function<void(cudaError_t)> fails);
  // What was posted is done before.
  ~GpuStream();
  GpuStream(const GpuStream&) = delete;
  GpuStream& operator=(const GpuStream&) = delete;

  void Post(std::function<cudaError_t()> work);
  void Drain();
  void Hold(bool is_held);
  std::uint64_t done();  // of what was posted

 private:
  void Run();

  const std::function<void(cudaError_t)> fails_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<cudaError_t()>> work_;
  std::uint64_t done_ = 0;
  bool is_busy_ = false;
  bool is_held_ = false;
  bool ends_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace agentmem::emulation

#endif  // AGENTMEM_TESTS_EMULATION_GPU_STREAM_H_
