// The fabric's part of admin_messages.h.
#include "memd/service/admin_messages.h"
#include "proto/admin.pb.h"

namespace agentmem {
namespace {

static_assert(static_cast<int>(PoolPeerState::kDown) ==
              admin::v1::PEER_STATE_DOWN);

void CopyDevice(const RdmaDevice& from, admin::v1::RdmaDevice* to) {
  to->set_name(from.name);
  to->set_pci(from.pci);
  to->set_numa_node(from.numa_node);
  to->set_gpu_reaches(from.gpu.reaches);
  to->set_gpu_reason(from.gpu.reason);
  to->set_port_taken(from.port_taken);
  to->set_reason(from.reason);
  for (const RdmaPort& port : from.ports) {
    admin::v1::RdmaPort* copy = to->add_ports();
    copy->set_number(port.number);
    copy->set_state(port.state);
    copy->set_link_layer(port.link_layer);
    copy->set_bytes_per_second(port.bytes_per_second);
    for (const std::string& gid : port.gids) copy->add_gids(gid);
    copy->set_netdev(port.netdev);
  }
}

void CopySurvey(const RdmaSurvey& from, admin::v1::RdmaSurvey* to) {
  for (const RdmaDevice& device : from.devices) {
    CopyDevice(device, to->add_devices());
  }
  to->set_taken(from.taken);
  to->set_best(from.best);
  to->set_reason(from.reason);
  to->set_memory_node(from.memory_node);
  to->set_memlock_bytes(from.memlock_bytes);
  to->set_gpus(from.gpus);
  for (const RdmaProblem& problem : from.problems) {
    admin::v1::RdmaProblem* copy = to->add_problems();
    copy->set_found(problem.found);
    copy->set_remedy(problem.remedy);
  }
}

void CopyPeer(const PoolPeerSnapshot& from, admin::v1::PoolPeer* to) {
  to->set_node(from.node);
  to->set_rack(from.rack);
  to->set_instance(from.instance);
  to->set_state(static_cast<admin::v1::PeerState>(from.state));
  to->set_heard_ns(from.heard_ns);
  to->set_export_bytes(from.export_bytes);
  to->set_room_bytes(from.room_bytes);
  to->set_round_trip_ns(from.round_trip_ns);
  to->set_bytes_read(from.bytes_read);
  to->set_bytes_written(from.bytes_written);
  to->set_in_flight(from.in_flight);
  to->set_losses(from.losses);
}

void CopyPool(const PoolSnapshot& from, admin::v1::PoolSnapshot* to) {
  to->set_node(from.node);
  to->set_export_bytes(from.export_bytes);
  to->set_export_used_bytes(from.export_used_bytes);
  to->set_export_blocks(from.export_blocks);
  to->set_export_evictions(from.export_evictions);
  to->set_reservations_expired(from.reservations_expired);
  to->set_export_refused(from.export_refused);
  to->set_gets(from.gets);
  to->set_gets_local(from.gets_local);
  to->set_gets_elsewhere(from.gets_elsewhere);
  to->set_gets_not_found(from.gets_not_found);
  to->set_puts(from.puts);
  to->set_puts_failed(from.puts_failed);
  to->set_stale(from.stale);
  to->set_corrupt(from.corrupt);
  to->set_bad_messages(from.bad_messages);
  to->set_repaired(from.repaired);
  to->set_moved(from.moved);
  to->set_queued(from.queued);
  for (const PoolPeerSnapshot& peer : from.peers) {
    CopyPeer(peer, to->add_peers());
  }
  to->set_store_remote(from.store_remote);
  for (const RemoteStoreSnapshot& store : from.stores) {
    admin::v1::RemoteStore* copy = to->add_stores();
    copy->set_node(store.node);
    copy->set_reachable(store.reachable);
    copy->set_text(store.text);
    copy->set_serve_bytes(store.serve_bytes);
    copy->set_path(store.path);
    copy->set_writes(store.writes);
    copy->set_bytes_written(store.bytes_written);
    copy->set_refused(store.refused);
    copy->set_refuses(store.refuses);
  }
  admin::v1::ServedStore* served = to->mutable_served();
  served->set_serve_bytes(from.served.serve_bytes);
  served->set_used_bytes(from.served.used_bytes);
  served->set_writes(from.served.writes);
  served->set_bytes_written(from.served.bytes_written);
  served->set_refused(from.served.refused);
  served->set_erased(from.served.erased);
  served->set_under_way(from.served.under_way);
}

void CopyCluster(const ClusterSnapshot& from, admin::v1::ClusterSnapshot* to) {
  to->set_name(from.name);
  to->set_kind(from.kind);
  to->set_epoch(from.epoch);
  to->set_reachable(from.reachable);
  for (const ClusterMemberSnapshot& member : from.members) {
    admin::v1::ClusterMember* copy = to->add_members();
    copy->set_node(member.node);
    copy->set_address(member.address);
    copy->set_rack(member.rack);
    copy->set_weight(member.weight);
    copy->set_instance(member.instance);
  }
  for (const LeftMemberSnapshot& member : from.left) {
    admin::v1::LeftMember* copy = to->add_left();
    copy->set_node(member.node);
    copy->set_left_ns(member.left_ns);
  }
}

}  // namespace

void CopyTo(const FabricSnapshot& from, admin::v1::FabricSnapshot* to) {
  to->Clear();
  to->set_provider(from.provider);
  to->set_domain(from.domain);
  to->set_address(from.address);
  to->set_rdma(from.rdma);
  to->set_rdma_asked(from.rdma_asked);
  to->set_fallbacks(from.fallbacks);
  to->set_pins_memory(from.pins_memory);
  to->set_early_collections(from.early_collections);
  to->set_early_dropped(from.early_dropped);
  for (const FabricCandidate& candidate : from.candidates) {
    admin::v1::FabricCandidate* copy = to->add_candidates();
    copy->set_provider(candidate.provider);
    copy->set_rdma(candidate.rdma);
    copy->set_taken(candidate.taken);
    copy->set_reason(candidate.reason);
  }
  to->set_links_lost(from.counters.links_lost);
  to->set_messages_dropped(from.counters.messages_dropped);
  to->set_completions_unknown(from.counters.completions_unknown);
  CopySurvey(from.devices, to->mutable_devices());
  CopyPool(from.pool, to->mutable_pool());
  CopyCluster(from.cluster, to->mutable_cluster());
  to->set_peers_insecure(from.peers_insecure);
  to->set_spin_us(from.spin_us);
  for (const std::string& warning : from.warnings) to->add_warnings(warning);
  for (const Trouble& trouble : from.troubles) {
    admin::v1::Trouble* copy = to->add_troubles();
    copy->set_name(trouble.name);
    copy->set_text(trouble.text);
    copy->set_remedy(trouble.remedy);
    copy->set_since_ns(trouble.since_ns);
  }
}

}  // namespace agentmem
