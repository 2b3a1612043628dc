// What FakeAgentd does for each operation.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "client/futex.h"
#include "tests/unit/client/fake_agentd.h"

namespace agentmem {
namespace {

void Refuse(FakeAgentd::Answer* answer, Code code, const char* message) {
  answer->code = code;
  answer->message = message;
}

AgentEntry EntryOf(const std::string& name,
                   const std::map<std::string, FakeRegion>& regions) {
  AgentEntry entry = {};
  name.copy(entry.name, sizeof(entry.name) - 1);
  entry.regions = static_cast<std::uint32_t>(regions.size());
  for (const auto& [region_name, region] : regions) {
    entry.region_bytes += region.bytes;
  }
  entry.phase = AgentPhase::kIdle;
  return entry;
}

}  // namespace

void FakeAgentd::Dispatch(Client* client, const Request& request, UniqueFd fd,
                          Answer* answer) {
  if (request.fixed.op == AgentOp::kUseFaults) {
    client->uffd = std::move(fd);
    client->tracking = options_.tracking;
    answer->value[0] = static_cast<std::uint64_t>(client->tracking);
  } else if (request.fixed.op < AgentOp::kRegionOpen) {
    DispatchAgent(client, request, answer);
  } else {
    DispatchRegion(client, request, answer);
  }
}

void FakeAgentd::DispatchAgent(Client* client, const Request& request,
                               Answer* answer) {
  const AgentRequest& fixed = request.fixed;
  switch (fixed.op) {
    case AgentOp::kAgentOpen: {
      const bool made = !agents_.contains(fixed.agent);
      if (made && (fixed.flags & kOpenCreate) == 0) {
        Refuse(answer, Code::kNotFound, "no such agent");
        return;
      }
      agents_[fixed.agent];
      answer->value[0] = next_handle_;
      answer->value[2] = made ? 1 : 0;
      client->writers[next_handle_] = (fixed.flags & kOpenWrite) != 0;
      client->agents[next_handle_++] = fixed.agent;
      return;
    }
    case AgentOp::kAgentClose:
      client->agents.erase(fixed.handle);
      return;
    case AgentOp::kAgentPhase:
      answer->value[0] = static_cast<std::uint64_t>(PhaseAnswer::kAccepted);
      return;
    case AgentOp::kAgentList: {
      FieldWriter fields;
      for (const auto& [name, regions] : agents_) {
        if (name.starts_with(fixed.agent) && name > fixed.other) {
          fields.AddStruct(EntryOf(name, regions));
        }
      }
      answer->tail = fields.bytes();
      return;
    }
    case AgentOp::kAgentShow: {
      FieldWriter fields;
      fields.AddStruct(EntryOf(fixed.agent, agents_[fixed.agent]));
      for (const auto& [name, region] : agents_[fixed.agent]) {
        RegionEntry entry = {};
        name.copy(entry.name, sizeof(entry.name) - 1);
        entry.bytes = region.bytes;
        entry.version = region.head();
        fields.AddStruct(entry);
      }
      answer->tail = fields.bytes();
      return;
    }
    case AgentOp::kAgentFork:
      agents_[fixed.other] = agents_[fixed.agent];
      return;
    case AgentOp::kAgentDelete:
      agents_.erase(fixed.agent);
      return;
    default:
      return;
  }
}

void FakeAgentd::DispatchRegion(Client* client, const Request& request,
                                Answer* answer) {
  const AgentRequest& fixed = request.fixed;
  const auto found = client->regions.find(fixed.region_handle);
  FakeOpenRegion* open =
      found == client->regions.end() ? nullptr : found->second.get();
  if (open == nullptr && fixed.region_handle != 0) {
    Refuse(answer, Code::kInvalidArgument, "no such region handle");
    return;
  }
  switch (fixed.op) {
    case AgentOp::kRegionOpen:
      return OpenRegion(client, fixed, answer);
    case AgentOp::kRegionMapped:
      return open->set_mapped(client->uffd.get(), fixed.arg[0],
                              client->tracking);
    case AgentOp::kRegionClose:
      client->regions.erase(fixed.region_handle);
      return;
    case AgentOp::kCommit:
      return Commit(client, request, answer);
    case AgentOp::kPopulate:
      if ((fixed.flags & kPopulatePin) != 0) open->pins.insert(fixed.offset);
      return open->Populate(fixed.offset, fixed.length);
    case AgentOp::kUnpin:
      open->pins.erase(open->pins.find(fixed.offset));
      return;
    case AgentOp::kHint:
      answer->value[0] = static_cast<std::uint64_t>(PhaseAnswer::kClipped);
      return;
    case AgentOp::kMarkDirty:
      return open->MarkDirty(fixed.offset, fixed.length);
    case AgentOp::kRefresh:
      open->MoveTo(fixed.region_version == 0 ? open->region()->head()
                                             : fixed.region_version);
      answer->value[0] = open->version();
      return;
    case AgentOp::kHistory:
      return History(fixed, answer);
    case AgentOp::kWatch:
      answer->value[0] = WordOf(fixed.region);
      if (FakeRegion* region = Find(fixed.agent, fixed.region)) {
        answer->value[1] = region->head();
      }
      return;
    default:
      return;
  }
}

void FakeAgentd::OpenRegion(Client* client, const AgentRequest& request,
                            Answer* answer) {
  const std::string& agent = client->agents[request.handle];
  const bool made = Find(agent, request.region) == nullptr;
  if (made && request.length == 0) {
    Refuse(answer, Code::kNotFound, "no such region");
    return;
  }
  FakeRegion& region = agents_[agent][request.region];
  if (made) region.bytes = request.length;
  region.name = request.region;
  const std::uint64_t version =
      request.region_version == 0 ? region.head() : request.region_version;
  const bool read_only =
      request.region_version != 0 || !client->writers[request.handle];
  auto open = std::make_unique<FakeOpenRegion>(&region, version, read_only);
  answer->value[0] = next_handle_;
  answer->value[1] = region.bytes;
  answer->value[2] = version;
  answer->value[3] = made ? 1 : 0;
  answer->value[4] = read_only ? 1 : 0;
  answer->fd = open->memory();
  client->regions[next_handle_++] = std::move(open);
}

void FakeAgentd::Commit(Client* client, const Request& request,
                        Answer* answer) {
  for (auto& [handle, open] : client->regions) {
    if (open->read_only()) continue;
    if (request.fixed.region_handle == 0 ||
        request.fixed.region_handle == handle) {
      CommitOne(open.get(), request, answer);
    }
  }
}

void FakeAgentd::CommitOne(FakeOpenRegion* open, const Request& request,
                           Answer* answer) {
  FakeVersion version;
  version.content = open->Cut(&version.entry.changed_bytes);
  version.entry.number = open->version();
  version.entry.parent = open->region()->head();
  version.entry.region_bytes = open->region()->bytes;
  std::memcpy(version.entry.trace, request.fixed.trace, 16);
  FieldReader fields(request.tail);
  std::string_view field;
  AGENTMEM_CHECK(fields.Next(&field));
  version.message = field;
  version.labels = request.tail.substr(4 + field.size());
  answer->value[0] = version.entry.number;
  answer->value[1] = version.entry.changed_bytes;
  open->region()->versions.push_back(std::move(version));
  Publish(open->region()->name);
}

void FakeAgentd::History(const AgentRequest& request, Answer* answer) {
  FakeRegion* region = Find(request.agent, request.region);
  if (region == nullptr) {
    Refuse(answer, Code::kNotFound, "no such region");
    return;
  }
  FieldWriter fields;
  std::uint64_t number =
      request.region_version == 0 ? region->head() : request.region_version;
  // Few at a time, so that short histories have several packets.
  for (std::uint64_t left = std::min<std::uint64_t>(request.arg[0], 2);
       left != 0 && number != 0; --left, --number) {
    const FakeVersion& version = region->versions[number - 1];
    fields.AddStruct(version.entry);
    fields.Add(version.message);
    fields.Add(version.labels);
  }
  answer->tail = fields.bytes();
  answer->value[0] = number != 0 ? 1 : 0;
}

FakeRegion* FakeAgentd::Find(const std::string& agent,
                             const std::string& region) {
  const auto found = agents_.find(agent);
  if (found == agents_.end()) return nullptr;
  const auto inside = found->second.find(region);
  return inside == found->second.end() ? nullptr : &inside->second;
}

std::uint32_t FakeAgentd::WordOf(const std::string& region) {
  return words_.try_emplace(region, words_.size() + 3).first->second;
}

void FakeAgentd::Publish(const std::string& region) {
  std::atomic<std::uint32_t>& word = board_[WordOf(region)];
  word.fetch_add(1);
  client::FutexWakeAll(&word);
}

}  // namespace agentmem
