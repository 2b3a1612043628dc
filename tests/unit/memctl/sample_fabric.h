// A fabric for rendering: node-a of two, over RDMA, all well.
#ifndef AGENTMEM_TESTS_UNIT_MEMCTL_SAMPLE_FABRIC_H_
#define AGENTMEM_TESTS_UNIT_MEMCTL_SAMPLE_FABRIC_H_

#include "base/clock.h"
#include "proto/admin.pb.h"

namespace agentmem::memctl {

inline void AddSampleDevice(const char* name, int node, const char* reason,
                            admin::v1::RdmaSurvey* survey) {
  auto* device = survey->add_devices();
  device->set_name(name);
  device->set_numa_node(node);
  device->set_reason(reason);
  device->set_gpu_reason("by dma-buf");
  device->set_gpu_reaches(true);
  auto* port = device->add_ports();
  port->set_number(1);
  port->set_state("ACTIVE");
  port->set_link_layer("Ethernet");
  port->set_bytes_per_second(12'500'000'000);
  port->add_gids("fe80::1");
  port->add_gids("::ffff:10.0.0.1");
  port->set_netdev("eth1");
}

inline admin::v1::FabricSnapshot SampleFabric() {
  admin::v1::FabricSnapshot fabric;
  fabric.set_provider("verbs;ofi_rxm");
  fabric.set_domain("mlx5_0");
  fabric.set_address("10.0.0.1");
  fabric.set_rdma(true);
  fabric.set_spin_us(50);
  fabric.set_pins_memory(true);
  fabric.set_early_collections(3);
  fabric.set_early_dropped(812);
  auto* taken = fabric.add_candidates();
  taken->set_provider("verbs;ofi_rxm");
  taken->set_rdma(true);
  taken->set_taken(true);
  taken->set_reason("the first in the order that is there");
  auto* other = fabric.add_candidates();
  other->set_provider("tcp;ofi_rxm");
  other->set_reason("verbs;ofi_rxm comes before it");
  auto* survey = fabric.mutable_devices();
  survey->set_taken("mlx5_0");
  survey->set_best("mlx5_0");
  survey->set_reason("mlx5_0 port 1: the nearest to the memory");
  survey->set_memlock_bytes(UINT64_MAX);
  AddSampleDevice("mlx5_0", 0, "the nearest to the memory", survey);
  AddSampleDevice("mlx5_1", 1, "farther from the memory", survey);
  survey->mutable_devices(0)->set_port_taken(1);
  auto* pool = fabric.mutable_pool();
  pool->set_node("node-a");
  pool->set_export_bytes(4ULL << 30);
  pool->set_export_used_bytes(1ULL << 30);
  pool->set_export_blocks(1000);
  pool->set_export_refused(27);
  pool->set_gets(100);
  pool->set_gets_local(30);
  pool->set_gets_elsewhere(2);
  pool->set_gets_not_found(5);
  auto* peer = pool->add_peers();
  peer->set_node("node-b");
  peer->set_rack("r2");
  peer->set_state(admin::v1::PEER_STATE_UP);
  peer->set_heard_ns(20 * kMillisecondNs);
  peer->set_round_trip_ns(9'000);
  peer->set_export_bytes(8ULL << 30);
  peer->set_room_bytes(6ULL << 30);
  peer->set_bytes_read(3 << 20);
  peer->set_bytes_written(5 << 20);
  peer->set_in_flight(4);
  peer->set_losses(1);
  auto* cluster = fabric.mutable_cluster();
  cluster->set_name("prod");
  cluster->set_kind("etcd");
  cluster->set_epoch(42);
  cluster->set_reachable(true);
  for (const char* name : {"node-a", "node-b"}) {
    auto* member = cluster->add_members();
    member->set_node(name);
    member->set_address(std::string(name) + ":7000");
    member->set_weight(8ULL << 30);
    member->set_instance(0xabc);
  }
  return fabric;
}

}  // namespace agentmem::memctl

#endif  // AGENTMEM_TESTS_UNIT_MEMCTL_SAMPLE_FABRIC_H_
