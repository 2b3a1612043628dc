// The fabric's part of render_json.h.
#include "client/memctl/render_fabric.h"
#include "client/memctl/render_json.h"

namespace agentmem::memctl {
namespace {

Json ToJson(const admin::v1::RdmaDevice& device) {
  Json ports = Json::array();
  for (const auto& port : device.ports()) {
    Json gids = Json::array();
    for (const std::string& gid : port.gids()) gids.push_back(gid);
    ports.push_back(Json{{"number", port.number()},
                         {"state", port.state()},
                         {"link_layer", port.link_layer()},
                         {"bytes_per_second", port.bytes_per_second()},
                         {"gids", std::move(gids)},
                         {"netdev", port.netdev()}});
  }
  return Json{{"name", device.name()},
              {"pci", device.pci()},
              {"numa_node", device.numa_node()},
              {"ports", std::move(ports)},
              {"gpu_reaches", device.gpu_reaches()},
              {"gpu_reason", device.gpu_reason()},
              {"port_taken", device.port_taken()},
              {"reason", device.reason()}};
}

Json ToJson(const admin::v1::RdmaSurvey& survey) {
  Json devices = Json::array();
  for (const auto& device : survey.devices()) devices.push_back(ToJson(device));
  Json problems = Json::array();
  for (const auto& problem : survey.problems()) {
    problems.push_back(
        Json{{"found", problem.found()}, {"remedy", problem.remedy()}});
  }
  return Json{{"devices", std::move(devices)},
              {"taken", survey.taken()},
              {"best", survey.best()},
              {"reason", survey.reason()},
              {"memory_node", survey.memory_node()},
              {"memlock_bytes", survey.memlock_bytes()},
              {"gpus", survey.gpus()},
              {"problems", std::move(problems)}};
}

Json ToJson(const admin::v1::PoolPeer& peer) {
  return Json{{"node", peer.node()},
              {"rack", peer.rack()},
              {"instance", HexId(peer.instance())},
              {"state", PeerStateName(peer.state())},
              {"heard_ns", peer.heard_ns()},
              {"export_bytes", peer.export_bytes()},
              {"room_bytes", peer.room_bytes()},
              {"round_trip_ns", peer.round_trip_ns()},
              {"bytes_read", peer.bytes_read()},
              {"bytes_written", peer.bytes_written()},
              {"in_flight", peer.in_flight()},
              {"losses", peer.losses()}};
}

Json ToJson(const admin::v1::RemoteStore& store) {
  return Json{{"node", store.node()},
              {"reachable", store.reachable()},
              {"refuses", store.refuses()},
              {"text", store.text()},
              {"serve_bytes", store.serve_bytes()},
              {"path", store.path()},
              {"writes", store.writes()},
              {"bytes_written", store.bytes_written()},
              {"refused", store.refused()}};
}

Json ToJson(const admin::v1::ServedStore& store) {
  return Json{{"serve_bytes", store.serve_bytes()},
              {"used_bytes", store.used_bytes()},
              {"writes", store.writes()},
              {"bytes_written", store.bytes_written()},
              {"refused", store.refused()},
              {"erased", store.erased()},
              {"under_way", store.under_way()}};
}

Json ToJson(const admin::v1::PoolSnapshot& pool) {
  Json stores = Json::array();
  for (const auto& store : pool.stores()) stores.push_back(ToJson(store));
  Json peers = Json::array();
  for (const auto& peer : pool.peers()) peers.push_back(ToJson(peer));
  return Json{{"node", pool.node()},
              {"export_bytes", pool.export_bytes()},
              {"export_used_bytes", pool.export_used_bytes()},
              {"export_blocks", pool.export_blocks()},
              {"export_evictions", pool.export_evictions()},
              {"reservations_expired", pool.reservations_expired()},
              {"export_refused", pool.export_refused()},
              {"gets", pool.gets()},
              {"gets_local", pool.gets_local()},
              {"gets_elsewhere", pool.gets_elsewhere()},
              {"gets_not_found", pool.gets_not_found()},
              {"puts", pool.puts()},
              {"puts_failed", pool.puts_failed()},
              {"stale", pool.stale()},
              {"corrupt", pool.corrupt()},
              {"bad_messages", pool.bad_messages()},
              {"repaired", pool.repaired()},
              {"moved", pool.moved()},
              {"queued", pool.queued()},
              {"peers", std::move(peers)},
              {"store", pool.store_remote() ? "remote" : "disk"},
              {"stores", std::move(stores)},
              {"served", ToJson(pool.served())}};
}

Json ToJson(const admin::v1::ClusterSnapshot& cluster) {
  Json members = Json::array();
  for (const auto& member : cluster.members()) {
    members.push_back(Json{{"node", member.node()},
                           {"address", member.address()},
                           {"rack", member.rack()},
                           {"weight", member.weight()},
                           {"instance", HexId(member.instance())}});
  }
  Json left = Json::array();
  for (const auto& member : cluster.left()) {
    left.push_back(
        Json{{"node", member.node()}, {"left_ns", member.left_ns()}});
  }
  return Json{
      {"name", cluster.name()},        {"kind", cluster.kind()},
      {"epoch", cluster.epoch()},      {"reachable", cluster.reachable()},
      {"members", std::move(members)}, {"left", std::move(left)}};
}

}  // namespace

Json ToJson(const Health& health) {
  Json reasons = Json::array();
  for (const HealthReason& reason : health.reasons) {
    reasons.push_back(Json{{"name", reason.name},
                           {"text", reason.text},
                           {"remedy", reason.remedy},
                           {"severity", LevelName(reason.level)}});
  }
  return Json{{"state", HealthName(health.state)},
              {"reasons", std::move(reasons)}};
}

Json ToJson(const admin::v1::FabricSnapshot& fabric) {
  Json candidates = Json::array();
  for (const auto& candidate : fabric.candidates()) {
    candidates.push_back(Json{{"provider", candidate.provider()},
                              {"rdma", candidate.rdma()},
                              {"taken", candidate.taken()},
                              {"reason", candidate.reason()}});
  }
  Json warnings = Json::array();
  for (const std::string& warning : fabric.warnings()) {
    warnings.push_back(warning);
  }
  return Json{{"health", ToJson(HealthOf(fabric))},
              {"provider", fabric.provider()},
              {"domain", fabric.domain()},
              {"address", fabric.address()},
              {"rdma", fabric.rdma()},
              {"rdma_asked", fabric.rdma_asked()},
              {"fallbacks", fabric.fallbacks()},
              {"pins_memory", fabric.pins_memory()},
              {"links_lost", fabric.links_lost()},
              {"messages_dropped", fabric.messages_dropped()},
              {"completions_unknown", fabric.completions_unknown()},
              {"candidates", std::move(candidates)},
              {"devices", ToJson(fabric.devices())},
              {"pool", ToJson(fabric.pool())},
              {"cluster", ToJson(fabric.cluster())},
              {"peers_insecure", fabric.peers_insecure()},
              {"spin_us", fabric.spin_us()},
              {"early_collections", fabric.early_collections()},
              {"early_dropped", fabric.early_dropped()},
              {"warnings", std::move(warnings)}};
}

}  // namespace agentmem::memctl
