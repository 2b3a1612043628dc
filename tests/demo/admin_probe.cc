#include "tests/demo/admin_probe.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/status.h"
#include "tests/demo/child_process.h"

namespace agentmem::demo {
namespace {

using Json = nlohmann::json;

constexpr DurationNs kPatienceNs = 10 * kSecondNs;

// Everything up to the end of `fd`, or until nothing came for too long.
std::string ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  while (true) {
    pollfd event = {fd, POLLIN, 0};
    const int ready =
        poll(&event, 1, static_cast<int>(kPatienceNs / kMillisecondNs));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return text;
    const ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

std::uint64_t Number(const Json& object, const char* field) {
  const auto found = object.find(field);
  if (found == object.end() || !found->is_number_integer()) return 0;
  return found->get<std::uint64_t>();
}

std::string Text(const Json& object, const char* field) {
  const auto found = object.find(field);
  return found != object.end() && found->is_string() ? found->get<std::string>()
                                                     : std::string();
}

bool Flag(const Json& object, const char* field) {
  const auto found = object.find(field);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

absl::StatusOr<Json> ParseList(const std::string& text, const char* name) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains(name) || !json[name].is_array()) {
    return Unavailable("memctl's answer has no list \"" + std::string(name) +
                       "\": " + text.substr(0, 200));
  }
  return json[name];
}

}  // namespace

HbmSample::Agent HbmSample::Of(const std::string& name) const {
  const auto found =
      std::find_if(agents.begin(), agents.end(),
                   [&](const Agent& agent) { return agent.name == name; });
  return found == agents.end() ? Agent() : *found;
}

absl::StatusOr<HbmSample> ParseHbm(const std::string& processes,
                                   const std::string& agents) {
  AGENTMEM_ASSIGN_OR_RETURN(const Json pools,
                            ParseList(processes, "processes"));
  AGENTMEM_ASSIGN_OR_RETURN(const Json rows, ParseList(agents, "agents"));
  HbmSample sample;
  for (const Json& pool : pools) {
    sample.processes.push_back({static_cast<std::int64_t>(Number(pool, "pid")),
                                Number(pool, "budget_bytes"),
                                Number(pool, "allocated_bytes")});
  }
  for (const Json& row : rows) {
    sample.agents.push_back({Text(row, "name"), Number(row, "bytes"),
                             Text(row, "wish"), Flag(row, "wish_open"),
                             Flag(row, "wish_late"), Number(row, "wish_ns")});
  }
  return sample;
}

absl::StatusOr<TenantSample> ParseTenants(const std::string& json) {
  AGENTMEM_ASSIGN_OR_RETURN(const Json tenants, ParseList(json, "tenants"));
  if (tenants.empty() || !tenants[0].is_object()) {
    return Unavailable("memctl knows no tenant");
  }
  const Json& tenant = tenants[0];
  const Json dram = tenant.value("dram", Json::object());
  const Json store = tenant.value("store", Json::object());
  const Json hbm = tenant.value("hbm", Json::object());
  const Json pool = tenant.value("pool", Json::object());
  TenantSample sample;
  sample.dram_bytes = Number(dram, "used_bytes");
  sample.store_bytes = Number(store, "used_bytes");
  sample.dram_evictions = Number(dram, "evictions");
  sample.hbm_hits = Number(hbm, "hits");
  sample.pool_hits = Number(pool, "hits");
  sample.store_reads = Number(store, "reads");
  sample.store_writes = Number(store, "writes");
  sample.clients = Number(tenant, "clients");
  sample.granted_bytes = Number(tenant, "granted_bytes");
  sample.pinned_bytes = Number(tenant, "pinned_bytes");
  sample.held_bytes = Number(tenant, "held_bytes");
  sample.limbo_bytes = Number(tenant, "limbo_bytes");
  sample.puts_failed = Number(tenant, "puts_failed");
  sample.corrupt_blocks = Number(tenant, "corrupt_blocks");
  return sample;
}

absl::StatusOr<std::vector<std::int64_t>> ParseClientPids(
    const std::string& json) {
  AGENTMEM_ASSIGN_OR_RETURN(const Json clients, ParseList(json, "clients"));
  std::vector<std::int64_t> pids;
  for (const Json& client : clients) {
    pids.push_back(static_cast<std::int64_t>(Number(client, "pid")));
  }
  return pids;
}

absl::StatusOr<std::string> AdminProbe::Run(
    const std::vector<std::string>& words) const {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus("pipe");
  const UniqueFd from(ends[0]);
  UniqueFd into(ends[1]);
  ChildOptions options;
  options.standard_output = into.get();
  options.standard_error = into.get();
  std::vector<std::string> command = {memctl_, "--socket", socket_path_, "-o",
                                      "json"};
  command.insert(command.end(), words.begin(), words.end());
  AGENTMEM_ASSIGN_OR_RETURN(ChildProcess child,
                            ChildProcess::Start(command, options));
  into.Reset();
  const std::string text = ReadAll(from.get());
  const std::optional<int> exit = child.Wait(kPatienceNs);
  if (!exit.has_value() || *exit != 0) {
    return Unavailable(memctl_ + " " + words.front() + ": " +
                       (exit ? DescribeExit(*exit) : "no end") + ": " + text);
  }
  return text;
}

absl::StatusOr<TenantSample> AdminProbe::Sample() const {
  AGENTMEM_ASSIGN_OR_RETURN(const std::string text, Run({"tenants"}));
  return ParseTenants(text);
}

absl::StatusOr<std::vector<std::int64_t>> AdminProbe::ClientPids() const {
  AGENTMEM_ASSIGN_OR_RETURN(const std::string text, Run({"clients"}));
  return ParseClientPids(text);
}

absl::StatusOr<HbmSample> AdminProbe::Hbm() const {
  AGENTMEM_ASSIGN_OR_RETURN(const std::string processes, Run({"hbm"}));
  AGENTMEM_ASSIGN_OR_RETURN(const std::string agents, Run({"hbm", "--agents"}));
  return ParseHbm(processes, agents);
}

}  // namespace agentmem::demo
