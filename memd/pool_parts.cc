#include "memd/pool_parts.h"

#include <algorithm>

#include "base/log.h"
#include "base/status.h"
#include "memd/pool/cipher_keys.h"
#include "memd/service/peer_card.h"
#include "memd/transport/rdma_system.h"

namespace agentmem {

namespace {

// By the device that the survey took, where it took one and it opens.
absl::StatusOr<std::unique_ptr<FabricTransport>> OpenTransport(
    const FabricConfig& config, const std::string& device) {
  FabricOptions options;
  options.provider = config.provider;
  options.rdma_required = config.require_rdma;
  options.bind_address = config.address;
  options.domain = config.domain;
  const bool may_choose =
      config.provider == "auto" || config.provider == "verbs";
  // (An address is of a device: that one is meant.)
  if (may_choose && config.domain.empty() && config.address.empty() &&
      !device.empty()) {
    options.preferred_domain = device;
  }
  return FabricTransport::Open(options);
}

absl::Status OpenSealing(const std::string& path, PoolParts* parts) {
  AGENTMEM_ASSIGN_OR_RETURN(CipherKeys keys, LoadCipherKeys(path));
  AGENTMEM_ASSIGN_OR_RETURN(
      std::unique_ptr<BlockCipher> cipher,
      BlockCipher::Make(std::make_shared<const CipherKeys>(std::move(keys))));
  AGENTMEM_ASSIGN_OR_RETURN(
      parts->seal_memory,
      SharedMemory::Create("agentmem-seal", Sealing::kMemoryBytes,
                           SharedMemory::Access::kClientsWrite));
  const std::span<char> memory(parts->seal_memory.base(),
                               Sealing::kMemoryBytes);
  AGENTMEM_ASSIGN_OR_RETURN(
      const Registered registered,
      parts->transport->Register(memory, RemoteAccess::kNone));
  parts->sealing =
      std::make_unique<Sealing>(std::move(cipher), memory, registered.id);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<PoolParts>> PoolParts::Open(
    const Config& config, std::uint64_t instance) {
  auto parts = std::make_unique<PoolParts>();
  RdmaWishes wishes;
  wishes.device = config.fabric.domain;
  wishes.address = config.fabric.address;
  wishes.tcp = config.fabric.provider.starts_with("tcp");
  wishes.registered_bytes = config.pool.export_bytes;
  for (const TenantConfig& tenant : config.tenants) {
    wishes.registered_bytes += tenant.dram_bytes;
  }
  parts->devices = SurveyRdma(wishes, LinuxRdmaSystem());
  for (const RdmaProblem& problem : parts->devices.problems) {
    LogWarning("fabric: " + problem.found + ": " + problem.remedy);
  }
  parts->peers_at_start = config.cluster.peers.size();
  parts->rdma_asked =
      config.fabric.require_rdma || config.fabric.provider.starts_with("verbs");
  AGENTMEM_ASSIGN_OR_RETURN(parts->transport,
                            OpenTransport(config.fabric, parts->devices.taken));
  const FabricChoice& choice = parts->transport->choice();
  if (choice.fallbacks != 0) {
    LogWarning("fabric: " +
               (choice.rdma ? "not by the nearest device, " +
                                  parts->devices.taken + ", but over "
                            : std::string("no RDMA here, blocks go over ")) +
               choice.provider + " on " + choice.domain +
               "; memctl fabric says why");
  }
  parts->spin_ns =
      static_cast<DurationNs>(config.pool.spin_us) * kMicrosecondNs;
  parts->identity.instance = instance;
  parts->identity.provider = choice.provider;
  parts->identity.fabric_address = parts->transport->address();
  parts->identity.store_bytes = config.store.serve_bytes;
  if (config.store.serve_bytes != 0) {
    // For people: the end of a long one says more than its beginning.
    const std::string path = config.state_directory + "/store";
    parts->identity.store_path =
        path.substr(path.size() - std::min(path.size(), kStorePathBytesMax));
  }

  PoolNodeOptions options;
  options.node = config.cluster.node;
  options.rack = config.cluster.rack;
  options.expects_members = true;
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
  if (!config.pool.keys.empty()) {
    AGENTMEM_RETURN_IF_ERROR(OpenSealing(config.pool.keys, parts.get()));
    parts->node->UseSealing(parts->sealing.get());
  }
  return parts;
}

}  // namespace agentmem
