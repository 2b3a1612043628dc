#include "client/memctl/render_fabric.h"

#include <cstdint>
#include <cstdio>

#include "client/memctl/human_text.h"
#include "client/memctl/render_json.h"

namespace agentmem::memctl {
namespace {

using Align = Table::Align;

std::string Yes(bool value) { return value ? "yes" : "no"; }
std::string OrDash(const std::string& text) {
  return text.empty() ? "-" : text;
}
std::string Plural(std::uint64_t count, const std::string& word) {
  return std::to_string(count) + " " + word + (count == 1 ? "" : "s");
}
std::string Speed(std::uint64_t bytes_per_second) {
  if (bytes_per_second == 0) return "-";
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g GB/s",
                static_cast<double>(bytes_per_second) / 1e9);
  return text;
}
std::string NodeText(std::int32_t node) {
  return node < 0 ? "-" : std::to_string(node);
}

void AddProvider(const admin::v1::FabricSnapshot& fabric, Table* facts) {
  if (fabric.provider().empty()) {
    facts->AddRow({"provider", "none is open"});
    return;
  }
  facts->AddRow({"provider", fabric.provider() + " on " +
                                 OrDash(fabric.domain()) + ", " +
                                 OrDash(fabric.address())});
  facts->AddRow({"RDMA", std::string(fabric.rdma() ? "yes" : "no") +
                             (fabric.rdma_asked() ? ", asked for" : "") + ", " +
                             Plural(fabric.fallbacks(), "fallback") +
                             " to what was not wanted first"});
  facts->AddRow(
      {"trouble", Plural(fabric.links_lost(), "link") + " lost, " +
                      Plural(fabric.messages_dropped(), "message") +
                      " dropped, " +
                      Plural(fabric.completions_unknown(), "completion") +
                      " of nothing that was asked"});
  facts->AddRow({"tenants' DRAM",
                 fabric.pins_memory()
                     ? "pinned for the device: regions use memory beside it"
                     : "lent to regions as they need it"});
  facts->AddRow({"spins", std::to_string(fabric.spin_us()) +
                              " us for an answer, then sleeps"});
}

void AddCluster(const admin::v1::FabricSnapshot& fabric, Table* facts) {
  const auto& cluster = fabric.cluster();
  if (IsAlone(fabric)) {
    facts->AddRow({"cluster",
                   "this node is alone: it lends and borrows no memory. To "
                   "join others, configure [cluster] (listen, and peers or "
                   "etcd) and [pool] export"});
    return;
  }
  std::string how = cluster.name() + ", ";
  if (cluster.kind() == "static") {
    how += "a static list";
  } else {
    how += cluster.kind() +
           (cluster.reachable() ? " within reach" : " OUT OF REACH") +
           ", epoch " + std::to_string(cluster.epoch());
  }
  facts->AddRow(
      {"cluster", how + ", " +
                      Plural(static_cast<std::uint64_t>(cluster.members_size()),
                             "member")});
  facts->AddRow({"this node", fabric.pool().node()});
  facts->AddRow({"peers' identity", fabric.peers_insecure()
                                        ? "believed: no TLS"
                                        : "by certificates (mutual TLS)"});
}

void AddPool(const admin::v1::FabricSnapshot& fabric, Table* facts) {
  const admin::v1::PoolSnapshot& pool = fabric.pool();
  facts->AddRow(
      {"lent",
       pool.export_bytes() == 0
           ? "nothing"
           : HumanBytes(pool.export_used_bytes()) + " used of " +
                 HumanBytes(pool.export_bytes()) + " (" +
                 HumanShare(pool.export_used_bytes(), pool.export_bytes()) +
                 "), " + Plural(pool.export_blocks(), "block") + ", " +
                 std::to_string(pool.export_evictions()) + " evicted, " +
                 Plural(pool.reservations_expired(), "reservation") +
                 " expired"});
  facts->AddRow({"no room", Plural(pool.export_refused(), "block") +
                                " refused here; collected early " +
                                Plural(fabric.early_collections(), "time") +
                                ", " + Plural(fabric.early_dropped(), "block") +
                                " dropped"});
  facts->AddRow(
      {"gets", std::to_string(pool.gets()) + ": " +
                   std::to_string(pool.gets_local()) + " from this node's, " +
                   std::to_string(pool.gets_elsewhere()) +
                   " not from the first asked, " +
                   std::to_string(pool.gets_not_found()) + " not found"});
  facts->AddRow({"bad copies", std::to_string(pool.stale()) + " stale, " +
                                   std::to_string(pool.corrupt()) +
                                   " corrupt, " +
                                   Plural(pool.bad_messages(), "bad message")});
  facts->AddRow({"puts", std::to_string(pool.puts()) + ", " +
                             std::to_string(pool.puts_failed()) + " failed"});
  facts->AddRow({"copies", std::to_string(pool.repaired()) + " made anew, " +
                               std::to_string(pool.moved()) + " moved"});
  facts->AddRow({"under way", Plural(pool.queued(), "operation")});
  if (pool.store_remote()) {
    facts->AddRow({"store",
                   "remote: this node has no disk, others keep its "
                   "blocks"});
  } else if (pool.served().serve_bytes() != 0) {
    const auto& served = pool.served();
    facts->AddRow(
        {"store", "on this node's disk, serves peers: " +
                      HumanBytes(served.used_bytes()) + " used of " +
                      HumanBytes(served.serve_bytes()) + ", " +
                      Plural(served.writes(), "block") +
                      " of theirs written (" +
                      HumanBytes(served.bytes_written()) + "), " +
                      std::to_string(served.refused()) + " refused, " +
                      std::to_string(served.under_way()) + " under way"});
  } else {
    facts->AddRow({"store", "on this node's disk, for itself"});
  }
}

void AddDevices(const admin::v1::RdmaSurvey& survey, Table* facts) {
  facts->AddRow({"devices",
                 survey.reason().empty() ? "not looked for" : survey.reason()});
  if (survey.devices_size() == 0) return;
  facts->AddRow(
      {"memory", survey.memory_node() < 0
                     ? "on several NUMA nodes"
                     : "on NUMA node " + std::to_string(survey.memory_node())});
  facts->AddRow({"may lock", survey.memlock_bytes() == UINT64_MAX
                                 ? "all of it"
                                 : HumanBytes(survey.memlock_bytes())});
}

std::string Candidates(const admin::v1::FabricSnapshot& fabric) {
  Table table({{"PROVIDER"}, {"RDMA"}, {"TAKEN"}, {"WHY"}});
  for (const auto& candidate : fabric.candidates()) {
    table.AddRow({candidate.provider(), Yes(candidate.rdma()),
                  Yes(candidate.taken()), candidate.reason()});
  }
  return table.empty() ? "" : "\n" + table.Render();
}

// One line a port; what is said of the device stands on the first.
std::string Devices(const admin::v1::RdmaSurvey& survey) {
  Table table({{"DEVICE"},
               {"PORT", Align::kRight},
               {"STATE"},
               {"LAYER"},
               {"SPEED", Align::kRight},
               {"NODE", Align::kRight},
               {"NETDEV"},
               {"GID"},
               {"TAKEN"},
               {"WHY"}});
  for (const auto& device : survey.devices()) {
    bool first = true;
    for (const auto& port : device.ports()) {
      // The last GIDs are the ones of IP addresses.
      const std::string gid =
          port.gids_size() == 0 ? "-" : port.gids(port.gids_size() - 1);
      table.AddRow({device.name(), std::to_string(port.number()),
                    OrDash(port.state()), OrDash(port.link_layer()),
                    Speed(port.bytes_per_second()),
                    NodeText(device.numa_node()), OrDash(port.netdev()), gid,
                    Yes(device.port_taken() == port.number()),
                    first ? device.reason() : ""});
      first = false;
    }
    if (first) {
      table.AddRow({device.name(), "-", "-", "-", "-",
                    NodeText(device.numa_node()), "-", "-", "no",
                    device.reason()});
    }
  }
  if (table.empty()) return "";
  std::string text = "\n" + table.Render();
  if (survey.gpus() == 0) return text;
  Table reach({{"DEVICE"}, {"REACHES GPU MEMORY"}, {"WHY"}});
  for (const auto& device : survey.devices()) {
    reach.AddRow(
        {device.name(), Yes(device.gpu_reaches()), device.gpu_reason()});
  }
  return text + "\n" + reach.Render();
}

std::string Problems(const admin::v1::RdmaSurvey& survey) {
  Table table({{"DEVICES NEED ATTENTION"}});
  for (const auto& problem : survey.problems()) {
    table.AddRow({problem.found()});
    table.AddRow({"-> " + problem.remedy()});
  }
  return table.empty() ? "" : "\n" + table.Render();
}

std::string Peers(const admin::v1::PoolSnapshot& pool) {
  Table table({{"PEER"},
               {"RACK"},
               {"STATE"},
               {"HEARD", Align::kRight},
               {"ROUND TRIP", Align::kRight},
               {"LENDS", Align::kRight},
               {"ROOM", Align::kRight},
               {"READ", Align::kRight},
               {"WRITTEN", Align::kRight},
               {"IN FLIGHT", Align::kRight},
               {"LOSSES", Align::kRight}});
  for (const auto& peer : pool.peers()) {
    table.AddRow(
        {peer.node(), OrDash(peer.rack()), PeerStateName(peer.state()),
         HumanDuration(peer.heard_ns()),
         peer.round_trip_ns() == 0 ? "-" : HumanDuration(peer.round_trip_ns()),
         HumanBytes(peer.export_bytes()), HumanBytes(peer.room_bytes()),
         HumanBytes(peer.bytes_read()), HumanBytes(peer.bytes_written()),
         std::to_string(peer.in_flight()), std::to_string(peer.losses())});
  }
  return table.empty() ? "" : "\n" + table.Render();
}

std::string Stores(const admin::v1::PoolSnapshot& pool) {
  Table table({{"STORE OF"},
               {"REACHABLE"},
               {"TAKES", Align::kRight},
               {"WRITES", Align::kRight},
               {"WRITTEN", Align::kRight},
               {"REFUSED", Align::kRight},
               {"PATH"},
               {"WHAT IT IS"}});
  for (const auto& store : pool.stores()) {
    table.AddRow(
        {store.node(), Yes(store.reachable()), HumanBytes(store.serve_bytes()),
         std::to_string(store.writes()), HumanBytes(store.bytes_written()),
         std::to_string(store.refused()), OrDash(store.path()), store.text()});
  }
  return table.empty() ? "" : "\n" + table.Render();
}

std::string Members(const admin::v1::ClusterSnapshot& cluster) {
  Table table({{"MEMBER"},
               {"ADDRESS"},
               {"RACK"},
               {"LENDS", Align::kRight},
               {"INSTANCE"}});
  for (const auto& member : cluster.members()) {
    table.AddRow({member.node(), OrDash(member.address()),
                  OrDash(member.rack()),
                  member.weight() == 0 ? "-" : HumanBytes(member.weight()),
                  member.instance() == 0 ? "-" : HexId(member.instance())});
  }
  return table.empty() ? "" : "\n" + table.Render();
}

}  // namespace

const char* PeerStateName(int state) {
  switch (state) {
    case admin::v1::PEER_STATE_CONNECTING:
      return "connecting";
    case admin::v1::PEER_STATE_UP:
      return "up";
    case admin::v1::PEER_STATE_DOWN:
      return "down";
    default:
      return "unknown";
  }
}

void AddHealth(const Health& health, Table* facts) {
  std::string name = "health";
  std::string text = HealthName(health.state);
  for (const HealthReason& reason : health.reasons) {
    facts->AddRow({name, text + ": " + reason.text});
    name = "";
  }
  if (health.reasons.empty()) facts->AddRow({name, text});
}

std::string RenderFabric(const admin::v1::FabricSnapshot& fabric,
                         Output output) {
  if (output == Output::kJson) return Dump(ToJson(fabric));
  Table facts({{"health"}, {HealthName(HealthOf(fabric).state)}});
  for (const HealthReason& reason : HealthOf(fabric).reasons) {
    facts.AddRow({"", reason.text});
    facts.AddRow({"", "-> " + reason.remedy});
  }
  AddCluster(fabric, &facts);
  if (!IsAlone(fabric)) {
    AddProvider(fabric, &facts);
    AddPool(fabric, &facts);
  }
  AddDevices(fabric.devices(), &facts);
  return facts.Render() + Candidates(fabric) + Devices(fabric.devices()) +
         Problems(fabric.devices()) + Peers(fabric.pool()) +
         Stores(fabric.pool()) + Members(fabric.cluster());
}

}  // namespace agentmem::memctl
