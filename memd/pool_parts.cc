#include "memd/pool_parts.h"

#include "base/log.h"
#include "base/status.h"

namespace agentmem {

absl::StatusOr<std::unique_ptr<PoolParts>> PoolParts::Open(
    const Config& config, std::uint64_t instance) {
  auto parts = std::make_unique<PoolParts>();
  FabricOptions fabric;
  fabric.provider = config.fabric.provider;
  fabric.rdma_required = config.fabric.require_rdma;
  fabric.bind_address = config.fabric.address;
  fabric.domain = config.fabric.domain;
  AGENTMEM_ASSIGN_OR_RETURN(parts->transport, FabricTransport::Open(fabric));
  const FabricChoice& choice = parts->transport->choice();
  if (choice.fallbacks != 0) {
    LogWarning("fabric: no RDMA here, blocks go over " + choice.provider +
               "; memctl fabric says why");
  }
  parts->spin_ns =
      static_cast<DurationNs>(config.pool.spin_us) * kMicrosecondNs;
  parts->identity.instance = instance;
  parts->identity.provider = choice.provider;
  parts->identity.fabric_address = parts->transport->address();

  PoolNodeOptions options;
  options.node = config.cluster.node;
  options.rack = config.cluster.rack;
  options.instance = instance;
  options.repair_bytes_per_second = config.pool.repair_bytes_per_second;
  if (config.pool.export_bytes != 0) {
    AGENTMEM_ASSIGN_OR_RETURN(
        parts->export_memory,
        SharedMemory::Create("agentmem-export", config.pool.export_bytes,
                             SharedMemory::Access::kClientsWrite));
    const std::span<char> memory(parts->export_memory.base(),
                                 parts->export_memory.bytes());
    AGENTMEM_ASSIGN_OR_RETURN(
        const Registered registered,
        parts->transport->Register(memory, RemoteAccess::kReadWrite));
    options.export_memory = registered.id;
    parts->identity.export_address = registered.remote.address;
    parts->identity.export_key = registered.remote.key;
    parts->identity.export_bytes = config.pool.export_bytes;
    // Generations of another run are other ones: instances are random.
    parts->exports = std::make_unique<ExportPool>(memory, instance | 1);
  }
  parts->node = std::make_unique<PoolNode>(options, parts->transport.get(),
                                           parts->exports.get());
  return parts;
}

}  // namespace agentmem
