#include "memd/agents/hbm_ledger.h"

#include <algorithm>
#include <cstring>

#include "absl/container/flat_hash_set.h"
#include "base/check.h"
#include "base/status.h"
#include "tiering/device_shares.h"

namespace agentmem {
namespace {

// Of a field that is NUL-padded; empty, if it has no NUL.
template <std::size_t N>
std::string TextIn(const char (&field)[N]) {
  return std::string(
      field, std::memchr(field, 0, N) == nullptr ? 0 : std::strlen(field));
}

// As an operator reads it.
template <std::size_t N>
absl::StatusOr<std::string> DeviceText(const char* what,
                                       const char (&field)[N]) {
  const std::string text = TextIn(field);
  const bool good =
      !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        return static_cast<unsigned char>(c) >= ' ' && c != 0x7f;
      });
  if (good) return text;
  return InvalidArgument(std::string(what) + ": 1 to " + std::to_string(N - 1) +
                         " bytes without control characters are allowed");
}

bool IsIn(const HbmUse& use) { return use.bytes != 0; }

// As it was sent: Check has seen its NUL.
std::string NameOf(const HbmUse& use) { return use.agent; }

}  // namespace

void HbmLedger::AddTenant(TenantId id, std::uint64_t quota_bytes) {
  MutexLock lock(&mutex_);
  tenants_[id.value()].quota_bytes = quota_bytes;
}

HbmLedger::Tenant& HbmLedger::TenantOf(TenantId id) {
  auto found = tenants_.find(id.value());
  AGENTMEM_CHECK(found != tenants_.end());
  return found->second;
}

bool HbmLedger::MayChange(Tenant* tenant, bool is_turn) {
  const TimeNs now = clock_->Now();
  const TimeNs change = std::max(tenant->changes_paid, now);
  const TimeNs turn = std::max(tenant->turns_paid, now);
  if (change - now > (kChangesAtOnce - 1) * kChangeNs) return false;
  if (is_turn && turn - now > (kTurnsAtOnce - 1) * kTurnNs) return false;
  tenant->changes_paid = change + kChangeNs;
  if (is_turn) tenant->turns_paid = turn + kTurnNs;
  return true;
}

absl::StatusOr<std::uint64_t> HbmLedger::Open(Holder holder,
                                              const HbmDevice& device,
                                              std::uint64_t wanted_bytes) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::string name,
                            DeviceText("a device's name", device.name));
  AGENTMEM_ASSIGN_OR_RETURN(const std::string id,
                            DeviceText("a device's id", device.id));
  if (device.memory_bytes == 0 || device.memory_bytes > kDeviceBytesMax ||
      device.reserved != 0) {
    return InvalidArgument("device \"" + name + "\" of " +
                           std::to_string(device.memory_bytes) +
                           " bytes: 1 to " + std::to_string(kDeviceBytesMax) +
                           " are allowed, and 0 in what is reserved");
  }
  MutexLock lock(&mutex_);
  Tenant& tenant = TenantOf(holder.tenant);
  const std::uint64_t token = holder.token;
  const bool is_turn = tenant.has_fallen || tenant.processes.contains(token);
  if (!MayChange(&tenant, is_turn)) {
    return ResourceExhausted(
        "device \"" + name + "\": the processes of this tenant open devices, " +
        "or change what they want of them, more than " +
        std::to_string(kSecondNs / kChangeNs) +
        " times a second, or close and open them again all the time; try " +
        "again in " + std::to_string(kTurnNs / kSecondNs) + " s");
  }
  End(&tenant, token);
  tenant.has_fallen = false;
  Process& process = tenant.processes[token];
  process.holder = std::move(holder);
  process.device = id;
  process.device_name = name;
  process.memory_bytes = device.memory_bytes;
  process.wanted_bytes = std::min(wanted_bytes, device.memory_bytes);
  process.opened_at = clock_->Now();
  tenant.has_opened = true;
  Divide(id, token);
  return process.budget_bytes;
}

bool HbmLedger::Close(TenantId tenant, std::uint64_t token,
                      const HbmHits& last) {
  MutexLock lock(&mutex_);
  Tenant& its = TenantOf(tenant);
  const auto found = its.processes.find(token);
  if (found == its.processes.end()) return false;
  TakeHits(last, &its, &found->second);
  End(&its, token);
  return true;
}

void HbmLedger::End(Tenant* tenant, std::uint64_t token) {
  auto found = tenant->processes.find(token);
  if (found == tenant->processes.end()) return;
  const std::string device = found->second.device;
  tenant->has_fallen = true;
  tenant->agents -= found->second.uses.size();
  tenant->processes.erase(found);
  Divide(device, token);
}

void HbmLedger::Divide(const std::string& device, std::uint64_t asker) {
  std::vector<tiering::DeviceTenant> wants;
  std::vector<std::vector<Process*>> sharers;
  for (auto& [id, tenant] : tenants_) {
    tiering::DeviceTenant want;
    want.quota_bytes = tenant.quota_bytes;
    want.device_bytes =
        rules_.device_bytes == 0 ? kDeviceBytesMax : rules_.device_bytes;
    std::vector<Process*> its;
    for (auto& [token, process] : tenant.processes) {
      if (process.device != device) continue;
      // The smallest that its own processes say.
      want.device_bytes = std::min(want.device_bytes, process.memory_bytes);
      want.wants.push_back(process.wanted_bytes);
      its.push_back(&process);
    }
    if (its.empty()) continue;
    wants.push_back(std::move(want));
    sharers.push_back(std::move(its));
  }
  const auto shares = tiering::DivideDevice(wants);
  for (std::size_t i = 0; i < sharers.size(); ++i) {
    for (std::size_t j = 0; j < sharers[i].size(); ++j) {
      Process* const process = sharers[i][j];
      if (process->budget_bytes == shares[i][j]) continue;
      process->budget_bytes = shares[i][j];
      if (process->holder.token != asker) process->holder.word.Move();
    }
  }
}

absl::Status HbmLedger::Check(const Process& process,
                              const Report& report) const {
  const std::string device = "device \"" + process.device_name + "\" of " +
                             std::to_string(process.memory_bytes) + " bytes";
  if (report.allocated_bytes > process.memory_bytes) {
    return InvalidArgument(device + ": " +
                           std::to_string(report.allocated_bytes) +
                           " bytes are said to be allocated");
  }
  for (const HbmUse& use : report.uses) {
    const std::string name = TextIn(use.agent);
    if (!IsAgentName(name)) {
      return InvalidArgument("an agent's name: 1 to " +
                             std::to_string(kAgentNameBytes - 1) +
                             " bytes without spaces and control characters "
                             "are allowed");
    }
    if (use.bytes > process.memory_bytes || use.blocks > use.bytes ||
        (use.blocks == 0) != (use.bytes == 0)) {
      return InvalidArgument(
          "agent \"" + name + "\": " + std::to_string(use.blocks) +
          " blocks of " + std::to_string(use.bytes) + " bytes in " + device);
    }
    if (use.answers > last_wish_) {
      return InvalidArgument("agent \"" + name + "\": wish " +
                             std::to_string(use.answers) +
                             " is answered, and there was none of that number");
    }
  }
  return absl::OkStatus();
}

// Counts what there is when the report is taken and all that may be forgotten
// is: who left, earlier or in this report.
absl::Status HbmLedger::CheckRoom(const Tenant& tenant, const Process& process,
                                  std::span<const HbmUse> uses) const {
  const auto fits = [&](std::size_t fresh, std::size_t gone) {
    return process.uses.size() + fresh <= rules_.process_agents_max + gone &&
           tenant.agents + fresh <= rules_.tenant_agents_max + gone;
  };
  if (fits(uses.size(), 0)) return absl::OkStatus();
  absl::flat_hash_set<std::string> here;
  for (const HbmUse& use : uses) {
    if (IsIn(use)) here.insert(NameOf(use));
  }
  std::size_t fresh = 0;
  std::size_t gone = process.left.size();
  for (const std::string& agent : here) {
    const auto known = process.uses.find(agent);
    if (known == process.uses.end()) {
      ++fresh;
    } else if (process.left.contains(known->second.wish.number)) {
      --gone;
    }
  }
  absl::flat_hash_set<std::string> ending;
  for (const HbmUse& use : uses) {
    const auto known = process.uses.find(NameOf(use));
    if (known == process.uses.end() || here.contains(known->first)) continue;
    const Wish& wish = known->second.wish;
    const bool ends = !wish.open || wish.number == use.answers;
    if (!ends || process.left.contains(wish.number)) continue;
    if (ending.insert(known->first).second) ++gone;
  }
  if (fits(fresh, gone)) return absl::OkStatus();
  return ResourceExhausted(
      "blocks in device memory of " + std::to_string(process.uses.size()) +
      " agents in this process, and " + std::to_string(tenant.agents) +
      " in all of the tenant: " + std::to_string(rules_.process_agents_max) +
      " and " + std::to_string(rules_.tenant_agents_max) +
      " are allowed; let some leave");
}

void HbmLedger::ForgetLeft(Tenant* tenant, Process* process) {
  while (!process->left.empty() &&
         (process->uses.size() > rules_.process_agents_max ||
          tenant->agents > rules_.tenant_agents_max)) {
    Erase(tenant, process, process->left.begin()->second);
  }
}

// It has no blocks.
void HbmLedger::Erase(Tenant* tenant, Process* process, Uses::iterator use) {
  process->left.erase(use->second.wish.number);
  process->open.erase(use->second.wish.number);
  process->uses.erase(use);
  --tenant->agents;
}

bool HbmLedger::TakeUse(Tenant* tenant, Process* process, const HbmUse& use) {
  auto [entry, made] = process->uses.try_emplace(NameOf(use));
  if (made) ++tenant->agents;
  Use& its = entry->second;
  process->bytes += use.bytes - its.bytes;
  process->blocks += use.blocks - its.blocks;
  its.bytes = use.bytes;
  its.blocks = use.blocks;
  Wish& wish = its.wish;
  // (An answer to a wish whose place another took says nothing.)
  if (wish.open && wish.number == use.answers) {
    wish.open = false;
    wish.answered_at = clock_->Now();
    process->open.erase(wish.number);
  }
  process->left.erase(wish.number);
  if (IsIn(use)) {
    const auto away = tenant->away.find(entry->first);
    if (away == tenant->away.end()) return made;
    AskToEmpty(process, entry, away->second);
  } else if (!wish.open) {
    if (wish.kind == HbmWishKind::kEmpty) {
      process->left[wish.number] = entry;
    } else {
      Erase(tenant, process, entry);
    }
  }
  return false;
}

absl::StatusOr<HbmLedger::Answer> HbmLedger::Take(TenantId id,
                                                  std::uint64_t token,
                                                  const Report& report) {
  MutexLock lock(&mutex_);
  Tenant& tenant = TenantOf(id);
  auto found = tenant.processes.find(token);
  if (found == tenant.processes.end()) {
    return FailedPrecondition("no device is open on this connection");
  }
  Process& process = found->second;
  AGENTMEM_RETURN_IF_ERROR(Check(process, report));
  AGENTMEM_RETURN_IF_ERROR(CheckRoom(tenant, process, report.uses));
  process.allocated_bytes = report.allocated_bytes;
  TakeHits(report.hits, &tenant, &process);
  Answer answer;
  for (const HbmUse& use : report.uses) {
    if (TakeUse(&tenant, &process, use)) answer.unheard.push_back(NameOf(use));
  }
  ForgetLeft(&tenant, &process);
  // Too often: a later report says it again.
  const std::uint64_t wanted =
      std::min(report.wanted_bytes, process.memory_bytes);
  const bool is_less = wanted < process.wanted_bytes;
  if (wanted != process.wanted_bytes &&
      MayChange(&tenant, !is_less && tenant.has_fallen)) {
    tenant.has_fallen = is_less;
    process.wanted_bytes = wanted;
    Divide(process.device, token);
  }
  answer.budget_bytes = process.budget_bytes;
  answer.wishes = Tell(&process);
  return answer;
}

}  // namespace agentmem
