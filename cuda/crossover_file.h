// The crossovers of a machine's devices, in a file of its state directory, so
// that they are measured once and can be looked at:
//
//   agentmem-crossovers 2
//   device 132 1 NVIDIA H100 80GB HBM3
//   to_host 16384 staged
//   rates 1024 650000000 12000000000 14000000000
//   ...
//   to_device never kernel
//   rates ...
//   end 0123456789abcdef
//
// Of each device: its multiprocessors, whether it copies batches, its name. Of
// each direction: below how many bytes a kernel copies, or never, or always,
// and whether straight or staged; and of each size of the ladder the bytes a
// second, by the engine, by the kernel and staged. The end has FNV-1a, 64 bits,
// of all before it.
//
// A device is known by what does not change with its driver: its name and its
// multiprocessors (a slice of a device has fewer). Whether copies go in batches
// comes from the driver, but moves the crossover as nothing else does: with the
// other way of copying the device is another one.
//
// Ownership: values. Threads: pure but for the file; processes that find
// nothing measure one after the other (a lock of the file's directory; they
// wait twice a measurement's time at most), and the file is always whole.
// Errors: NOT_FOUND: no such file, or one of an older version, which knew less;
// DATA_LOSS: damaged, naming the line; FAILED_PRECONDITION: of a newer version,
// naming both; INVALID_ARGUMENT: a device whose name a line cannot hold; else
// what the file system says; all name the path. Cost: one read, or one write
// that waits for the disk.
#ifndef AGENTMEM_CUDA_CROSSOVER_FILE_H_
#define AGENTMEM_CUDA_CROSSOVER_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "cuda/copy_plan.h"
#include "cuda/device.h"
#include "proto/outcome.h"

namespace agentmem {

inline constexpr std::uint32_t kCrossoverFileVersion = 2;

struct DeviceCrossovers {
  std::string device;  // its name
  std::uint32_t multiprocessors = 0;
  bool copies_batches = false;
  Crossovers crossovers;

  friend bool operator==(const DeviceCrossovers&,
                         const DeviceCrossovers&) = default;
};

// `devices` is changed when it is OK.
Outcome LoadCrossovers(const std::string& path,
                       std::vector<DeviceCrossovers>* devices);
// The file is there whole, or as it was.
Outcome SaveCrossovers(const std::string& path,
                       const std::vector<DeviceCrossovers>& devices);

// This device's crossovers: from the file, or else measured, and saved there
// beside those of other devices. What was in the way of the file is in `note`
// (empty: nothing): one that is damaged is measured anew and replaced, as is
// one of an older version; one of a newer is left as it is; one that cannot be
// written is no error. `path` empty: measured. Errors: those of
// MeasureCrossover.
Outcome FindCrossovers(Device* device, const Clock& clock,
                       const MeasureBounds& bounds, const std::string& path,
                       Crossovers* crossovers, std::string* note);

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_CROSSOVER_FILE_H_
