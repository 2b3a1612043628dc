// Work that keeps a device busy for a while: a stand-in for a model, beside
// which copies run.
//
// On a GPU it is a kernel that all multiprocessors multiply and add in, or one
// that reads and writes the GPU's memory as fast as it goes; in launches of a
// few hundred microseconds, so that other kernels get in between. The host
// device does not compute: it copies, to keep the logic running.
//
// Ownership: borrows the device. Threads: thread-compatible. Errors: CUDA's, or
// the device's. Cost: a launch each 8 steps, of which a GPU's queue takes 1024
// before Post waits; the end waits for the device.
#ifndef AGENTMEM_BENCHMARKS_BUSY_WORK_H_
#define AGENTMEM_BENCHMARKS_BUSY_WORK_H_

#include <cstdint>
#include <vector>

#include "benchmarks/hbm_memory.h"
#include "cuda/device.h"

namespace agentmem::bench {

class BusyWork {
 public:
  // What it is short of.
  enum class Bound : std::uint8_t { kCompute, kMemory };

  // `gpu`: the device is the GPU with index 0.
  BusyWork(Device* device, bool gpu, Bound bound)
      : device_(device), gpu_(gpu), bound_(bound), memory_(device) {}

  absl::Status Start();
  // As many steps of equal length on this stream; about 20 us each on a GPU.
  absl::Status Post(std::uint64_t steps, Stream stream);

 private:
  Device* const device_;
  const bool gpu_;
  const Bound bound_;
  HbmMemory memory_;  // not of kCompute on a GPU
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_BUSY_WORK_H_
