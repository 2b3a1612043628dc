// Where threads of memd get ports from: a port is a client of a tenant inside
// memd's own process, with the same rings, pins and grants as one outside
// (proto/client_layout.h), and memd's word is trusted on it.
//
// Ownership: the caller owns the handle. The ring's memory is the reactor's,
// and lives until it has taken the port's Op::kClose. The doorbell is rung as a
// client rings it; `wake` becomes readable where a client's futex would be
// woken.
// Threads: from any thread; both wait for the reactor.
// Errors: UNAVAILABLE (memd ends), RESOURCE_EXHAUSTED (descriptors, memory).
#ifndef AGENTMEM_MEMD_AGENTS_PORT_SOURCE_H_
#define AGENTMEM_MEMD_AGENTS_PORT_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "proto/client_layout.h"
#include "proto/types.h"

namespace agentmem {

struct PortHandle {
  ClientFile file;
  UniqueFd doorbell;
  UniqueFd wake;
  const void* index = nullptr;
  char* data = nullptr;
  std::uint64_t data_bytes = 0;
  int data_fd = -1;  // borrowed
};

// Blocks of a tenant in the memory that this node lends, some of them.
struct LentBlocks {
  std::vector<Key> state;  // those of class state
  std::size_t cursor = 0;  // to go on with; 0: that was all
};

class PortSource {
 public:
  virtual ~PortSource() = default;
  // `pid`: the process on whose behalf it is, for messages.
  virtual absl::StatusOr<PortHandle> OpenPort(const std::string& tenant,
                                              const std::string& name,
                                              std::int32_t pid) = 0;
  // From `cursor` on; 0: the first.
  virtual absl::StatusOr<LentBlocks> WalkLent(const std::string& tenant,
                                              std::size_t cursor) = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_PORT_SOURCE_H_
