// A region's memory in this process: mapped, not inherited by forks, registered
// with the userfaultfd, and watched over.
//
// Regions of 2 MiB and more begin at a multiple of 2 MiB, so that huge pages
// fit. Made before memd is told the address; from Map on nobody may touch it
// until memd resolves its faults.
//
// Ownership: unmaps itself; the connection must outlive it. Does not move.
// Threads: thread-compatible. Errors: RESOURCE_EXHAUSTED without address space
// or mappings. Cost: system calls; no page is touched.
#ifndef AGENTMEM_CLIENT_REGION_MAPPING_H_
#define AGENTMEM_CLIENT_REGION_MAPPING_H_

#include <cstdint>

#include "client/agent_connection.h"
#include "client/watchdog.h"
#include "proto/outcome.h"

namespace agentmem::client {

class RegionMapping {
 public:
  RegionMapping() = default;
  ~RegionMapping() { Reset(); }
  RegionMapping(const RegionMapping&) = delete;
  RegionMapping& operator=(const RegionMapping&) = delete;

  Outcome Map(AgentConnection* connection, int fd, std::uint64_t bytes,
              bool read_only, DurationNs fault_timeout_ns);
  void Reset();

  char* data() const { return data_; }

 private:
  AgentConnection* connection_ = nullptr;
  char* data_ = nullptr;
  std::uint64_t bytes_ = 0;
  bool watched_ = false;
  WatchedRange range_;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_REGION_MAPPING_H_
