#include "client/memctl/render_json.h"

#include <cstdio>

#include "proto/key_text.h"

namespace agentmem::memctl {

Key ToKey(const admin::v1::Key& key) {
  return Key::FromWords(key.low(), key.high());
}

const char* TierName(int tier) {
  switch (tier) {
    case admin::v1::TIER_NONE:
      return "none";
    case admin::v1::TIER_HBM:
      return "hbm";
    case admin::v1::TIER_DRAM:
      return "dram";
    case admin::v1::TIER_POOL:
      return "pool";
    case admin::v1::TIER_STORE:
      return "store";
    default:
      return "unknown";
  }
}

const char* ClassName(int block_class) {
  switch (block_class) {
    case admin::v1::BLOCK_CLASS_CACHE:
      return "cache";
    case admin::v1::BLOCK_CLASS_STATE:
      return "state";
    default:
      return "unknown";
  }
}

std::string HexId(std::uint64_t id) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx",
                static_cast<unsigned long long>(id));
  return text;
}

Json ToJson(const admin::v1::TierSnapshot& tier) {
  Json json{{"tier", TierName(tier.tier())},
            {"budget_bytes", tier.budget_bytes()},
            {"used_bytes", tier.used_bytes()},
            {"blocks", tier.blocks()},
            {"hits", tier.hits()}};
  if (tier.tier() == admin::v1::TIER_HBM) {
    json["hit_bytes"] = tier.hit_bytes();
    return json;  // of the rest memd knows nothing
  }
  json["reads"] = tier.reads();
  json["writes"] = tier.writes();
  json["evictions"] = tier.evictions();
  return json;
}

Json ToJson(const admin::v1::TenantSnapshot& tenant) {
  Json json{{"name", tenant.name()},
            {"id", tenant.id()},
            {"clients", tenant.clients()},
            {"puts", tenant.puts()},
            {"puts_failed", tenant.puts_failed()},
            {"puts_failed_room", tenant.puts_failed_room()},
            {"puts_failed_quota", tenant.puts_failed_quota()},
            {"puts_failed_store", tenant.puts_failed_store()},
            {"puts_failed_replica", tenant.puts_failed_replica()},
            {"misses", tenant.misses()},
            {"granted_bytes", tenant.granted_bytes()},
            {"pinned_bytes", tenant.pinned_bytes()},
            {"held_bytes", tenant.held_bytes()},
            {"registered_bytes", tenant.registered_bytes()},
            {"limbo_bytes", tenant.limbo_bytes()},
            {"dirty_bytes", tenant.dirty_bytes()},
            {"notes_lost", tenant.notes_lost()},
            {"corrupt_blocks", tenant.corrupt_blocks()},
            {"slots_used", tenant.slots_used()},
            {"slots", tenant.slots()},
            {"dram", ToJson(tenant.dram())},
            {"pool", ToJson(tenant.pool())},
            {"store", ToJson(tenant.store())}};
  if (tenant.has_hbm()) json["hbm"] = ToJson(tenant.hbm());
  return json;
}

Json ToJson(const admin::v1::ClientSnapshot& client) {
  Json holds = Json::array();
  for (const auto& hold : client.oldest_holds()) {
    holds.push_back(Json{{"key", KeyText(ToKey(hold.key()))},
                         {"bytes", hold.bytes()},
                         {"age_ns", hold.age_ns()}});
  }
  return Json{{"id", client.id()},
              {"name", client.name()},
              {"tenant", client.tenant()},
              {"pid", client.pid()},
              {"uid", client.uid()},
              {"connected_ns", client.connected_ns()},
              {"pins", client.pins()},
              {"pinned_bytes", client.pinned_bytes()},
              {"holds", client.holds()},
              {"held_bytes", client.held_bytes()},
              {"registered_bytes", client.registered_bytes()},
              {"oldest_hold_ns", client.oldest_hold_ns()},
              {"grants", client.grants()},
              {"granted_bytes", client.granted_bytes()},
              {"limbo_bytes", client.limbo_bytes()},
              {"socket_closed", client.socket_closed()},
              {"oldest_holds", std::move(holds)}};
}

Json ToJson(const admin::v1::BlockSnapshot& block) {
  return Json{{"key", KeyText(ToKey(block.key()))},
              {"tenant", block.tenant()},
              {"block_class", ClassName(block.block_class())},
              {"length", block.length()},
              {"in_dram", block.in_dram()},
              {"in_store", block.in_store()},
              {"pool_copies", block.pool_copies()},
              {"slot", block.slot()},
              {"generation", block.generation()},
              {"holds", block.holds()},
              {"pins", block.pins()}};
}

Json ToJson(const admin::v1::NodeSnapshot& node) {
  return Json{{"state", node.state()},
              {"version", node.version()},
              {"pid", node.pid()},
              {"instance", HexId(node.instance())},
              {"uptime_ns", node.uptime_ns()},
              {"socket_path", node.socket_path()},
              {"state_directory", node.state_directory()},
              {"store_disk_bytes", node.store_disk_bytes()},
              {"tenants", node.tenants_size()},
              {"clients", node.clients_size()},
              {"clients_died", node.clients_died()},
              {"clients_refused", node.clients_refused()}};
}

std::string Dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace agentmem::memctl
