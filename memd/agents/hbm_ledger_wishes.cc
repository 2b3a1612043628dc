// HbmLedger: what is wished for, and what an operator sees.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/check.h"
#include "memd/agents/hbm_ledger.h"
#include "memd/handshake.h"

namespace agentmem {
namespace {

// These end at 64 bits.
void Add(std::uint64_t more, std::uint64_t* sum) {
  *sum += std::min(more, UINT64_MAX - *sum);
}
std::uint64_t Product(std::uint64_t a, std::uint64_t b) {
  return b != 0 && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

}  // namespace

void HbmLedger::Ask(Process* process, Uses::iterator use, Wish wish) {
  process->open.erase(use->second.wish.number);
  process->left.erase(use->second.wish.number);
  wish.number = ++last_wish_;
  wish.open = true;
  wish.asked_at = clock_->Now();
  if (wish.kind == HbmWishKind::kEmpty) {
    wish.deadline = wish.asked_at + rules_.leave_ns;
  }
  use->second.wish = wish;
  process->open[wish.number] = use;
}

bool HbmLedger::AskToEmpty(Process* process, Uses::iterator use,
                           AgentPhase phase) {
  const Wish& last = use->second.wish;
  // To ask again would only put off its deadline.
  if (last.open && last.kind == HbmWishKind::kEmpty) return false;
  if (!last.open && use->second.bytes == 0) return false;
  Ask(process, use, {.kind = HbmWishKind::kEmpty, .phase = phase});
  return true;
}

bool HbmLedger::AskToBringBack(Process* process, Uses::iterator use,
                               AgentPhase phase) {
  if (use->second.wish.kind != HbmWishKind::kEmpty) return false;
  Ask(process, use, {.kind = HbmWishKind::kBringBack, .phase = phase});
  return true;
}

std::vector<HbmWish> HbmLedger::Tell(Process* process) {
  std::vector<HbmWish> wishes;
  const auto tell = [&](Uses::iterator use) {
    HbmWish& wish = wishes.emplace_back();
    SetField(use->first, wish.agent, sizeof(wish.agent));
    wish.number = use->second.wish.number;
    wish.deadline_ns = use->second.wish.deadline;
    wish.kind = use->second.wish.kind;
    wish.phase = use->second.wish.phase;
  };
  const auto& open = process->open;
  const std::uint64_t told = process->told;
  auto fresh = open.upper_bound(told);
  for (; fresh != open.end() && wishes.size() < kHbmWishesMax; ++fresh) {
    tell(fresh->second);
    process->told = fresh->first;
  }
  // It has no other reason to report before it has done one of these.
  if (fresh != open.end()) process->holder.word.Move();
  // What was told may be lost with an answer; of many, each has its turn.
  std::uint64_t first = 0;
  while (wishes.size() < kHbmWishesMax) {
    auto again = open.upper_bound(process->told_again);
    if (again == open.end() || again->first > told) again = open.begin();
    if (again == open.end() || again->first > told || again->first == first) {
      break;
    }
    if (first == 0) first = again->first;
    process->told_again = again->first;
    tell(again->second);
  }
  return wishes;
}

std::vector<std::pair<HbmLedger::Process*, HbmLedger::Uses::iterator>>
HbmLedger::UsesOf(Tenant* tenant, const std::string& agent) {
  std::vector<std::pair<Process*, Uses::iterator>> uses;
  for (auto& [token, process] : tenant->processes) {
    const auto use = process.uses.find(agent);
    if (use != process.uses.end()) uses.emplace_back(&process, use);
  }
  return uses;
}

bool HbmLedger::SetPhase(TenantId id, const std::string& agent,
                         AgentPhase phase, DurationNs eta) {
  MutexLock lock(&mutex_);
  Tenant& tenant = TenantOf(id);
  const auto ask = [&](bool left) {
    return tiering::AskOf(static_cast<tiering::Phase>(phase), eta,
                          rules_.reload_ns, left);
  };
  if (ask(false) == tiering::HbmAsk::kEmpty) {
    // Of one that is forgotten, what comes later leaves under pressure alone.
    if (tenant.away.size() >= rules_.process_agents_max &&
        !tenant.away.contains(agent)) {
      tenant.away.erase(tenant.away.begin());
    }
    tenant.away[agent] = phase;
  } else {
    tenant.away.erase(agent);
  }
  const auto uses = UsesOf(&tenant, agent);
  for (const auto& [process, use] : uses) {
    const tiering::HbmAsk its =
        ask(use->second.wish.kind == HbmWishKind::kEmpty);
    if ((its == tiering::HbmAsk::kEmpty && AskToEmpty(process, use, phase)) ||
        (its == tiering::HbmAsk::kBringBack &&
         AskToBringBack(process, use, phase))) {
      process->holder.word.Move();
    }
  }
  return !uses.empty();
}

void HbmLedger::ForgetPhase(TenantId id, const std::string& agent) {
  MutexLock lock(&mutex_);
  TenantOf(id).away.erase(agent);
}

void HbmLedger::Empty(TenantId id, const std::string& agent, AgentPhase phase) {
  MutexLock lock(&mutex_);
  for (const auto& [process, use] : UsesOf(&TenantOf(id), agent)) {
    if (AskToEmpty(process, use, phase)) process->holder.word.Move();
  }
}

void HbmLedger::BringBack(TenantId id, const std::string& agent,
                          AgentPhase phase) {
  MutexLock lock(&mutex_);
  Tenant& tenant = TenantOf(id);
  tenant.away.erase(agent);
  for (const auto& [process, use] : UsesOf(&tenant, agent)) {
    if (AskToBringBack(process, use, phase)) process->holder.word.Move();
  }
}

void HbmLedger::TakeHits(const HbmHits& said, Tenant* tenant,
                         Process* process) const {
  HbmHits& its = process->hits;
  const auto seconds = static_cast<std::uint64_t>(
      1 + (clock_->Now() - process->opened_at) / kSecondNs);
  const std::uint64_t blocks = std::max(
      its.blocks, std::min(said.blocks, Product(kHitsEachSecond, seconds)));
  const std::uint64_t bytes = std::max(
      its.bytes, std::min({said.bytes, Product(kHitBytesEachSecond, seconds),
                           Product(kMaxBlockBytes, blocks)}));
  Add(blocks - its.blocks, &tenant->hits.blocks);
  Add(bytes - its.bytes, &tenant->hits.bytes);
  its = {blocks, bytes};
}

std::optional<TierSnapshot> HbmLedger::Snapshot(TenantId id) const {
  MutexLock lock(&mutex_);
  const auto tenant = tenants_.find(id.value());
  if (tenant == tenants_.end() || !tenant->second.has_opened) {
    return std::nullopt;
  }
  TierSnapshot tier;
  tier.tier = Tier::kHbm;
  for (const auto& [token, process] : tenant->second.processes) {
    Add(process.budget_bytes, &tier.budget_bytes);
    Add(process.allocated_bytes, &tier.used_bytes);
    Add(process.blocks, &tier.blocks);
  }
  tier.hits = tenant->second.hits.blocks;
  tier.hit_bytes = tenant->second.hits.bytes;
  return tier;
}

HbmEntry HbmLedger::EntryOf(const Process& process) {
  HbmEntry entry = {};
  SetField(process.holder.client_name, entry.client_name,
           sizeof(entry.client_name));
  SetField(process.device_name, entry.device, sizeof(entry.device));
  entry.pid = process.holder.pid;
  return entry;
}

HbmEntry HbmLedger::EntryOfAgent(const Process& process,
                                 const std::string& agent, const Use& use,
                                 TimeNs now) {
  HbmEntry entry = EntryOf(process);
  SetField(agent, entry.agent, sizeof(entry.agent));
  entry.bytes = use.bytes;
  entry.blocks = use.blocks;
  const Wish& wish = use.wish;
  entry.wish = wish.kind;
  entry.phase = wish.phase;
  entry.wish_open = wish.open;
  entry.wish_late = (wish.open ? now : wish.answered_at) > wish.deadline;
  if (wish.number != 0 && !wish.open) {
    entry.wish_ns = static_cast<std::uint64_t>(
        std::max<DurationNs>(1, wish.answered_at - wish.asked_at));
  }
  return entry;
}

bool HbmLedger::ListOn(TenantId id, std::size_t count, Place* place,
                       std::vector<HbmEntry>* entries) const {
  MutexLock lock(&mutex_);
  const auto tenant = tenants_.find(id.value());
  AGENTMEM_CHECK(tenant != tenants_.end());
  const TimeNs now = clock_->Now();
  const auto& processes = tenant->second.processes;
  auto process = processes.lower_bound(place->token);
  // (Where it ended with that process, the next one comes.)
  bool is_begun = place->listed != 0 && process != processes.end() &&
                  process->first == place->token;
  for (; process != processes.end(); ++process, is_begun = false) {
    const Process& its = process->second;
    if (!is_begun) {
      if (count-- == 0) return true;
      ++place->listed;
      place->token = process->first;
      place->agent.clear();
      if (entries != nullptr) {
        HbmEntry& entry = entries->emplace_back(EntryOf(its));
        entry.bytes = its.bytes;
        entry.blocks = its.blocks;
        entry.budget_bytes = its.budget_bytes;
        entry.allocated_bytes = its.allocated_bytes;
        entry.wanted_bytes = its.wanted_bytes;
        entry.hits = its.hits.blocks;
        entry.hit_bytes = its.hits.bytes;
      }
    }
    // (No agent's name is empty.)
    for (auto use = its.uses.upper_bound(place->agent); use != its.uses.end();
         ++use) {
      if (count-- == 0) return true;
      ++place->listed;
      place->agent = use->first;
      if (entries != nullptr) {
        entries->push_back(EntryOfAgent(its, use->first, use->second, now));
      }
    }
  }
  return false;
}

std::vector<HbmEntry> HbmLedger::List(TenantId id, std::uint64_t skip,
                                      std::size_t count, Place* place,
                                      bool* more) const {
  if (place->listed != skip) *place = Place();
  *more = true;
  while (*more && place->listed < skip) {
    *more =
        ListOn(id, std::min<std::uint64_t>(kListSteps, skip - place->listed),
               place, nullptr);
  }
  std::vector<HbmEntry> entries;
  if (*more) *more = ListOn(id, count, place, &entries);
  return entries;
}

}  // namespace agentmem
