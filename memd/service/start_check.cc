#include "memd/service/start_check.h"

#include <algorithm>
#include <string>

#include "base/status.h"
#include "memd/cluster/etcd_channels.h"
#include "memd/pool/cipher_keys.h"
#include "memd/service/peer_address.h"
#include "memd/service/peer_card.h"
#include "memd/service/peer_security.h"
#include "memd/transport/fabric_provider.h"
#include "memd/transport/rdma_system.h"

namespace agentmem {
namespace {

// "memd.toml:7: field "keys" of [pool]: why".
absl::Status At(const Config& config, const std::string& table,
                const std::string& field, const absl::Status& status) {
  if (status.ok()) return status;
  return MakeStatus(status.code(), config.places.Of(table + "." + field) +
                                       ": field \"" + field + "\" of [" +
                                       table + "]: " + StatusMessage(status));
}

absl::Status CheckNames(const Config& config) {
  const ClusterConfig& cluster = config.cluster;
  AGENTMEM_RETURN_IF_ERROR(
      At(config, "cluster", "name", CheckPeerName("cluster", cluster.name)));
  AGENTMEM_RETURN_IF_ERROR(
      At(config, "cluster", "node", CheckPeerName("node", cluster.node)));
  if (!cluster.rack.empty()) {
    AGENTMEM_RETURN_IF_ERROR(
        At(config, "cluster", "rack", CheckPeerName("rack", cluster.rack)));
  }
  AGENTMEM_RETURN_IF_ERROR(
      At(config, "cluster", "listen", CheckPeerAddress(cluster.listen, 1)));
  AGENTMEM_RETURN_IF_ERROR(At(config, "cluster", "advertise",
                              CheckPeerAddress(cluster.advertise, 1)));
  for (const PeerConfig& peer : cluster.peers) {
    AGENTMEM_RETURN_IF_ERROR(
        At(config, "cluster", "peers", CheckPeerName("node", peer.node)));
    AGENTMEM_RETURN_IF_ERROR(
        At(config, "cluster", "peers", CheckPeerAddress(peer.address, 1)));
  }
  for (const std::string& node : config.store.nodes) {
    AGENTMEM_RETURN_IF_ERROR(
        At(config, "store", "nodes", CheckPeerName("node", node)));
  }
  return absl::OkStatus();
}

absl::Status CheckFiles(const Config& config) {
  const ClusterConfig& cluster = config.cluster;
  if (!cluster.etcd.empty()) {
    EtcdOptions options;
    options.endpoints = cluster.etcd;
    options.ca_file = cluster.etcd_authority;
    options.certificate_file = cluster.etcd_certificate;
    options.key_file = cluster.etcd_key;
    AGENTMEM_RETURN_IF_ERROR(
        At(config, "cluster", "etcd", EtcdChannels::Make(options).status()));
  }
  if (!cluster.insecure) {
    const PeerFiles files = {cluster.certificate, cluster.key,
                             cluster.authority};
    AGENTMEM_RETURN_IF_ERROR(At(
        config, "cluster", "certificate",
        PeerSecurity::FromFiles(files, cluster.name, cluster.node).status()));
  }
  if (config.pool.keys.empty()) return absl::OkStatus();
  return At(config, "pool", "keys", LoadCipherKeys(config.pool.keys).status());
}

// A name that none has: the choice would fall to another way without a word.
absl::Status CheckDomain(const FabricConfig& fabric) {
  std::string names;
  for (const VerbsDevice& device : LinuxRdmaSystem().verbs()) {
    if (device.name == fabric.domain) return absl::OkStatus();
    names += (names.empty() ? "" : ", ") + device.name;
  }
  return InvalidArgument("this machine has no RDMA device \"" + fabric.domain +
                         "\"; it has " + (names.empty() ? "none" : names) +
                         " (ibv_devices lists them). Leave the field out for "
                         "the nearest, or, without RDMA, for the interface of "
                         "the address");
}

absl::Status CheckFabric(const Config& config) {
  const FabricConfig& fabric = config.fabric;
  FabricOptions options;
  options.provider = fabric.provider;
  options.rdma_required = fabric.require_rdma;
  options.bind_address = fabric.address;
  options.domain = fabric.domain;
  AGENTMEM_RETURN_IF_ERROR(
      At(config, "fabric", "provider",
         CheckFabricOptions(options, LibfabricCatalog(options))));
  // (A domain of another provider is an interface, or its own kind of device.)
  const bool of_verbs =
      fabric.provider == "auto" || fabric.provider.starts_with("verbs");
  if (!of_verbs || fabric.domain.empty()) return absl::OkStatus();
  return At(config, "fabric", "domain", CheckDomain(fabric));
}

}  // namespace

absl::Status CheckStart(const Config& config) {
  if (!config.cluster.enabled()) return absl::OkStatus();
  AGENTMEM_RETURN_IF_ERROR(CheckNames(config));
  AGENTMEM_RETURN_IF_ERROR(CheckFabric(config));
  return CheckFiles(config);
}

}  // namespace agentmem
