// AgentSession: blocks in the process's device memory.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "memd/agents/agent_session.h"
#include "memd/agents/hbm_ledger.h"
#include "proto/hbm_messages.h"

namespace agentmem {
namespace {

constexpr std::size_t kFieldBytes = sizeof(std::uint32_t);
static_assert(sizeof(AgentRequest) +
                  kHbmUsesMax * (sizeof(HbmUse) + kFieldBytes) <=
              kAgentPacketMax);
static_assert(sizeof(AgentReply) +
                  kHbmWishesMax * (sizeof(HbmWish) + kFieldBytes) <=
              kAgentPacketMax);
static_assert(sizeof(AgentReply) +
                  kHbmEntriesMax * (sizeof(HbmEntry) + kFieldBytes) <=
              kAgentPacketMax);

// What was said of them last, by their records: who waits for a human waits for
// him still when memd was started anew. Of one that somebody writes, what he
// says counts.
void HearPhases(const std::vector<std::string>& agents, TenantAgents* tenant) {
  // Where refs are a cluster's, somebody may write it on another node, and is
  // not heard here.
  if (tenant->shared) return;
  for (const std::string& agent : agents) {
    // (Else it is known when it is said again.)
    if (!tenant->reachable()) return;
    const auto found = tenant->book.Find(agent);
    if (found.status().code() == absl::StatusCode::kUnavailable) return;
    if (!found.ok()) continue;
    AgentState* const state = found->get();
    // Nobody says more meanwhile.
    MutexLock lock(&state->mutex);
    // (One that was just made is idle, and nobody has said so.)
    if (state->writer.token != 0 ||
        state->record.phase_wall_ns == state->record.created_wall_ns) {
      continue;
    }
    // How long a tool was to take is not known any more.
    tenant->hbm->SetPhase(tenant->id, agent,
                          static_cast<AgentPhase>(state->record.phase), 0);
  }
}

}  // namespace

absl::StatusOr<std::uint32_t> AgentSession::FreeWord() const {
  for (std::uint32_t word = 0; word < kBoardWords; ++word) {
    if (watched_[word] == nullptr && word != hbm_word_) return word;
  }
  return ResourceExhausted("all " + std::to_string(kBoardWords) +
                           " words of this process's board are in use, one "
                           "for each region that it watches; watch fewer");
}

absl::Status AgentSession::HbmOpen(const Request& request, Reply* reply) {
  HbmDevice device;
  FieldReader fields(request.tail);
  if (!fields.NextStruct(&device) || !fields.ok()) {
    return InvalidArgument(
        "a device in " + std::to_string(request.tail.size()) +
        " bytes: one of " + std::to_string(sizeof(device)) + " is expected");
  }
  // Its word stays its own, whatever it opens and closes.
  if (!hbm_word_.has_value()) {
    AGENTMEM_ASSIGN_OR_RETURN(hbm_word_, FreeWord());
  }
  HbmLedger::Holder holder;
  holder.token = token_;
  holder.tenant = tenant_->id;
  holder.client_name = peer_.client_name;
  holder.pid = peer_.pid;
  holder.word = {board_, *hbm_word_};
  AGENTMEM_ASSIGN_OR_RETURN(
      reply->value[0],
      tenant_->hbm->Open(std::move(holder), device, request.fixed.arg[0]));
  reply->value[1] = *hbm_word_;
  return absl::OkStatus();
}

absl::Status AgentSession::HbmReport(const Request& request, Reply* reply) {
  std::vector<HbmUse> uses;
  FieldReader fields(request.tail);
  for (HbmUse use; uses.size() < kHbmUsesMax && fields.NextStruct(&use);) {
    uses.push_back(use);
  }
  if (!fields.ok()) {
    return InvalidArgument(
        "a report of agents in " + std::to_string(request.tail.size()) +
        " bytes: at most " + std::to_string(kHbmUsesMax) + " of " +
        std::to_string(sizeof(HbmUse)) + " each are expected");
  }
  HbmLedger::Report report;
  report.allocated_bytes = request.fixed.arg[0];
  report.wanted_bytes = request.fixed.arg[1];
  report.hits = {request.fixed.arg[2], request.fixed.arg[3]};
  report.uses = uses;
  AGENTMEM_ASSIGN_OR_RETURN(const HbmLedger::Answer answer,
                            tenant_->hbm->Take(tenant_->id, token_, report));
  HearPhases(answer.unheard, tenant_);
  reply->value[0] = answer.budget_bytes;
  FieldWriter wishes;
  for (const HbmWish& wish : answer.wishes) wishes.AddStruct(wish);
  reply->tail = wishes.bytes();
  return absl::OkStatus();
}

absl::Status AgentSession::HbmClose(const Request& request) {
  const HbmHits last = {request.fixed.arg[0], request.fixed.arg[1]};
  if (tenant_->hbm->Close(tenant_->id, token_, last)) return absl::OkStatus();
  return FailedPrecondition("no device is open on this connection");
}

absl::Status AgentSession::HbmList(const Request& request, Reply* reply) {
  const auto count = static_cast<std::size_t>(
      std::min<std::uint64_t>(request.fixed.arg[1], kHbmEntriesMax));
  const auto bytes = static_cast<std::size_t>(std::clamp<std::uint64_t>(
      request.fixed.arg[2], kHbmEntryBytesMin, sizeof(HbmEntry)));
  bool more = false;
  FieldWriter entries;
  for (const HbmEntry& entry : tenant_->hbm->List(
           tenant_->id, request.fixed.arg[0], count, &hbm_listed_, &more)) {
    entries.Add({reinterpret_cast<const char*>(&entry), bytes});
  }
  reply->value[0] = more;
  reply->tail = entries.bytes();
  return absl::OkStatus();
}

}  // namespace agentmem
