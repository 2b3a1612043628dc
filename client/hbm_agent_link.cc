#include "client/hbm_agent_link.h"

#include <string>
#include <utility>

#include "client/agent.h"
#include "client/futex.h"
#include "proto/agent_fields.h"

namespace agentmem::client {

HbmAgentLink::HbmAgentLink(Endpoint endpoint, const DeviceProperties& device)
    : link_(std::move(endpoint)) {
  device.name.copy(device_.name, sizeof(device_.name) - 1);
  device.id.copy(device_.id, sizeof(device_.id) - 1);
  device_.memory_bytes = device.memory_bytes;
}

Outcome HbmAgentLink::Open(std::uint64_t wanted_bytes, const Deadline& deadline,
                           std::uint64_t* budget_bytes) {
  Exchange exchange(AgentOp::kHbmOpen);
  exchange.request.arg[0] = wanted_bytes;
  FieldWriter fields;
  fields.AddStruct(device_);
  exchange.tail = fields.bytes();
  std::shared_ptr<AgentConnection> used;
  Outcome outcome =
      link_.Call(&exchange, AgentLink::Repeat::kMayBe, deadline, &used);
  if (!outcome.ok()) return outcome;
  Word* const word = used->BoardWord(exchange.reply.value[1]);
  if (word == nullptr) {
    return Fail(Code::kInternal, "memd answers with word " +
                                     std::to_string(exchange.reply.value[1]) +
                                     " of a board of " +
                                     std::to_string(kBoardWords));
  }
  *budget_bytes = exchange.reply.value[0];
  MutexLock lock(&mutex_);
  connection_ = std::move(used);
  word_ = word;
  return {};
}

Outcome HbmAgentLink::Report(const HbmReport& report, const Deadline& deadline,
                             HbmReply* reply) {
  const std::shared_ptr<AgentConnection> used = connection();
  if (used == nullptr) return Fail(Code::kUnavailable, "memd is not connected");
  Exchange exchange(AgentOp::kHbmReport);
  exchange.request.arg[0] = report.allocated_bytes;
  exchange.request.arg[1] = report.wanted_bytes;
  exchange.request.arg[2] = report.hits.blocks;
  exchange.request.arg[3] = report.hits.bytes;
  FieldWriter fields;
  for (const HbmUse& use : report.uses) fields.AddStruct(use);
  exchange.tail = fields.bytes();
  Outcome outcome = used->Call(&exchange, deadline);
  if (!outcome.ok()) return outcome;
  reply->budget_bytes = exchange.reply.value[0];
  FieldReader answered(exchange.reply_tail);
  HbmWish wish;
  while (reply->wishes.size() < kHbmWishesMax && answered.NextStruct(&wish)) {
    wish.agent[sizeof(wish.agent) - 1] = '\0';
    reply->wishes.push_back(wish);
  }
  if (!answered.ok()) {
    return Fail(Code::kInternal,
                "memd answers a report of device memory with wishes that this "
                "library cannot read");
  }
  return {};
}

void HbmAgentLink::Close(const HbmHits& hits) {
  const std::shared_ptr<AgentConnection> used = connection();
  if (used == nullptr || used->Lost()) return;
  Exchange exchange(AgentOp::kHbmClose);
  exchange.request.arg[0] = hits.blocks;
  exchange.request.arg[1] = hits.bytes;
  // Without an answer it ends with the connection.
  [[maybe_unused]] const Outcome ignored =
      used->Call(&exchange, Deadline::After(kCloseTimeoutNs));
}

bool HbmAgentLink::IsLost() {
  const std::shared_ptr<AgentConnection> used = connection();
  return used == nullptr || used->Lost();
}

std::shared_ptr<AgentConnection> HbmAgentLink::connection() {
  MutexLock lock(&mutex_);
  return connection_;
}

HbmAgentLink::Word* HbmAgentLink::word() {
  return word_ == nullptr ? &own_word_ : word_;
}

std::uint32_t HbmAgentLink::Bell() {
  MutexLock lock(&mutex_);
  return word()->load(std::memory_order_seq_cst);
}

void HbmAgentLink::Sleep(std::uint32_t seen, DurationNs duration_ns) {
  const std::shared_ptr<AgentConnection> stays = connection();
  Word* bell = nullptr;
  {
    MutexLock lock(&mutex_);
    bell = word();
  }
  if (bell->load(std::memory_order_seq_cst) == seen) {
    FutexWait(bell, seen, duration_ns);
  }
}

void HbmAgentLink::Wake() {
  MutexLock lock(&mutex_);
  word()->fetch_add(1, std::memory_order_seq_cst);
  FutexWakeAll(word());
}

}  // namespace agentmem::client
