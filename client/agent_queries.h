// What is asked of agents and regions by name: lists, histories, differences.
//
// Long answers come in several packets; callbacks run between them, with no
// lock held. What is listed meanwhile may change: each entry is true when its
// packet was made.
//
// Ownership: entries end with the callback. Threads: thread-safe. Errors:
// memd's; INTERNAL: an answer that cannot be read. Cost: a request a packet.
#ifndef AGENTMEM_CLIENT_AGENT_QUERIES_H_
#define AGENTMEM_CLIENT_AGENT_QUERIES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "client/agent_link.h"
#include "client/deadline.h"
#include "proto/agent_messages.h"
#include "proto/hbm_messages.h"
#include "proto/outcome.h"

namespace agentmem::client {

struct Version {
  VersionEntry entry;
  std::string message;
  std::vector<std::pair<std::string, std::string>> labels;
};

using AgentCallback = std::function<void(const AgentEntry&)>;
using RegionCallback = std::function<void(const RegionEntry&)>;
using HbmCallback = std::function<void(const HbmEntry&)>;
using VersionCallback = std::function<void(const Version&)>;
using RangeCallback = std::function<void(const RangeEntry&)>;

Outcome ListAgents(AgentLink* link, const char* prefix,
                   const Deadline& deadline, const AgentCallback& callback);
Outcome ListHbm(AgentLink* link, const Deadline& deadline,
                const HbmCallback& callback);
Outcome ShowAgent(AgentLink* link, const char* name, const Deadline& deadline,
                  const AgentCallback& agent_callback,
                  const RegionCallback& region_callback);
Outcome RegionHistory(AgentLink* link, const char* agent, const char* region,
                      std::uint64_t from, std::uint64_t count,
                      const Deadline& deadline,
                      const VersionCallback& callback);
Outcome RegionDiff(AgentLink* link, const char* agent, const char* region,
                   std::uint64_t from, std::uint64_t to,
                   const Deadline& deadline, const RangeCallback& callback);

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_AGENT_QUERIES_H_
