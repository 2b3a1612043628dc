// Whose blocks they are: agents that own, leave, are remembered, come back.
#include <algorithm>
#include <iterator>
#include <utility>

#include "client/hbm_pool.h"

namespace agentmem::client {
namespace {

// Beyond it a block is everybody's: the beginning of a common prompt.
constexpr std::size_t kOwnersMax = 64;

}  // namespace

HbmKeep::HbmKeep(HbmPool* pool, std::string_view agent)
    : pool_(pool), agent_(pool->OpenAgent(agent)) {}

HbmKeep::~HbmKeep() { pool_->CloseAgent(agent_); }

HbmAgent HbmPool::OpenAgent(std::string_view name) {
  if (name.empty() || name.size() >= kAgentNameBytes) return HbmAgent();
  MutexLock lock(&mutex_);
  std::uint32_t index = FindAgent(name);
  if (index == 0) {
    if (by_name_.size() >= kHbmAgentsMax) return HbmAgent();
    if (free_agents_.empty()) {
      index = static_cast<std::uint32_t>(agents_.size());
      agents_.emplace_back();
    } else {
      index = free_agents_.back();
      free_agents_.pop_back();
    }
    agents_[index].name = name;
    by_name_[agents_[index].name] = index;
  }
  ++agents_[index].references;
  return HbmAgent(index);
}

void HbmPool::CloseAgent(HbmAgent agent) {
  if (agent == HbmAgent()) return;
  MutexLock lock(&mutex_);
  --agents_[agent.value()].references;
  FreeAgent(agent.value());
}

std::uint32_t HbmPool::FindAgent(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? 0 : found->second;
}

void HbmPool::FreeAgent(std::uint32_t index) {
  Agent& agent = agents_[index];
  if (agent.references != 0 || agent.is_changed || agent.is_told ||
      !agent.entries.empty() || !agent.remembered.empty()) {
    return;
  }
  by_name_.erase(agent.name);
  agent = Agent();
  free_agents_.push_back(index);
}

void HbmPool::Own(std::uint32_t index, HbmAgent agent) {
  if (agent == HbmAgent()) return;
  Entry& entry = entries_[index];
  const auto same = [agent](const Owner& owner) {
    return owner.agent == agent.value();
  };
  if (std::any_of(entry.owners.begin(), entry.owners.end(), same)) return;
  if (entry.owners.size() == kOwnersMax) {
    entry.is_common = true;
  } else {
    entry.owners.push_back({agent.value(), next_order_++});
    Agent& owner = agents_[agent.value()];
    owner.entries.emplace(entry.owners.back().order, index);
    owner.bytes += entry.bytes;
    owner.leaving += entry.is_leaving;
    Changed(agent.value());
  }
  if (entry.is_leaving && !slabs_.is_closed(entry.slot.slab)) {
    SetLeaving(index, false);
  }
}

void HbmPool::Disown(std::uint32_t index) {
  for (const Owner& owner : std::exchange(entries_[index].owners, {})) {
    Agent& agent = agents_[owner.agent];
    agent.entries.erase(owner.order);
    agent.bytes -= entries_[index].bytes;
    Changed(owner.agent);
  }
}

void HbmPool::SetLeaving(std::uint32_t index, bool is_leaving) {
  Entry& entry = entries_[index];
  if (entry.is_leaving == is_leaving) return;
  entry.is_leaving = is_leaving;
  for (const Owner& owner : entry.owners) {
    agents_[owner.agent].leaving += is_leaving ? 1 : -1;
  }
  if (is_leaving) {
    leaving_.insert(index);
  } else {
    leaving_.erase(index);
  }
}

bool HbmPool::OwnersAreAway(const Entry& entry) const {
  if (entry.owners.empty() || entry.is_common) return false;
  for (const Owner& owner : entry.owners) {
    if (!agents_[owner.agent].is_away) return false;
  }
  return true;
}

void HbmPool::Leave(std::string_view name) {
  MutexLock lock(&mutex_);
  const std::uint32_t index = FindAgent(name);
  if (index == 0) return;
  Remember(index);
  agents_[index].is_away = true;
  agents_[index].left_at = next_order_++;
  const std::map<std::uint64_t, std::uint32_t> entries = agents_[index].entries;
  for (const auto& [order, at] : entries) {
    Entry& entry = entries_[at];
    if (OwnersAreAway(entry)) {
      SetLeaving(at, true);
      continue;
    }
    // Somebody else's, too: it stays, as his.
    Agent& agent = agents_[index];
    agent.entries.erase(order);
    agent.bytes -= entry.bytes;
    agent.leaving -= entry.is_leaving;
    std::erase_if(entry.owners,
                  [index](const Owner& owner) { return owner.agent == index; });
    Changed(index);
  }
}

bool HbmPool::HasLeft(std::string_view name) {
  MutexLock lock(&mutex_);
  const std::uint32_t index = FindAgent(name);
  return index == 0 || !agents_[index].is_away || agents_[index].leaving == 0;
}

std::vector<HbmPool::Remembered> HbmPool::Return(std::string_view name) {
  MutexLock lock(&mutex_);
  const std::uint32_t index = FindAgent(name);
  if (index == 0) return {};
  ComesBack(index);
  std::vector<Remembered> had = std::exchange(agents_[index].remembered, {});
  remembered_ -= had.size();
  FreeAgent(index);
  return had;
}

void HbmPool::ComesBack(std::uint32_t index) {
  Agent& agent = agents_[index];
  if (!agent.is_away) return;
  agent.is_away = false;
  for (const auto& [order, at] : agent.entries) {
    if (!slabs_.is_closed(entries_[at].slot.slab)) SetLeaving(at, false);
  }
}

void HbmPool::Remember(std::uint32_t index) {
  const std::size_t wanted = agents_[index].entries.size();
  // Who left first, first.
  while (remembered_ + wanted > entries_max_) {
    std::uint32_t first = 0;
    for (std::uint32_t i = 1; i < agents_.size(); ++i) {
      if (agents_[i].remembered.empty() || i == index) continue;
      if (first == 0 || agents_[i].left_at < agents_[first].left_at) first = i;
    }
    if (first == 0) break;
    Forget(first);
  }
  Agent& agent = agents_[index];
  std::set<Key> known;
  for (const Remembered& one : agent.remembered) known.insert(one.key);
  for (const auto& [order, at] : agent.entries) {
    if (remembered_ >= entries_max_) break;
    const Entry& entry = entries_[at];
    if (!known.insert(entry.key).second) continue;
    agent.remembered.push_back({entry.key, entry.block_class});
    ++remembered_;
  }
}

void HbmPool::RememberMore(std::string_view name,
                           std::span<const Remembered> more) {
  MutexLock lock(&mutex_);
  const std::uint32_t index = FindAgent(name);
  if (index == 0) return;
  for (const Remembered& one : more) {
    if (remembered_ >= entries_max_) return;
    agents_[index].remembered.push_back(one);
    ++remembered_;
  }
}

void HbmPool::Forget(std::uint32_t index) {
  remembered_ -= agents_[index].remembered.size();
  agents_[index].remembered.clear();
  FreeAgent(index);
}

void HbmPool::Changed(std::uint32_t index) {
  if (std::exchange(agents_[index].is_changed, true)) return;
  changed_.push_back(index);
}

HbmUse HbmPool::UseOfAgent(const Agent& agent) const {
  HbmUse use = {};
  agent.name.copy(use.agent, kAgentNameBytes - 1);
  use.bytes = agent.bytes;
  use.blocks = agent.entries.size();
  return use;
}

std::vector<HbmUse> HbmPool::TakeChanged(std::size_t count_max, Telling what) {
  MutexLock lock(&mutex_);
  std::vector<HbmUse> uses;
  while (!changed_.empty() && uses.size() < count_max) {
    const std::uint32_t index = changed_.back();
    Agent& agent = agents_[index];
    if (what == Telling::kGoneAlone && !uses.empty() &&
        uses.front().blocks == 0 && !agent.entries.empty()) {
      break;
    }
    changed_.pop_back();
    agent.is_changed = false;
    agent.is_told = true;
    uses.push_back(UseOfAgent(agent));
  }
  return uses;
}

void HbmPool::EndTelling(std::span<const HbmUse> uses, bool has_heard) {
  MutexLock lock(&mutex_);
  for (const HbmUse& use : uses) {
    const std::uint32_t index = FindAgent(use.agent);
    Agent& agent = agents_[index];
    if (index == 0 || !std::exchange(agent.is_told, false)) continue;
    if (!has_heard && !std::exchange(agent.is_changed, true)) {
      if (agent.entries.empty()) {
        changed_.push_back(index);
      } else {
        changed_.push_front(index);
      }
    }
    FreeAgent(index);
  }
}

HbmUse HbmPool::UseOf(std::string_view name) {
  MutexLock lock(&mutex_);
  const std::uint32_t index = FindAgent(name);
  if (index != 0) return UseOfAgent(agents_[index]);
  HbmUse use = {};
  name.copy(use.agent, kAgentNameBytes - 1);
  return use;
}

void HbmPool::AllChanged() {
  MutexLock lock(&mutex_);
  for (std::uint32_t i = 1; i < agents_.size(); ++i) {
    ComesBack(i);
    if (!agents_[i].entries.empty()) Changed(i);
  }
}

}  // namespace agentmem::client
