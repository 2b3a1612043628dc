// The C ABI: versions of regions, by name.
#include <vector>

#include "client/agent_queries.h"
#include "client/c_api_agents.h"

namespace {

using agentmem::client::Version;

void Tell(agentmem_version_callback callback, void* context,
          const Version& version) {
  std::vector<agentmem_label> labels;
  for (const auto& [key, value] : version.labels) {
    labels.push_back({key.c_str(), value.c_str()});
  }
  agentmem_version_info info = {};
  info.number = version.entry.number;
  info.parent = version.entry.parent;
  info.origin = version.entry.flag_version;
  info.unix_ns = version.entry.unix_ns;
  info.region_bytes = version.entry.region_bytes;
  info.changed_bytes = version.entry.changed_bytes;
  info.changed_pages = version.entry.changed_pages;
  info.flags = version.entry.flags;
  info.message = version.message.c_str();
  info.labels = labels.data();
  info.label_count = labels.size();
  std::copy(std::begin(version.entry.trace), std::end(version.entry.trace),
            info.trace_id);
  callback(context, &info);
}

}  // namespace

using agentmem::AgentOp;
using agentmem::Outcome;
using agentmem::client::Answer;
using agentmem::client::Deadline;
using agentmem::client::Exchange;
using agentmem::client::SetName;

extern "C" {

agentmem_code agentmem_region_history(agentmem_client* client,
                                      const char* agent, const char* region,
                                      uint64_t from, uint64_t count,
                                      uint64_t timeout_ns,
                                      agentmem_version_callback callback,
                                      void* context, agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE(callback != nullptr, "callback is NULL", error);
  return Answer(
      agentmem::client::RegionHistory(
          &client->agents(), agent, region, from, count,
          Deadline::After(timeout_ns),
          [=](const Version& version) { Tell(callback, context, version); }),
      error);
}

agentmem_code agentmem_region_diff(agentmem_client* client, const char* agent,
                                   const char* region, uint64_t from,
                                   uint64_t to, uint64_t timeout_ns,
                                   agentmem_range_callback callback,
                                   void* context, agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE(callback != nullptr, "callback is NULL", error);
  return Answer(agentmem::client::RegionDiff(
                    &client->agents(), agent, region, from, to,
                    Deadline::After(timeout_ns),
                    [=](const agentmem::RangeEntry& entry) {
                      const agentmem_range range = {entry.offset, entry.bytes};
                      callback(context, &range);
                    }),
                error);
}

agentmem_code agentmem_region_revert(agentmem_client* client, const char* agent,
                                     const char* region, uint64_t version,
                                     uint64_t timeout_ns, uint64_t* new_version,
                                     agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE(version != 0, "version is 0; name the one to go back to",
                   error);
  Exchange exchange(AgentOp::kRevert);
  exchange.request.region_version = version;
  if (Outcome named = SetName("agent's name", agent, exchange.request.agent);
      !named.ok()) {
    return Answer(named, error);
  }
  if (Outcome named = SetName("region's name", region, exchange.request.region);
      !named.ok()) {
    return Answer(named, error);
  }
  const Outcome outcome = client->agents().Call(
      &exchange, agentmem::client::AgentLink::Repeat::kNever,
      Deadline::After(timeout_ns));
  if (outcome.ok() && new_version != nullptr) {
    *new_version = exchange.reply.value[0];
  }
  return Answer(outcome, error);
}

}  // extern "C"
