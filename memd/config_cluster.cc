// The part of the configuration that is about other nodes.
#include <arpa/inet.h>

#include <algorithm>

#include "memd/config_fields.h"
#include "proto/size_class.h"

namespace agentmem {
namespace {

absl::Status ParseCluster(const toml::table& table, const std::string& name,
                          ClusterConfig* cluster) {
  Fields fields(table, name);
  fields.String("name", &cluster->name);
  fields.String("node", &cluster->node);
  fields.String("listen", &cluster->listen);
  fields.String("advertise", &cluster->advertise);
  fields.String("rack", &cluster->rack);
  std::vector<std::string> peers;
  const char* wanted =
      "an array of peers as \"node=host:port\", such as "
      "[\"b=10.0.0.2:7474\"]";
  fields.Strings("peers", wanted, &peers);
  for (const std::string& peer : peers) {
    const std::size_t equals = peer.find('=');
    const bool whole = equals != std::string::npos && equals != 0 &&
                       peer.find(':', equals) != std::string::npos;
    if (!whole) {
      fields.Wrong("peers", *table.get("peers"), wanted);
      break;
    }
    cluster->peers.push_back({peer.substr(0, equals), peer.substr(equals + 1)});
  }
  fields.Strings("etcd",
                 "an array of endpoints, such as "
                 "[\"http://127.0.0.1:2379\"]",
                 &cluster->etcd);
  fields.String("etcd_authority", &cluster->etcd_authority);
  fields.String("etcd_certificate", &cluster->etcd_certificate);
  fields.String("etcd_key", &cluster->etcd_key);
  fields.String("certificate", &cluster->certificate);
  fields.String("key", &cluster->key);
  fields.String("authority", &cluster->authority);
  fields.Bool("insecure", &cluster->insecure);
  return fields.Finish();
}

// A member all the same; but with a slip in "node" its peers wait for one that
// never comes.
void LookForOwnName(const ConfigPlaces& at, const ClusterConfig& cluster,
                    std::vector<std::string>* remarks) {
  if (cluster.peers.empty()) return;
  std::string names;
  for (const PeerConfig& peer : cluster.peers) {
    if (peer.node == cluster.node) return;
    names += (names.empty() ? "" : ", ") + peer.node;
  }
  remarks->push_back(
      at.Of("cluster.peers") + ": field \"peers\" of [cluster] names " + names +
      ", and not this node, \"" + cluster.node +
      "\"; it is a member all the same: is that its name in its peers' lists?");
}

absl::Status CheckCluster(const ConfigPlaces& at,
                          const ClusterConfig& cluster) {
  if (!cluster.enabled()) {
    return InvalidArgument(at.Of("cluster") +
                           ": [cluster] needs \"listen\", the host:port that "
                           "peers call, such as \"10.0.0.1:7474\"");
  }
  for (const auto& [field, value] :
       {std::pair<const char*, const std::string*>("listen", &cluster.listen),
        {"advertise", &cluster.advertise}}) {
    if (!value->empty() && value->rfind(':') == std::string::npos) {
      return InvalidArgument(at.Of(std::string("cluster.") + field) +
                             ": field \"" + field + "\" of [cluster] is " +
                             *value + "; it must be host:port");
    }
  }
  if (!cluster.peers.empty() && !cluster.etcd.empty()) {
    return InvalidArgument(
        at.Of("cluster.peers") +
        ": [cluster] has both \"peers\" and \"etcd\"; who is a member is "
        "either a list or etcd's word: leave one out");
  }
  for (const std::string& endpoint : cluster.etcd) {
    if (!endpoint.starts_with("https://") || !cluster.etcd_authority.empty()) {
      continue;
    }
    return InvalidArgument(
        at.Of("cluster.etcd") + ": field \"etcd\" of [cluster] has " +
        endpoint +
        ": https needs \"etcd_authority\", the PEM file of who signed etcd's "
        "certificate");
  }
  const bool files = !cluster.certificate.empty() || !cluster.key.empty() ||
                     !cluster.authority.empty();
  const bool all = !cluster.certificate.empty() && !cluster.key.empty() &&
                   !cluster.authority.empty();
  if (cluster.insecure ? files : !all) {
    return InvalidArgument(
        at.Of("cluster") +
        ": [cluster] needs \"certificate\", \"key\" and \"authority\" "
        "(PEM files) so that peers know each other, or, on a closed network, "
        "\"insecure = true\" instead of them");
  }
  return absl::OkStatus();
}

absl::Status ParseFabric(const toml::table& table, const std::string& name,
                         FabricConfig* fabric) {
  Fields fields(table, name);
  fields.String("provider", &fabric->provider);
  fields.Bool("require_rdma", &fabric->require_rdma);
  fields.String("address", &fabric->address);
  fields.String("domain", &fabric->domain);
  return fields.Finish();
}

absl::Status ParsePool(const toml::table& table, const std::string& name,
                       PoolConfig* pool) {
  Fields fields(table, name);
  fields.Bytes("export", 0, kDramBytesMax, &pool->export_bytes);
  fields.Bytes("repair_rate", 1 << 20, 1ULL << 40,
               &pool->repair_bytes_per_second);
  fields.Integer("spin_us", 0, 10'000, &pool->spin_us);
  fields.Bool("durable", &pool->durable);
  fields.String("keys", &pool->keys);
  return fields.Finish();
}

// Of one interface: no name, and not all of them.
bool IsOneAddress(const std::string& text) {
  in_addr four = {};
  in6_addr six = {};
  if (inet_pton(AF_INET, text.c_str(), &four) == 1) return four.s_addr != 0;
  return inet_pton(AF_INET6, text.c_str(), &six) == 1 &&
         !IN6_IS_ADDR_UNSPECIFIED(&six);
}

absl::Status CheckPool(Config* config) {
  const ConfigPlaces& at = config->places;
  std::uint64_t& lent = config->pool.export_bytes;
  if (lent != 0 && lent < kExtentBytes) {
    return InvalidArgument(at.Of("pool.export") +
                           ": field \"export\" of [pool] is " +
                           std::to_string(lent) + " bytes; 0, or at least " +
                           std::to_string(kExtentBytes) + " can be lent");
  }
  RoundDown(at.Of("pool.export"), "export", &lent, &config->remarks);
  if (!config->pool.durable && !config->cluster.etcd.empty() &&
      !config->store.remote) {
    return InvalidArgument(
        at.Of("pool.durable") +
        ": field \"durable\" of [pool] is false, but with etcd other nodes "
        "open "
        "what this one made durable: it must be in their memory");
  }
  return absl::OkStatus();
}

absl::Status ParseStore(const toml::table& table, const std::string& name,
                        StoreConfig* store) {
  Fields fields(table, name);
  std::string kind = "disk";
  fields.String("kind", &kind);
  if (kind != "disk" && kind != "remote") {
    fields.Wrong("kind", *table.get("kind"),
                 "\"disk\" (this node's, in state_directory) or \"remote\" "
                 "(another memd's)");
  }
  store->remote = kind == "remote";
  fields.Strings("nodes",
                 "an array of the names of nodes that serve their store, such "
                 "as [\"store-1\"]",
                 &store->nodes);
  fields.Bytes("serve", 0, 1ULL << 60, &store->serve_bytes);
  return fields.Finish();
}

// Two nodes that use one store must agree on the refs to what is in it, and on
// the tenants' numbers.
absl::Status CheckStore(const Config& config) {
  const ConfigPlaces& at = config.places;
  const StoreConfig& store = config.store;
  const bool shared = config.cluster.enabled() && !config.cluster.etcd.empty();
  if (store.remote && !shared) {
    return InvalidArgument(
        at.Of("store.kind") +
        ": [store] kind = \"remote\" needs refs that all nodes agree on: name "
        "etcd's endpoints in \"etcd\" of [cluster], or use this node's disk "
        "(kind = \"disk\")");
  }
  for (std::size_t i = 0; i < config.tenants.size(); ++i) {
    const TenantConfig& tenant = config.tenants[i];
    if (!store.remote || tenant.store_quota_bytes == 0) continue;
    return InvalidArgument(
        at.Of("tenant." + std::to_string(i) + ".store_quota") +
        ": field \"store_quota\" of tenant " + tenant.name +
        ", with [store] kind = \"remote\": what the tenant has on another "
        "node's disk only that node can count; set it there, in the "
        "configuration of each node that serves");
  }
  if (store.remote && store.serve_bytes != 0) {
    return InvalidArgument(
        at.Of("store.serve") +
        ": field \"serve\" of [store] with kind = \"remote\": this node has no "
        "disk to serve others with; set it on the nodes that have one");
  }
  if (!store.remote && !store.nodes.empty()) {
    return InvalidArgument(at.Of("store.nodes") +
                           ": field \"nodes\" of [store] says whose disk is "
                           "used, with kind = \"remote\"; kind is \"disk\"");
  }
  if (std::count(store.nodes.begin(), store.nodes.end(), config.cluster.node)) {
    return InvalidArgument(
        at.Of("store.nodes") + ": field \"nodes\" of [store] has \"" +
        config.cluster.node + "\", which is this node; name others");
  }
  if (store.serve_bytes != 0 && !shared) {
    return InvalidArgument(
        at.Of("store.serve") +
        ": field \"serve\" of [store] needs \"etcd\" in [cluster]: without it "
        "no other node has the same tenants as this one");
  }
  if (store.serve_bytes != 0 && config.pool.export_bytes == 0) {
    return InvalidArgument(at.Of("store.serve") +
                           ": field \"serve\" of [store] needs \"export\" in "
                           "[pool]: peers' blocks "
                           "arrive in the memory that is lent");
  }
  return absl::OkStatus();
}

// [cluster], [fabric], [pool]: the last two say nothing without the first.
absl::Status ParseCluster(Fields* fields, Config* config) {
  const ConfigPlaces& at = config->places;
  const std::string& name = at.file;
  const toml::table* const cluster = fields->Table("cluster");
  const toml::table* const fabric = fields->Table("fabric");
  const toml::table* const pool = fields->Table("pool");
  if (cluster == nullptr) {
    if (fabric == nullptr && pool == nullptr) return absl::OkStatus();
    return InvalidArgument(at.Of(fabric ? "fabric" : "pool") + ": [" +
                           (fabric ? "fabric" : "pool") +
                           "] without [cluster]: who are the peers?");
  }
  AGENTMEM_RETURN_IF_ERROR(ParseCluster(*cluster, name, &config->cluster));
  AGENTMEM_RETURN_IF_ERROR(CheckCluster(at, config->cluster));
  LookForOwnName(at, config->cluster, &config->remarks);
  if (fabric != nullptr) {
    AGENTMEM_RETURN_IF_ERROR(ParseFabric(*fabric, name, &config->fabric));
  }
  config->pool.durable = !config->store.remote;
  if (pool != nullptr) {
    AGENTMEM_RETURN_IF_ERROR(ParsePool(*pool, name, &config->pool));
  }
  const std::string& listen = config->cluster.listen;
  if (config->cluster.advertise.empty()) config->cluster.advertise = listen;
  if (config->fabric.address.empty()) {
    std::string host = listen.substr(0, listen.rfind(':'));
    if (host.size() > 2 && host.front() == '[') {
      host = host.substr(1, host.size() - 2);
    }
    config->fabric.address = host;
  }
  if (!IsOneAddress(config->fabric.address)) {
    return InvalidArgument(
        at.Of(at.lines.count("fabric.address") ? "fabric.address"
                                               : "cluster.listen") +
        ": blocks need the IP address of one interface of this node; " + "\"" +
        config->fabric.address +
        "\" (\"address\" of [fabric], else the "
        "host of \"listen\") is none: set \"address\" in [fabric] to it, and "
        "\"advertise\" in "
        "[cluster] to what peers call");
  }
  return CheckPool(config);
}

// What is valid, and may not be what was meant: why nothing may become durable.
void LookAtDurability(Config* config) {
  const ClusterConfig& cluster = config->cluster;
  if (!cluster.enabled() || !config->pool.durable) return;
  const char* const need =
      "what is durable needs a copy in another node's memory, which it must "
      "lend (`export` in [pool])";
  const bool alone = cluster.etcd.empty() &&
                     std::all_of(cluster.peers.begin(), cluster.peers.end(),
                                 [&](const PeerConfig& peer) {
                                   return peer.node == cluster.node;
                                 });
  if (alone) {
    config->remarks.push_back(
        config->places.Of("cluster.peers") +
        ": field \"peers\" of [cluster] names no other node, and " + need +
        ", so no put can be durable; name one, or set `durable = false` in "
        "[pool]");
  } else if (config->pool.export_bytes == 0) {
    config->remarks.push_back(
        config->places.Of("pool.export") +
        ": field \"export\" of [pool] is 0, so this node lends no memory, "
        "and " +
        need + ": where all nodes are like this one, no put can be durable");
  }
}

}  // namespace

absl::Status ParseClusterTables(Fields* fields, Config* config) {
  if (const toml::table* const store = fields->Table("store")) {
    AGENTMEM_RETURN_IF_ERROR(
        ParseStore(*store, config->places.file, &config->store));
  }
  AGENTMEM_RETURN_IF_ERROR(ParseCluster(fields, config));
  LookAtDurability(config);
  return CheckStore(*config);
}

}  // namespace agentmem
