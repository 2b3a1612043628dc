#include "client/memctl/render_agents.h"

#include <sstream>
#include <utility>

#include "client/memctl/human_text.h"
#include "client/memctl/render_json.h"
#include "client/memctl/table.h"

namespace agentmem::memctl {
namespace {

using Align = Table::Align;

std::string Number(std::uint64_t number) { return std::to_string(number); }
// Absent amounts are a dash, so that the others stand out.
std::string NumberOrDash(std::uint64_t number) {
  return number == 0 ? "-" : Number(number);
}
std::string BytesOrDash(std::uint64_t bytes) {
  return bytes == 0 ? "-" : HumanBytes(bytes);
}
std::string Plural(std::uint64_t count, const char* word) {
  return Number(count) + " " + word + (count == 1 ? "" : "s");
}

std::string Writer(const AgentFacts& agent) {
  if (!agent.writing) return "-";
  return agent.writer + " (" + std::to_string(agent.writer_pid) + ")";
}

Json ToJson(const AgentFacts& agent) {
  return Json{{"name", agent.name},
              {"phase", agent.phase},
              {"writing", agent.writing},
              {"writer", agent.writer},
              {"writer_pid", agent.writer_pid},
              {"region_count", agent.region_count},
              {"region_bytes", agent.region_bytes},
              {"resident_bytes", agent.resident_bytes},
              {"hbm_bytes", agent.hbm_bytes},
              {"versions", agent.versions}};
}

// revert_of, fork_of and trace_id stand there only if the version has them.
Json ToJson(const VersionFacts& version) {
  Json labels = Json::object();
  for (const auto& [key, value] : version.labels) labels[key] = value;
  Json json{{"version", version.number},
            {"parent", version.parent},
            {"unix_ns", version.unix_ns},
            {"region_bytes", version.region_bytes},
            {"changed_bytes", version.changed_bytes},
            {"changed_pages", version.changed_pages},
            {"message", version.message},
            {"labels", std::move(labels)}};
  if (version.revert_of != 0) json["revert_of"] = version.revert_of;
  if (version.fork_of != 0) json["fork_of"] = version.fork_of;
  if (!version.trace_id.empty()) json["trace_id"] = version.trace_id;
  return json;
}

Json RegionJson(const RegionName& name) {
  return Json{{"agent", name.agent}, {"region", name.region}};
}

std::string FirstLine(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

void AddLine(const char* title, const std::string& value, std::string* text) {
  std::string line = title;
  line.resize(9, ' ');
  *text += line + Printable(value) + "\n";
}

std::string LogEntry(const LoggedVersion& logged) {
  const VersionFacts& version = logged.version;
  std::string text = "version " + Number(version.number) + " of " +
                     Printable(logged.region) + "\n";
  AddLine("when", HumanTime(version.unix_ns), &text);
  AddLine("changed",
          HumanBytes(version.changed_bytes) + " in " +
              Plural(version.changed_pages, "page"),
          &text);
  if (version.revert_of != 0) {
    AddLine("equal to", "version " + Number(version.revert_of), &text);
  }
  if (version.fork_of != 0) {
    AddLine("fork of", "version " + Number(version.fork_of), &text);
  }
  std::string labels;
  for (const auto& [key, value] : version.labels) {
    labels += (labels.empty() ? "" : " ") + key + "=" + value;
  }
  if (!labels.empty()) AddLine("labels", labels, &text);
  if (!version.trace_id.empty()) AddLine("trace", version.trace_id, &text);
  if (version.message.empty()) return text;
  text += "\n";
  std::istringstream lines(version.message);
  for (std::string line; std::getline(lines, line);) {
    text += line.empty() ? "\n" : "    " + Printable(line) + "\n";
  }
  return text;
}

}  // namespace

std::string RenderAgents(const std::vector<AgentFacts>& agents, Output output) {
  Json json = Json::array();
  Table table({{"AGENT"},
               {"PHASE"},
               {"WRITER (PID)"},
               {"REGIONS", Align::kRight},
               {"SIZE", Align::kRight},
               {"RESIDENT", Align::kRight},
               {"HBM", Align::kRight},
               {"VERSIONS", Align::kRight}});
  for (const AgentFacts& agent : agents) {
    json.push_back(ToJson(agent));
    table.AddRow({agent.name, agent.phase, Writer(agent),
                  NumberOrDash(agent.region_count),
                  HumanBytes(agent.region_bytes),
                  HumanBytes(agent.resident_bytes),
                  BytesOrDash(agent.hbm_bytes), NumberOrDash(agent.versions)});
  }
  if (output == Output::kJson) return Dump(Json{{"agents", std::move(json)}});
  return table.Render();
}

std::string RenderAgent(const AgentFacts& agent,
                        const std::vector<VersionFacts>& newest,
                        Output output) {
  Json regions = Json::array();
  Table table({{"REGION"},
               {"SIZE", Align::kRight},
               {"OLDEST", Align::kRight},
               {"NEWEST", Align::kRight},
               {"COMMITTED"},
               {"CHANGED", Align::kRight},
               {"MESSAGE"}});
  for (std::size_t i = 0; i < agent.regions.size(); ++i) {
    const RegionFacts& region = agent.regions[i];
    Json entry{{"name", region.name},
               {"bytes", region.bytes},
               {"version", region.version},
               {"oldest_version", region.oldest_version}};
    if (newest[i].number != 0) entry["newest"] = ToJson(newest[i]);
    regions.push_back(std::move(entry));
    table.AddRow(
        {region.name, HumanBytes(region.bytes),
         NumberOrDash(region.oldest_version), NumberOrDash(region.version),
         HumanTime(newest[i].unix_ns),
         newest[i].number == 0 ? "-" : HumanBytes(newest[i].changed_bytes),
         FirstLine(newest[i].message)});
  }
  if (output == Output::kJson) {
    Json json = ToJson(agent);
    json["regions"] = std::move(regions);
    return Dump(json);
  }
  Table facts({{"agent"}, {Printable(agent.name)}});
  facts.AddRow({"phase", agent.phase});
  facts.AddRow({"writer", Writer(agent)});
  facts.AddRow({"size", HumanBytes(agent.region_bytes)});
  facts.AddRow({"resident", HumanBytes(agent.resident_bytes)});
  facts.AddRow({"hbm", BytesOrDash(agent.hbm_bytes)});
  facts.AddRow({"versions", Number(agent.versions)});
  if (table.empty()) return facts.Render();
  return facts.Render() + "\n" + table.Render();
}

std::string RenderLog(const std::string& agent,
                      const std::vector<LoggedVersion>& log, Output output) {
  Json versions = Json::array();
  std::string text;
  for (const LoggedVersion& logged : log) {
    Json entry{{"region", logged.region}};
    entry.update(ToJson(logged.version));
    versions.push_back(std::move(entry));
    text += (text.empty() ? "" : "\n") + LogEntry(logged);
  }
  if (output == Output::kJson) {
    return Dump(Json{{"agent", agent}, {"versions", std::move(versions)}});
  }
  return text;
}

std::string RenderDiff(const RegionName& name, const VersionDiff& diff,
                       Output output) {
  Json ranges = Json::array();
  Table table({{"OFFSET", Align::kRight}, {"LENGTH", Align::kRight}});
  std::uint64_t total = 0;
  for (const ByteSpan& span : diff.spans) {
    total += span.bytes;
    ranges.push_back(Json{{"offset", span.offset}, {"length", span.bytes}});
    table.AddRow({Number(span.offset), Number(span.bytes)});
  }
  if (output == Output::kJson) {
    Json json = RegionJson(name);
    json["from"] = diff.from;
    json["to"] = diff.to;
    json["changed_bytes"] = total;
    json["ranges"] = std::move(ranges);
    return Dump(json);
  }
  const std::string sum = Plural(diff.spans.size(), "range") + ", " +
                          HumanBytes(total) + " between version " +
                          Number(diff.from) + " and " + Number(diff.to) + "\n";
  return table.empty() ? sum : table.Render() + "\n" + sum;
}

std::string RenderRevert(const RegionName& name, std::uint64_t made,
                         std::uint64_t revert_of, Output output) {
  if (output == Output::kJson) {
    Json json = RegionJson(name);
    json["version"] = made;
    json["revert_of"] = revert_of;
    return Dump(json);
  }
  Table table({{"AGENT"},
               {"REGION"},
               {"VERSION", Align::kRight},
               {"EQUAL TO", Align::kRight}});
  table.AddRow({name.agent, name.region, Number(made), Number(revert_of)});
  return table.Render();
}

std::string RenderFork(const std::string& from, const AgentFacts& made,
                       Output output) {
  if (output == Output::kJson) {
    Json json = ToJson(made);
    json["fork_of"] = from;
    return Dump(json);
  }
  Table table({{"AGENT"},
               {"FORK OF"},
               {"REGIONS", Align::kRight},
               {"SIZE", Align::kRight}});
  table.AddRow({made.name, from, NumberOrDash(made.region_count),
                HumanBytes(made.region_bytes)});
  return table.Render();
}

std::string RenderHibernate(const std::string& agent,
                            const HibernateFacts& facts, Output output) {
  if (output == Output::kJson) {
    return Dump(Json{{"agent", agent},
                     {"written_bytes", facts.written_bytes},
                     {"released_bytes", facts.released_bytes}});
  }
  Table table(
      {{"AGENT"}, {"WRITTEN", Align::kRight}, {"RELEASED", Align::kRight}});
  table.AddRow({agent, HumanBytes(facts.written_bytes),
                HumanBytes(facts.released_bytes)});
  return table.Render();
}

std::string RenderResume(const std::string& agent, std::uint64_t asked_blocks,
                         Output output) {
  if (output == Output::kJson) {
    return Dump(Json{{"agent", agent}, {"asked_blocks", asked_blocks}});
  }
  Table table({{"AGENT"}, {"ASKED BLOCKS", Align::kRight}});
  table.AddRow({agent, Number(asked_blocks)});
  return table.Render();
}

std::string RenderDelete(const AgentFacts& agent, Output output) {
  if (output == Output::kJson) {
    Json json = ToJson(agent);
    json["deleted"] = true;
    return Dump(json);
  }
  Table table({{"DELETED"},
               {"REGIONS", Align::kRight},
               {"SIZE", Align::kRight},
               {"VERSIONS", Align::kRight}});
  table.AddRow({agent.name, NumberOrDash(agent.region_count),
                HumanBytes(agent.region_bytes), NumberOrDash(agent.versions)});
  return table.Render();
}

std::string RenderWrite(const RegionName& name, std::uint64_t version,
                        const ByteSpan& written, Output output) {
  if (output == Output::kJson) {
    Json json = RegionJson(name);
    json["version"] = version;
    json["offset"] = written.offset;
    json["length"] = written.bytes;
    return Dump(json);
  }
  Table table({{"AGENT"},
               {"REGION"},
               {"VERSION", Align::kRight},
               {"OFFSET", Align::kRight},
               {"LENGTH", Align::kRight}});
  table.AddRow({name.agent, name.region, Number(version),
                Number(written.offset), HumanBytes(written.bytes)});
  return table.Render();
}

std::string RenderExport(const RegionName& name, const ExportFacts& facts,
                         Output output) {
  if (output == Output::kJson) {
    Json json = RegionJson(name);
    json["version"] = facts.version;
    json["length"] = facts.bytes;
    json["written_bytes"] = facts.written;
    json["file"] = facts.file;
    return Dump(json);
  }
  Table table({{"AGENT"},
               {"REGION"},
               {"VERSION", Align::kRight},
               {"LENGTH", Align::kRight},
               {"WRITTEN", Align::kRight},
               {"FILE"}});
  table.AddRow({name.agent, name.region, Number(facts.version),
                HumanBytes(facts.bytes), HumanBytes(facts.written),
                facts.file});
  return table.Render();
}

}  // namespace agentmem::memctl
