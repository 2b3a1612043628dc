// A bare userfaultfd: shared memory whose missing pages a thread of this
// process copies in, 64 KiB at a time, as soon as it sees the fault. What a
// pager can be at best on this machine.
//
// Ownership: owns memory, descriptor and thread. Threads: thread-compatible.
// Errors: what could not be had. Cost: the thread never sleeps.
#ifndef AGENTMEM_BENCHMARKS_RAW_FAULTS_H_
#define AGENTMEM_BENCHMARKS_RAW_FAULTS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace agentmem::bench {

class RawFaults {
 public:
  static constexpr std::uint64_t kPage = 64 << 10;

  // `bytes`: whole pages.
  static absl::StatusOr<std::unique_ptr<RawFaults>> Make(std::uint64_t bytes);
  ~RawFaults();

  const std::byte* data() const { return static_cast<std::byte*>(memory_); }

 private:
  explicit RawFaults(std::uint64_t bytes) : bytes_(bytes), page_(kPage) {}
  absl::Status Register();
  void Serve();

  const std::uint64_t bytes_;
  std::vector<std::byte> page_;
  UniqueFd memfd_;
  UniqueFd faults_;
  void* memory_ = nullptr;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_RAW_FAULTS_H_
