// Two tenants' processes before the books of device memory, at a time that the
// test moves.
#ifndef AGENTMEM_TESTS_UNIT_MEMD_AGENTS_HBM_LEDGER_HARNESS_H_
#define AGENTMEM_TESTS_UNIT_MEMD_AGENTS_HBM_LEDGER_HARNESS_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "memd/agents/hbm_ledger.h"
#include "memd/handshake.h"

namespace agentmem {

class HbmLedgerTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kMiB = 1 << 20;
  static constexpr TenantId kOne{1};
  static constexpr TenantId kTwo{2};
  static constexpr DurationNs kLeave = 500 * kMillisecondNs;

  static HbmDevice DeviceOf(std::uint64_t bytes,
                            const std::string& id = "GPU-1") {
    HbmDevice device = {};
    SetField("a device", device.name, sizeof(device.name));
    SetField(id, device.id, sizeof(device.id));
    device.memory_bytes = bytes;
    return device;
  }

  static HbmUse UseOf(const std::string& agent, std::uint64_t blocks,
                      std::uint64_t answers = 0) {
    HbmUse use = {};
    SetField(agent, use.agent, sizeof(use.agent));
    use.bytes = blocks * kMiB;
    use.blocks = blocks;
    use.answers = answers;
    return use;
  }

  HbmLedgerTest() { UseRules({.leave_ns = kLeave}); }

  void UseRules(const HbmRules& rules, std::uint64_t quota_of_two = 0) {
    ledger_.emplace(rules, &clock_);
    ledger_->AddTenant(kOne, 0);
    ledger_->AddTenant(kTwo, quota_of_two);
  }

  HbmLedger::Holder HolderOf(TenantId tenant, std::uint64_t token) {
    HbmLedger::Holder holder;
    holder.token = token;
    holder.tenant = tenant;
    holder.client_name = "engine " + std::to_string(token);
    holder.pid = static_cast<std::int32_t>(100 + token);
    holder.word = {board_, static_cast<std::uint32_t>(token)};
    return holder;
  }
  std::uint64_t Open(TenantId tenant, std::uint64_t token,
                     std::uint64_t wanted_mib, std::uint64_t device_mib = 100,
                     const std::string& id = "GPU-1") {
    const auto budget =
        ledger_->Open(HolderOf(tenant, token), DeviceOf(device_mib * kMiB, id),
                      wanted_mib * kMiB);
    EXPECT_TRUE(budget.ok()) << budget.status();
    return budget.value_or(0) / kMiB;
  }
  absl::StatusOr<HbmLedger::Answer> TryReport(std::uint64_t token,
                                              const std::vector<HbmUse>& uses,
                                              std::uint64_t wanted_mib = 100,
                                              TenantId tenant = kOne) {
    HbmLedger::Report report;
    report.wanted_bytes = wanted_mib * kMiB;
    report.uses = uses;
    return ledger_->Take(tenant, token, report);
  }
  HbmLedger::Answer Report(std::uint64_t token,
                           const std::vector<HbmUse>& uses = {},
                           std::uint64_t wanted_mib = 100,
                           TenantId tenant = kOne) {
    auto answer = TryReport(token, uses, wanted_mib, tenant);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? *std::move(answer) : HbmLedger::Answer();
  }
  std::uint64_t BudgetOf(std::uint64_t token, TenantId tenant = kOne) {
    for (const HbmEntry& entry : List(tenant)) {
      if (entry.agent[0] == 0 &&
          entry.pid == static_cast<std::int32_t>(100 + token)) {
        return entry.budget_bytes / kMiB;
      }
    }
    ADD_FAILURE() << "session " << token << " has no device open";
    return 0;
  }
  std::vector<HbmEntry> List(TenantId tenant = kOne) {
    bool more = false;
    HbmLedger::Place place;
    return ledger_->List(tenant, 0, 10000, &place, &more);
  }
  HbmEntry EntryOf(const std::string& agent) {
    for (const HbmEntry& entry : List()) {
      if (agent == entry.agent) return entry;
    }
    ADD_FAILURE() << agent << " is not listed";
    return {};
  }
  // How often a session was woken since it was asked last.
  int Moves(std::uint64_t token) {
    auto* const words = reinterpret_cast<std::uint32_t*>(board_->base());
    return static_cast<int>(std::exchange(words[token], 0));
  }

  ManualClock clock_{100 * kSecondNs};
  std::shared_ptr<SharedMemory> board_ =
      std::make_shared<SharedMemory>(*SharedMemory::Create(
          "board", kBoardBytes, SharedMemory::Access::kClientsWrite));
  std::optional<HbmLedger> ledger_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_MEMD_AGENTS_HBM_LEDGER_HARNESS_H_
