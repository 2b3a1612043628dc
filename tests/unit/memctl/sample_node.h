// A node for rendering: two tenants, two clients, one odd name.
#ifndef AGENTMEM_TESTS_UNIT_MEMCTL_SAMPLE_NODE_H_
#define AGENTMEM_TESTS_UNIT_MEMCTL_SAMPLE_NODE_H_

#include "base/clock.h"
#include "proto/admin.pb.h"
#include "proto/types.h"

namespace agentmem::memctl {

inline constexpr Key kSampleKey{0x2a, {0x00112233, 0x44556677, 0x8899aabb}};

inline void SetKey(const Key& key, admin::v1::Key* to) {
  to->set_low(key.low());
  to->set_high(key.high());
}

inline admin::v1::NodeSnapshot SampleNode() {
  admin::v1::NodeSnapshot node;
  node.set_version("0.1.0");
  node.set_state("serving");
  node.set_state_directory("/var/lib/agentmem");
  node.set_socket_path("/run/agentmem/memd.sock");
  node.set_pid(4242);
  node.set_instance(0xabc);
  node.set_uptime_ns(312 * kSecondNs);
  node.set_store_disk_bytes(3ULL << 30);
  node.set_clients_died(2);
  auto* tenant = node.add_tenants();
  tenant->set_name("chat");
  tenant->set_clients(2);
  tenant->set_puts(1000);
  tenant->set_puts_failed(3);
  tenant->set_pinned_bytes(64 << 10);
  tenant->set_slots_used(512);
  tenant->set_slots(1024);
  tenant->mutable_dram()->set_tier(admin::v1::TIER_DRAM);
  tenant->mutable_dram()->set_budget_bytes(512 << 20);
  tenant->mutable_dram()->set_used_bytes(128 << 20);
  tenant->mutable_dram()->set_hits(9000);
  tenant->mutable_store()->set_tier(admin::v1::TIER_STORE);
  tenant->mutable_store()->set_used_bytes(3ULL << 30);
  tenant->mutable_pool()->set_tier(admin::v1::TIER_POOL);
  tenant->mutable_pool()->set_used_bytes(1ULL << 30);
  tenant->mutable_pool()->set_blocks(4);
  auto* other = node.add_tenants();  // as of a memd without a pool
  other->set_name("code");
  other->mutable_dram()->set_tier(admin::v1::TIER_DRAM);
  other->mutable_store()->set_tier(admin::v1::TIER_STORE);
  auto* client = node.add_clients();
  client->set_id(7);
  client->set_name("agent\x1b[2J");
  client->set_tenant("chat");
  client->set_pid(100);
  client->set_uid(1000);
  client->set_connected_ns(90 * kSecondNs);
  client->set_pins(2);
  client->set_pinned_bytes(64 << 10);
  client->set_holds(1);
  client->set_held_bytes(4096);
  client->set_registered_bytes(8 << 20);
  client->set_oldest_hold_ns(1'500 * kMillisecondNs);
  auto* hold = client->add_oldest_holds();
  SetKey(kSampleKey, hold->mutable_key());
  hold->set_bytes(4096);
  hold->set_age_ns(1'500 * kMillisecondNs);
  auto* quiet = node.add_clients();
  quiet->set_id(12);
  quiet->set_name("bench \xff");
  quiet->set_tenant("code");
  quiet->set_socket_closed(true);
  return node;
}

}  // namespace agentmem::memctl

#endif  // AGENTMEM_TESTS_UNIT_MEMCTL_SAMPLE_NODE_H_
