// What a tenant of this node is configured to be.
//
// Ownership: a value. Threads: values. Errors: none; who makes one has checked
// it. Cost: none.
#ifndef AGENTMEM_MEMD_TENANT_OPTIONS_H_
#define AGENTMEM_MEMD_TENANT_OPTIONS_H_

#include <cstdint>
#include <string>

#include "proto/types.h"

namespace agentmem {

struct TenantOptions {
  std::string name;
  TenantId id;
  std::uint64_t cluster_id =
      0;  // its number in the pool: on all nodes the same
  // What is acknowledged as durable is also in other nodes' memory.
  bool durable_in_pool = false;
  std::uint64_t dram_bytes = 0;         // whole extents
  std::uint64_t slots = 0;              // blocks in DRAM at most
  std::uint64_t index_entries = 0;      // blocks in any tier that the index has
  std::uint64_t store_quota_bytes = 0;  // 0: no limit
  std::uint64_t hold_quota_bytes = 0;   // a client's
  std::uint64_t grant_quota_bytes = 0;  // a client's
  bool serves = false;  // nodes without a disk keep blocks in this one's store
  // The store is another node's, which drops cache and tells nobody.
  bool store_elsewhere = false;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TENANT_OPTIONS_H_
