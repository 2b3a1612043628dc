#include "client/memctl/render.h"

#include <utility>

#include "client/memctl/human_text.h"
#include "client/memctl/render_fabric.h"
#include "client/memctl/render_json.h"
#include "client/memctl/table.h"
#include "proto/key_text.h"

namespace agentmem::memctl {
namespace {

using Align = Table::Align;

// Absent amounts are a dash, so that the others stand out.
std::string Bytes(std::uint64_t bytes) {
  return bytes == 0 ? "-" : HumanBytes(bytes);
}
std::string Count(std::uint64_t count) {
  return count == 0 ? "-" : std::to_string(count);
}

bool Wanted(const std::string& wanted, const std::string& name) {
  return wanted.empty() || wanted == name;
}

void AddTierRow(const std::string& name, const admin::v1::TierSnapshot& tier,
                Table* table) {
  // Processes own what is there: of it memd knows no more than they say.
  const bool is_theirs = tier.tier() == admin::v1::TIER_HBM;
  const auto own = [is_theirs](std::uint64_t count) {
    return is_theirs ? "-" : std::to_string(count);
  };
  std::string budget = is_theirs ? "-" : "no limit";
  if (tier.budget_bytes() != 0) budget = HumanBytes(tier.budget_bytes());
  table->AddRow({name, TierName(tier.tier()), budget,
                 HumanBytes(tier.used_bytes()),
                 HumanShare(tier.used_bytes(), tier.budget_bytes()),
                 std::to_string(tier.blocks()), std::to_string(tier.hits()),
                 own(tier.reads()), own(tier.writes()), own(tier.evictions())});
}

Table TierTable(const std::string& first_title) {
  return Table({{first_title},
                {"TIER"},
                {"BUDGET", Align::kRight},
                {"USED", Align::kRight},
                {"FULL", Align::kRight},
                {"BLOCKS", Align::kRight},
                {"HITS", Align::kRight},
                {"READS", Align::kRight},
                {"WRITES", Align::kRight},
                {"EVICTIONS", Align::kRight}});
}

std::string Yes(bool value) { return value ? "yes" : "no"; }

// From the nearest to the farthest. A memd of before the pool has none; of
// device memory there is none where no process has had any.
std::vector<const admin::v1::TierSnapshot*> TiersOf(
    const admin::v1::TenantSnapshot& tenant) {
  std::vector<const admin::v1::TierSnapshot*> tiers;
  if (tenant.has_hbm()) tiers.push_back(&tenant.hbm());
  tiers.push_back(&tenant.dram());
  if (tenant.has_pool()) tiers.push_back(&tenant.pool());
  tiers.push_back(&tenant.store());
  return tiers;
}

}  // namespace

std::string RenderStatus(const admin::v1::NodeSnapshot& node,
                         const Health& health, Output output) {
  if (output == Output::kJson) {
    Json json = ToJson(node);
    json["health"] = ToJson(health);
    json["tiers"] = Json::array();
    for (const auto& tenant : node.tenants()) {
      for (const auto* tier : TiersOf(tenant)) {
        Json entry{{"tenant", tenant.name()}};
        entry.update(ToJson(*tier));
        json["tiers"].push_back(std::move(entry));
      }
    }
    return Dump(json);
  }
  Table facts({{"memd"}, {node.state()}});
  AddHealth(health, &facts);
  facts.AddRow({"version", node.version()});
  facts.AddRow({"pid", std::to_string(node.pid())});
  facts.AddRow({"up", HumanDuration(node.uptime_ns())});
  facts.AddRow({"instance", HexId(node.instance())});
  facts.AddRow({"socket", node.socket_path()});
  facts.AddRow({"state directory", node.state_directory()});
  facts.AddRow({"store on disk", HumanBytes(node.store_disk_bytes())});
  facts.AddRow({"tenants", std::to_string(node.tenants_size())});
  facts.AddRow({"clients", std::to_string(node.clients_size()) + " (" +
                               std::to_string(node.clients_died()) + " died, " +
                               std::to_string(node.clients_refused()) +
                               " refused)"});
  std::string text = facts.Render();
  if (node.tenants_size() == 0) return text;
  return text + "\n" + RenderTiers(node, "", output);
}

std::string RenderTiers(const admin::v1::NodeSnapshot& node,
                        const std::string& wanted, Output output) {
  Json tiers = Json::array();
  Table table = TierTable("TENANT");
  for (const auto& tenant : node.tenants()) {
    if (!Wanted(wanted, tenant.name())) continue;
    for (const auto* tier : TiersOf(tenant)) {
      AddTierRow(tenant.name(), *tier, &table);
      Json entry{{"tenant", tenant.name()}};
      entry.update(ToJson(*tier));
      tiers.push_back(std::move(entry));
    }
  }
  if (output == Output::kJson) return Dump(Json{{"tiers", std::move(tiers)}});
  return table.Render();
}

std::string RenderTenants(const admin::v1::NodeSnapshot& node,
                          const std::string& wanted, Output output) {
  Json tenants = Json::array();
  Table table({{"TENANT"},
               {"CLIENTS", Align::kRight},
               {"PUTS", Align::kRight},
               {"FAILED", Align::kRight},
               {"MISSES", Align::kRight},
               {"HBM", Align::kRight},
               {"DRAM", Align::kRight},
               {"POOL", Align::kRight},
               {"STORE", Align::kRight},
               {"PINNED", Align::kRight},
               {"HELD", Align::kRight},
               {"REGISTERED", Align::kRight},
               {"GRANTED", Align::kRight},
               {"LIMBO", Align::kRight},
               {"DIRTY", Align::kRight},
               {"SLOTS", Align::kRight},
               {"CORRUPT", Align::kRight}});
  for (const auto& tenant : node.tenants()) {
    if (!Wanted(wanted, tenant.name())) continue;
    tenants.push_back(ToJson(tenant));
    table.AddRow(
        {tenant.name(), Count(tenant.clients()), Count(tenant.puts()),
         Count(tenant.puts_failed()), Count(tenant.misses()),
         Bytes(tenant.hbm().used_bytes()), Bytes(tenant.dram().used_bytes()),
         Bytes(tenant.pool().used_bytes()), Bytes(tenant.store().used_bytes()),
         Bytes(tenant.pinned_bytes()), Bytes(tenant.held_bytes()),
         Bytes(tenant.registered_bytes()), Bytes(tenant.granted_bytes()),
         Bytes(tenant.limbo_bytes()), Bytes(tenant.dirty_bytes()),
         std::to_string(tenant.slots_used()) + "/" +
             std::to_string(tenant.slots()),
         Count(tenant.corrupt_blocks())});
  }
  if (output == Output::kJson) {
    return Dump(Json{{"tenants", std::move(tenants)}});
  }
  return table.Render();
}

std::string RenderClients(const admin::v1::NodeSnapshot& node,
                          const std::string& wanted, Output output) {
  Json clients = Json::array();
  Table table({{"CLIENT", Align::kRight},
               {"NAME"},
               {"PID", Align::kRight},
               {"UID", Align::kRight},
               {"TENANT"},
               {"CONNECTED", Align::kRight},
               {"PINS", Align::kRight},
               {"PINNED", Align::kRight},
               {"HOLDS", Align::kRight},
               {"HELD", Align::kRight},
               {"OLDEST", Align::kRight},
               {"REGISTERED", Align::kRight},
               {"GRANTED", Align::kRight},
               {"LIMBO", Align::kRight},
               {"SOCKET"}});
  Table holds({{"CLIENT", Align::kRight},
               {"HOLDS KEY"},
               {"BYTES", Align::kRight},
               {"AGE", Align::kRight}});
  for (const auto& client : node.clients()) {
    if (!Wanted(wanted, client.tenant())) continue;
    clients.push_back(ToJson(client));
    const std::string id = std::to_string(client.id());
    table.AddRow(
        {id, client.name(), std::to_string(client.pid()),
         std::to_string(client.uid()), client.tenant(),
         HumanDuration(client.connected_ns()), Count(client.pins()),
         Bytes(client.pinned_bytes()), Count(client.holds()),
         Bytes(client.held_bytes()),
         client.holds() == 0 ? "-" : HumanDuration(client.oldest_hold_ns()),
         Bytes(client.registered_bytes()), Bytes(client.granted_bytes()),
         Bytes(client.limbo_bytes()),
         client.socket_closed() ? "closed" : "open"});
    for (const auto& hold : client.oldest_holds()) {
      holds.AddRow({id, KeyText(ToKey(hold.key())), HumanBytes(hold.bytes()),
                    HumanDuration(hold.age_ns())});
    }
  }
  if (output == Output::kJson) {
    return Dump(Json{{"clients", std::move(clients)}});
  }
  return holds.empty() ? table.Render()
                       : table.Render() + "\n" + holds.Render();
}

std::string RenderBlocks(const admin::v1::ShowBlockResponse& response,
                         Output output) {
  Json blocks = Json::array();
  Table table({{"KEY"},
               {"TENANT"},
               {"CLASS"},
               {"LENGTH", Align::kRight},
               {"DRAM"},
               {"POOL", Align::kRight},
               {"STORE"},
               {"SLOT", Align::kRight},
               {"GENERATION", Align::kRight},
               {"PINS", Align::kRight},
               {"HOLDS", Align::kRight}});
  for (const auto& block : response.blocks()) {
    blocks.push_back(ToJson(block));
    table.AddRow({KeyText(ToKey(block.key())), block.tenant(),
                  ClassName(block.block_class()), HumanBytes(block.length()),
                  Yes(block.in_dram()), std::to_string(block.pool_copies()),
                  Yes(block.in_store()),
                  block.in_dram() ? std::to_string(block.slot()) : "-",
                  block.in_dram() ? std::to_string(block.generation()) : "-",
                  Count(block.pins()), Count(block.holds())});
  }
  if (output == Output::kJson) {
    return Dump(Json{{"blocks", std::move(blocks)}});
  }
  return table.Render();
}

std::string RenderFindings(const std::vector<Finding>& findings,
                           Output output) {
  Json json = Json::array();
  std::string text;
  int notes = 0;
  int problems = 0;
  Table table({{"LEVEL"}, {"CHECK"}, {"FOUND"}});
  for (const Finding& finding : findings) {
    notes += finding.level == Level::kNote;
    problems += finding.level == Level::kProblem;
    json.push_back(Json{{"name", finding.name},
                        {"level", LevelName(finding.level)},
                        {"value", finding.value},
                        {"remedy", finding.remedy}});
    table.AddRow({LevelName(finding.level), finding.name, finding.value});
    if (!finding.remedy.empty()) {
      table.AddRow({"", "", "-> " + finding.remedy});
    }
  }
  if (output == Output::kJson) {
    return Dump(Json{{"findings", std::move(json)},
                     {"notes", notes},
                     {"problems", problems}});
  }
  const auto plural = [](int count, const char* word) {
    return std::to_string(count) + " " + word + (count == 1 ? "" : "s");
  };
  return table.Render() + "\n" + plural(problems, "problem") + ", " +
         plural(notes, "note") + "\n";
}

std::string RenderPut(const Transfer& put, BlockClass block_class,
                      Output output) {
  const char* const name = ClassName(static_cast<int>(block_class));
  if (output == Output::kJson) {
    return Dump(Json{{"key", KeyText(put.key)},
                     {"length", put.bytes},
                     {"block_class", name},
                     {"ack", put.how}});
  }
  Table table({{"KEY"}, {"LENGTH", Align::kRight}, {"CLASS"}, {"ACK"}});
  table.AddRow({KeyText(put.key), HumanBytes(put.bytes), name, put.how});
  return table.Render();
}

std::string RenderGet(const Transfer& get, Output output) {
  if (output == Output::kJson) {
    return Dump(Json{{"key", KeyText(get.key)},
                     {"length", get.bytes},
                     {"tier", get.how},
                     {"file", get.file}});
  }
  Table table({{"KEY"}, {"LENGTH", Align::kRight}, {"TIER"}, {"FILE"}});
  table.AddRow({KeyText(get.key), HumanBytes(get.bytes), get.how, get.file});
  return table.Render();
}

}  // namespace agentmem::memctl
