// A memd in this process, as far as DRAM goes: a tenant's memfds, the handshake
// and a thread that answers rings (tests/unit/client/fake_memd.h), so that a
// program without any package measures libagentmem's own way. What a client may
// have at a time is what memd's defaults give it of a DRAM tier twice as large
// as the blocks: a sixteenth in granted slots, a quarter in holds.
//
// It has no policy, no store, no checksums. All of its memory is touched, and
// the same room is used again and again: after two rounds of `blocks` blocks, a
// device has registered all of it.
//
// Ownership: owns the directory of its socket, and the memory. Threads:
// thread-compatible. Errors: errno's. Cost: a thread, asleep when nothing
// comes.
#ifndef AGENTMEM_BENCHMARKS_NEAR_MEMD_H_
#define AGENTMEM_BENCHMARKS_NEAR_MEMD_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "agentmem/agentmem.h"
#include "benchmarks/temporary_directory.h"
#include "tests/unit/client/fake_memd.h"

namespace agentmem::bench {

class NearMemd {
 public:
  static absl::StatusOr<std::unique_ptr<NearMemd>> Start(
      std::uint32_t blocks, std::uint64_t block_bytes);

  const std::string& socket_path() const { return socket_path_; }
  // Those that are resident: they are not any more, and all data is poison.
  void Forget(std::span<const agentmem_key> keys);

 private:
  NearMemd(std::unique_ptr<TemporaryDirectory> directory,
           const FakeMemd::Options& options)
      : directory_(std::move(directory)),
        socket_path_(directory_->path() + "/memd.sock"),
        memd_(socket_path_, options) {}

  const std::unique_ptr<TemporaryDirectory> directory_;
  const std::string socket_path_;
  FakeMemd memd_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_NEAR_MEMD_H_
