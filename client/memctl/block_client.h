// memctl's side of the data: block bytes through libagentmem's C ABI.
//
// Ownership: what ConnectBlocks returns is the caller's; results are copies.
// Threads: thread-compatible.
// Errors: those of agentmem.h, as absl::Status; UNAVAILABLE: no memd.
// Cost: a copy of the block; waits at most the timeout given at connecting.
#ifndef AGENTMEM_CLIENT_MEMCTL_BLOCK_CLIENT_H_
#define AGENTMEM_CLIENT_MEMCTL_BLOCK_CLIENT_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "proto/types.h"

namespace agentmem::memctl {

struct FoundBlock {
  std::string bytes;
  Tier tier = Tier::kNone;  // where it was found
};

class BlockClient {
 public:
  virtual ~BlockClient() = default;
  virtual absl::StatusOr<FoundBlock> Get(const Key& key) = 0;
  // Returns when the acknowledgement is reached.
  virtual absl::Status Put(const Key& key, const std::string& bytes,
                           BlockClass block_class, Ack ack) = 0;
};

// An empty tenant is the user's default one.
absl::StatusOr<std::unique_ptr<BlockClient>> ConnectBlocks(
    const std::string& socket_path, const std::string& tenant,
    DurationNs timeout);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_BLOCK_CLIENT_H_
