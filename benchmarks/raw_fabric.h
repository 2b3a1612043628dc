// The baseline of the suite `pool`: bare libfabric between two processes of
// this program, neither of which is the one that measures (libfabric must not
// be set up in a process that forks, and the benchmark forks).
//
// Here is the remote control: runs are asked for over a socket, and what the
// operations took comes back. The program starts itself again for each of the
// two processes, with kRawFabricOption (main() hands that to
// RunRawFabricProcess).
//
// Ownership: owns the initiator's process, which owns the target's; both end
// with this object, or with the benchmark. Threads: thread-compatible.
// Errors: UNAVAILABLE with libfabric's words; DATA_LOSS if bytes that arrived
// are not those that were there. Cost: Start waits until the two are connected.
#ifndef AGENTMEM_BENCHMARKS_RAW_FABRIC_H_
#define AGENTMEM_BENCHMARKS_RAW_FABRIC_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "benchmarks/raw_fabric_endpoint.h"
#include "benchmarks/samples.h"

namespace agentmem::bench {

inline constexpr const char* kRawFabricOption = "--raw-fabric-process";

// A run: `bursts` times `samples` samples of `group` operations each. A burst
// goes over memory in order; after it, all that it moved is compared.
struct RawFabricRun {
  RawEndpoint::Kind kind = RawEndpoint::Kind::kRead;
  std::uint32_t depth = 1;
  std::uint64_t length = 0;
  std::uint64_t group = 1;
  std::uint64_t samples = 1;
  std::uint64_t bursts = 1;
};

class RawFabric {
 public:
  static absl::StatusOr<std::unique_ptr<RawFabric>> Start(
      const RawFabricOptions& options, std::uint64_t seed);
  ~RawFabric();
  RawFabric(const RawFabric&) = delete;
  RawFabric& operator=(const RawFabric&) = delete;

  // Nanoseconds a sample, their mean.
  absl::StatusOr<double> Run(const RawFabricRun& run, Samples* samples);

 private:
  RawFabric(pid_t pid, UniqueFd socket)
      : pid_(pid), socket_(std::move(socket)) {}
  absl::Status Connect(const RawFabricOptions& options, std::uint64_t seed);

  const pid_t pid_;
  UniqueFd socket_;
};

// What the processes do; `role` as the option's value says. The exit code.
int RunRawFabricProcess(const std::string& role);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_RAW_FABRIC_H_
