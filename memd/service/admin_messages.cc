#include "memd/service/admin_messages.h"

#include "proto/admin.pb.h"

namespace agentmem {
namespace {

static_assert(static_cast<int>(Tier::kStore) == admin::v1::TIER_STORE);
static_assert(static_cast<int>(BlockClass::kState) ==
              admin::v1::BLOCK_CLASS_STATE);

void CopyKey(const Key& from, admin::v1::Key* to) {
  to->set_low(from.low());
  to->set_high(from.high());
}

void CopyTier(const TierSnapshot& from, admin::v1::TierSnapshot* to) {
  to->set_tier(static_cast<admin::v1::Tier>(from.tier));
  to->set_budget_bytes(from.budget_bytes);
  to->set_used_bytes(from.used_bytes);
  to->set_blocks(from.blocks);
  to->set_hits(from.hits);
  to->set_reads(from.reads);
  to->set_writes(from.writes);
  to->set_evictions(from.evictions);
  to->set_hit_bytes(from.hit_bytes);
}

void CopyTenant(const TenantSnapshot& from, admin::v1::TenantSnapshot* to) {
  to->set_name(from.name);
  to->set_id(from.id.value());
  if (from.hbm.has_value()) CopyTier(*from.hbm, to->mutable_hbm());
  CopyTier(from.dram, to->mutable_dram());
  CopyTier(from.pool, to->mutable_pool());
  CopyTier(from.store, to->mutable_store());
  to->set_clients(from.clients);
  to->set_puts(from.puts);
  to->set_puts_failed(from.puts_failed);
  to->set_puts_failed_room(from.puts_failed_room);
  to->set_puts_failed_quota(from.puts_failed_quota);
  to->set_puts_failed_store(from.puts_failed_store);
  to->set_puts_failed_replica(from.puts_failed_replica);
  to->set_misses(from.misses);
  to->set_granted_bytes(from.granted_bytes);
  to->set_pinned_bytes(from.pinned_bytes);
  to->set_held_bytes(from.held_bytes);
  to->set_registered_bytes(from.registered_bytes);
  to->set_limbo_bytes(from.limbo_bytes);
  to->set_dirty_bytes(from.dirty_bytes);
  to->set_notes_lost(from.notes_lost);
  to->set_corrupt_blocks(from.corrupt_blocks);
  to->set_slots_used(from.slots_used);
  to->set_slots(from.slots);
}

void CopyClient(const ClientSnapshot& from, admin::v1::ClientSnapshot* to) {
  to->set_id(from.id.value());
  to->set_name(from.name);
  to->set_tenant(from.tenant);
  to->set_pid(from.pid);
  to->set_uid(from.uid);
  to->set_connected_ns(from.connected_ns);
  to->set_pins(from.pins);
  to->set_pinned_bytes(from.pinned_bytes);
  to->set_holds(from.holds);
  to->set_held_bytes(from.held_bytes);
  to->set_registered_bytes(from.registered_bytes);
  to->set_oldest_hold_ns(from.oldest_hold_ns);
  to->set_grants(from.grants);
  to->set_granted_bytes(from.granted_bytes);
  to->set_limbo_bytes(from.limbo_bytes);
  to->set_socket_closed(from.socket_closed);
  for (const HoldSnapshot& hold : from.oldest_holds) {
    admin::v1::HoldSnapshot* copy = to->add_oldest_holds();
    CopyKey(hold.key, copy->mutable_key());
    copy->set_bytes(hold.bytes);
    copy->set_age_ns(hold.age_ns);
  }
}

}  // namespace

void CopyTo(const NodeSnapshot& from, admin::v1::NodeSnapshot* to) {
  to->Clear();
  to->set_version(from.version);
  to->set_state(from.state);
  to->set_state_directory(from.state_directory);
  to->set_socket_path(from.socket_path);
  to->set_pid(from.pid);
  to->set_instance(from.instance);
  to->set_uptime_ns(from.uptime_ns);
  to->set_store_disk_bytes(from.store_disk_bytes);
  to->set_clients_died(from.clients_died);
  to->set_clients_refused(from.clients_refused);
  for (const TenantSnapshot& tenant : from.tenants) {
    CopyTenant(tenant, to->add_tenants());
  }
  for (const ClientSnapshot& client : from.clients) {
    CopyClient(client, to->add_clients());
  }
}

void CopyTo(const BlockSnapshot& from, admin::v1::BlockSnapshot* to) {
  to->Clear();
  CopyKey(from.key, to->mutable_key());
  to->set_tenant(from.tenant);
  to->set_block_class(static_cast<admin::v1::BlockClass>(from.block_class));
  to->set_length(from.length);
  to->set_in_dram(from.in_dram);
  to->set_in_store(from.in_store);
  to->set_pool_copies(from.pool_copies);
  to->set_slot(from.slot);
  to->set_generation(from.generation);
  to->set_holds(from.holds);
  to->set_pins(from.pins);
}

}  // namespace agentmem
