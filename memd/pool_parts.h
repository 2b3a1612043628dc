// What a node in a cluster has beside one that is alone: the fabric, the memory
// that it lends, and its part in the pool.
//
// Ownership: owns all of it; ends after the reactor. Threads: Open belongs to
// one thread; then reactor-only. Errors: what the fabric says
// (fabric_provider.h), RESOURCE_EXHAUSTED: no memory to lend. Cost: Open loads
// libfabric, up to a second.
#ifndef AGENTMEM_MEMD_POOL_PARTS_H_
#define AGENTMEM_MEMD_POOL_PARTS_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "memd/config.h"
#include "memd/dram/shared_memory.h"
#include "memd/pool/export_pool.h"
#include "memd/pool/pool_host.h"
#include "memd/pool/pool_node.h"
#include "memd/transport/fabric_transport.h"
#include "memd/transport/rdma_devices.h"

namespace agentmem {

struct PoolParts {
  static absl::StatusOr<std::unique_ptr<PoolParts>> Open(
      const Config& config, std::uint64_t instance);

  // In this order: who uses goes before what is used.
  SharedMemory export_memory;
  std::unique_ptr<FabricTransport> transport;
  std::unique_ptr<ExportPool> exports;  // null: it lends nothing
  SharedMemory seal_memory;
  std::unique_ptr<Sealing> sealing;  // null: blocks travel as they are
  std::unique_ptr<PoolNode> node;
  PoolIdentity identity;
  RdmaSurvey devices;
  std::size_t peers_at_start = 0;  // by the configuration
  bool rdma_asked = false;         // by the configuration
  DurationNs spin_ns = 0;
  std::size_t populator_index = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_PARTS_H_
