// What lies in device memory, written and read without libagentmem: plain
// copies by the GPU, or by memcpy where there is none (the host device's
// memory is this process's).
//
// Ownership: owns a handle of the device and a page of pinned memory. Threads:
// thread-compatible. Errors: the device's. Cost: a copy a run, waited for.
#ifndef AGENTMEM_TESTS_DEMO_DEVICE_BYTES_H_
#define AGENTMEM_TESTS_DEMO_DEVICE_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace agentmem::demo {

class DeviceBytes {
 public:
  // At most so many bytes in a call. The GPU of index 0, or none.
  static absl::StatusOr<std::unique_ptr<DeviceBytes>> Make(std::size_t bytes);
  ~DeviceBytes();
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;

  bool is_gpu() const { return gpu_ != nullptr; }
  // Empty: it is one.
  const std::string& why_no_gpu() const { return why_no_gpu_; }
  // Runs of `run_bytes` at these addresses, one after the other in memory.
  absl::Status Write(std::span<const std::uint64_t> addresses,
                     std::uint32_t run_bytes, std::span<const std::byte> from);
  absl::Status Read(std::span<const std::uint64_t> addresses,
                    std::uint32_t run_bytes, std::span<std::byte> to);

 private:
  // cuda/device.h is of the product's inside, and does not go together with the
  // C++ layer that engines use.
  class Gpu;

  DeviceBytes();

  std::unique_ptr<Gpu> gpu_;  // null: there is none
  std::string why_no_gpu_;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_DEVICE_BYTES_H_
