#include "client/memctl/render_hbm.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "client/memctl/human_text.h"
#include "client/memctl/render_json.h"
#include "client/memctl/table.h"

namespace agentmem::memctl {
namespace {

using Align = Table::Align;

std::string NumberOrDash(std::uint64_t number) {
  return number == 0 ? "-" : std::to_string(number);
}

// Those that have blocks there now.
std::uint64_t AgentsIn(const HbmProcessFacts& process) {
  return static_cast<std::uint64_t>(std::count_if(
      process.agents.begin(), process.agents.end(),
      [](const HbmAgentFacts& agent) { return agent.blocks != 0; }));
}

std::string ClientOf(const HbmProcessFacts& process) {
  return process.client + " (" + std::to_string(process.pid) + ")";
}

// What became of memd's last wish.
std::string Answer(const HbmAgentFacts& agent) {
  if (agent.wish.empty()) return "-";
  if (agent.wish_open) return agent.wish_late ? "late" : "open";
  const std::string took =
      HumanDuration(static_cast<DurationNs>(agent.wish_ns));
  return (agent.wish == "empty" ? "left in " : "back in ") + took +
         (agent.wish_late ? ", late" : "");
}

}  // namespace

std::string RenderHbm(const std::vector<HbmProcessFacts>& processes,
                      Output output) {
  Json json = Json::array();
  Table table({{"CLIENT (PID)"},
               {"DEVICE"},
               {"BUDGET", Align::kRight},
               {"ALLOCATED", Align::kRight},
               {"WANTED", Align::kRight},
               {"USED", Align::kRight},
               {"BLOCKS", Align::kRight},
               {"AGENTS", Align::kRight},
               {"HITS", Align::kRight}});
  for (const HbmProcessFacts& process : processes) {
    json.push_back(Json{{"pid", process.pid},
                        {"client", process.client},
                        {"device", process.device},
                        {"budget_bytes", process.budget_bytes},
                        {"allocated_bytes", process.allocated_bytes},
                        {"wanted_bytes", process.wanted_bytes},
                        {"used_bytes", process.used_bytes},
                        {"blocks", process.blocks},
                        {"agent_count", AgentsIn(process)},
                        {"hits", process.hits},
                        {"hit_bytes", process.hit_bytes}});
    table.AddRow(
        {ClientOf(process), process.device, HumanBytes(process.budget_bytes),
         HumanBytes(process.allocated_bytes), HumanBytes(process.wanted_bytes),
         HumanBytes(process.used_bytes), NumberOrDash(process.blocks),
         NumberOrDash(AgentsIn(process)), NumberOrDash(process.hits)});
  }
  if (output == Output::kJson) {
    return Dump(Json{{"processes", std::move(json)}});
  }
  return table.Render();
}

std::string RenderHbmAgents(const std::vector<HbmProcessFacts>& processes,
                            Output output) {
  Json json = Json::array();
  Table table({{"AGENT"},
               {"CLIENT (PID)"},
               {"DEVICE"},
               {"SIZE", Align::kRight},
               {"BLOCKS", Align::kRight},
               {"PHASE"},
               {"WISH"},
               {"ANSWER"}});
  for (const HbmProcessFacts& process : processes) {
    for (const HbmAgentFacts& agent : process.agents) {
      json.push_back(Json{{"name", agent.name},
                          {"pid", process.pid},
                          {"client", process.client},
                          {"device", process.device},
                          {"bytes", agent.bytes},
                          {"blocks", agent.blocks},
                          {"phase", agent.phase},
                          {"wish", agent.wish},
                          {"wish_open", agent.wish_open},
                          {"wish_late", agent.wish_late},
                          {"wish_ns", agent.wish_ns}});
      std::string wish = agent.wish.empty() ? "-" : agent.wish;
      std::replace(wish.begin(), wish.end(), '_', ' ');
      table.AddRow({agent.name, ClientOf(process), process.device,
                    HumanBytes(agent.bytes), NumberOrDash(agent.blocks),
                    agent.phase.empty() ? "-" : agent.phase, wish,
                    Answer(agent)});
    }
  }
  if (output == Output::kJson) return Dump(Json{{"agents", std::move(json)}});
  return table.Render();
}

}  // namespace agentmem::memctl
