// Device memory, and two stretches of host memory as long that the device may
// reach: one that is written from, one that is written to.
//
// Host memory is registered in chunks, as libagentmem registers the pool, so a
// fragment lies in one of them.
//
// Ownership: owns all three; borrows the device. Threads: thread-compatible.
// Errors: the device's, and RESOURCE_EXHAUSTED for host memory. Cost: pages are
// touched and pinned at the start, at 1 to 2 GB/s; the end waits for the
// device.
#ifndef AGENTMEM_BENCHMARKS_HBM_MEMORY_H_
#define AGENTMEM_BENCHMARKS_HBM_MEMORY_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "base/status.h"
#include "cuda/device.h"

namespace agentmem::bench {

inline absl::Status ToAbsl(const Outcome& outcome) {
  if (outcome.ok()) return absl::OkStatus();
  return MakeStatus(static_cast<absl::StatusCode>(outcome.code),
                    outcome.message);
}

class HbmMemory {
 public:
  // Also the longest pinned copy: what the others are compared with.
  static constexpr std::uint64_t kChunkBytes = 256 << 20;

  explicit HbmMemory(Device* device) : device_(device) {}
  ~HbmMemory();
  HbmMemory(const HbmMemory&) = delete;
  HbmMemory& operator=(const HbmMemory&) = delete;

  absl::Status Take(std::uint64_t bytes);
  // Without the host's.
  absl::Status TakeDevice(std::uint64_t bytes);

  DeviceAddress device() const { return memory_; }
  std::span<char> source() const { return source_; }
  std::span<char> output() const { return output_; }

 private:
  absl::Status TakeHost(std::uint64_t bytes, std::span<char>* host);

  Device* const device_;
  DeviceAddress memory_;
  std::span<char> source_;
  std::span<char> output_;
  std::vector<std::span<char>> registered_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_HBM_MEMORY_H_
