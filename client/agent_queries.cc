#include "client/agent_queries.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "client/agent.h"
#include "proto/agent_fields.h"

namespace agentmem::client {
namespace {

constexpr std::uint64_t kPerPacket = 128;

Outcome Unreadable(const char* what) {
  return Fail(Code::kInternal, std::string("memd answers with ") + what +
                                   " that cannot be read");
}

template <std::size_t N>
void Terminate(char (&text)[N]) {
  text[N - 1] = '\0';
}

bool ReadVersion(FieldReader* fields, Version* version) {
  std::string_view message;
  std::string_view labels;
  if (!fields->NextStruct(&version->entry) || !fields->Next(&message) ||
      !fields->Next(&labels)) {
    return false;
  }
  version->message = message;
  version->labels.clear();
  FieldReader pairs(labels);
  std::string_view key;
  std::string_view value;
  while (version->labels.size() < kLabelsMax && pairs.Next(&key) &&
         pairs.Next(&value)) {
    version->labels.emplace_back(key, value);
  }
  return pairs.ok();
}

Outcome SetNames(const char* agent, const char* region, Exchange* exchange) {
  if (Outcome named = SetName("agent's name", agent, exchange->request.agent);
      !named.ok()) {
    return named;
  }
  return SetName("region's name", region, exchange->request.region);
}

}  // namespace

Outcome ListAgents(AgentLink* link, const char* prefix,
                   const Deadline& deadline, const AgentCallback& callback) {
  std::string after;
  for (;;) {
    Exchange exchange(AgentOp::kAgentList);
    if (prefix != nullptr && *prefix != '\0') {
      if (Outcome named = SetName("prefix", prefix, exchange.request.agent);
          !named.ok()) {
        return named;
      }
    }
    after.copy(exchange.request.other, kAgentNameBytes - 1);
    exchange.request.arg[0] = kPerPacket;
    if (Outcome called =
            link->Call(&exchange, AgentLink::Repeat::kMayBe, deadline);
        !called.ok()) {
      return called;
    }
    FieldReader fields(exchange.reply_tail);
    AgentEntry entry;
    const std::string before = after;
    while (fields.NextStruct(&entry)) {
      Terminate(entry.name);
      Terminate(entry.writer);
      after = entry.name;
      callback(entry);
    }
    if (!fields.ok()) return Unreadable("agents");
    if (exchange.reply.value[0] == 0) return {};
    if (after <= before) return Unreadable("a list without an end");
  }
}

Outcome ListHbm(AgentLink* link, const Deadline& deadline,
                const HbmCallback& callback) {
  std::uint64_t listed = 0;
  for (;;) {
    Exchange exchange(AgentOp::kHbmList);
    exchange.request.arg[0] = listed;
    exchange.request.arg[1] = kHbmEntriesMax;
    exchange.request.arg[2] = sizeof(HbmEntry);
    if (Outcome called =
            link->Call(&exchange, AgentLink::Repeat::kMayBe, deadline);
        !called.ok()) {
      return called;
    }
    FieldReader fields(exchange.reply_tail);
    std::string_view field;
    const std::uint64_t before = listed;
    while (fields.Next(&field)) {
      // (One of a memd of before hits were counted ends before them.)
      if (field.size() < kHbmEntryBytesMin || field.size() > sizeof(HbmEntry)) {
        return Unreadable("blocks in device memory");
      }
      HbmEntry entry = {};
      std::memcpy(&entry, field.data(), field.size());
      Terminate(entry.agent);
      Terminate(entry.client_name);
      Terminate(entry.device);
      ++listed;
      callback(entry);
    }
    if (!fields.ok()) return Unreadable("blocks in device memory");
    if (exchange.reply.value[0] == 0) return {};
    if (listed == before) return Unreadable("a list without an end");
  }
}

Outcome ShowAgent(AgentLink* link, const char* name, const Deadline& deadline,
                  const AgentCallback& agent_callback,
                  const RegionCallback& region_callback) {
  Exchange exchange(AgentOp::kAgentShow);
  if (Outcome named = SetName("agent's name", name, exchange.request.agent);
      !named.ok()) {
    return named;
  }
  if (Outcome called =
          link->Call(&exchange, AgentLink::Repeat::kMayBe, deadline);
      !called.ok()) {
    return called;
  }
  FieldReader fields(exchange.reply_tail);
  AgentEntry agent;
  if (!fields.NextStruct(&agent)) return Unreadable("an agent");
  Terminate(agent.name);
  Terminate(agent.writer);
  if (agent_callback) agent_callback(agent);
  RegionEntry region;
  while (fields.NextStruct(&region)) {
    Terminate(region.name);
    if (region_callback) region_callback(region);
  }
  return fields.ok() ? Outcome() : Unreadable("regions");
}

Outcome RegionHistory(AgentLink* link, const char* agent, const char* region,
                      std::uint64_t from, std::uint64_t count,
                      const Deadline& deadline,
                      const VersionCallback& callback) {
  std::uint64_t left = count == 0 ? UINT64_MAX : count;
  while (left != 0) {
    Exchange exchange(AgentOp::kHistory);
    if (Outcome named = SetNames(agent, region, &exchange); !named.ok()) {
      return named;
    }
    exchange.request.region_version = from;
    exchange.request.arg[0] = std::min(left, kPerPacket);
    if (Outcome called =
            link->Call(&exchange, AgentLink::Repeat::kMayBe, deadline);
        !called.ok()) {
      return called;
    }
    FieldReader fields(exchange.reply_tail);
    Version version;
    std::uint64_t last = 0;
    while (left != 0 && ReadVersion(&fields, &version)) {
      last = version.entry.number;
      --left;
      callback(version);
    }
    if (left != 0 && !fields.ok()) return Unreadable("versions");
    if (exchange.reply.value[0] == 0) return {};
    // The next packet begins below the last of this one.
    if (last <= 1 || (from != 0 && last > from)) {
      return Unreadable("a history without an end");
    }
    from = last - 1;
  }
  return {};
}

Outcome RegionDiff(AgentLink* link, const char* agent, const char* region,
                   std::uint64_t from, std::uint64_t to,
                   const Deadline& deadline, const RangeCallback& callback) {
  std::uint64_t begin = 0;
  for (;;) {
    Exchange exchange(AgentOp::kDiff);
    if (Outcome named = SetNames(agent, region, &exchange); !named.ok()) {
      return named;
    }
    exchange.request.arg[0] = from;
    exchange.request.arg[1] = to;
    exchange.request.offset = begin;
    if (Outcome called =
            link->Call(&exchange, AgentLink::Repeat::kMayBe, deadline);
        !called.ok()) {
      return called;
    }
    FieldReader fields(exchange.reply_tail);
    RangeEntry range;
    std::uint64_t end = begin;
    while (fields.NextStruct(&range)) {
      if (range.offset < end || range.bytes == 0 ||
          range.bytes > kRegionBytesMax ||
          range.offset > kRegionBytesMax - range.bytes) {
        return Unreadable("ranges");
      }
      end = range.offset + range.bytes;
      callback(range);
    }
    if (!fields.ok()) return Unreadable("ranges");
    if (exchange.reply.value[0] == 0) return {};
    if (end == begin) return Unreadable("ranges without an end");
    begin = end;
  }
}

}  // namespace agentmem::client
