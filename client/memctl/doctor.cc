#include "client/memctl/doctor.h"

#include <algorithm>

#include "base/status.h"
#include "client/memctl/human_text.h"
#include "client/memctl/socket_probe.h"

namespace agentmem::memctl {
namespace {

// A store this full has to be looked after.
constexpr double kStoreFullShare = 0.9;

// A sentence for each reason, and what helps against it.
Finding FailedPuts(const admin::v1::TenantSnapshot& tenant) {
  struct Reason {
    std::uint64_t count;
    const char* what;
    const char* remedy;
  };
  const std::uint64_t known =
      tenant.puts_failed_room() + tenant.puts_failed_quota() +
      tenant.puts_failed_store() + tenant.puts_failed_replica();
  const std::uint64_t others =
      tenant.puts_failed() - std::min(known, tenant.puts_failed());
  const Reason reasons[] = {
      {tenant.puts_failed_room(), "no room in DRAM",
       "see with `memctl clients` who holds the memory, or raise the tenant's "
       "`dram`"},
      {tenant.puts_failed_quota(), "a quota is used up",
       "raise the tenant's `store_quota` or `grant_quota`"},
      {tenant.puts_failed_store(), "the store failed",
       "look at memd's log and at the disk of its state directory: is it "
       "full?"},
      {tenant.puts_failed_replica(), "no other node took a copy",
       "see with `memctl fabric` which nodes are up and lend memory"},
      {others, "for other reasons", "see what the clients were told"}};
  Finding finding{"failed_puts", Level::kNote,
                  "tenant " + Printable(tenant.name()) + ": " +
                      std::to_string(tenant.puts_failed()) + " of " +
                      std::to_string(tenant.puts()) + " puts failed",
                  ""};
  for (const Reason& reason : reasons) {
    if (reason.count == 0) continue;
    const bool first = finding.remedy.empty();
    finding.value += (first ? ": " : ", ") + std::to_string(reason.count) +
                     " (" + reason.what + ")";
    finding.remedy += std::string(first ? "" : "; ") + reason.remedy;
  }
  return finding;
}

void CheckTenant(const admin::v1::TenantSnapshot& tenant,
                 std::vector<Finding>* findings) {
  const std::string name = Printable(tenant.name());
  if (tenant.corrupt_blocks() > 0) {
    findings->push_back(
        {"corrupt_blocks", Level::kProblem,
         "tenant " + name + ": " + std::to_string(tenant.corrupt_blocks()) +
             " copies failed their checksum",
         "look at memd's log for the first, and at the disk and the memory of "
         "this machine (smartctl, edac-util)"});
  }
  if (tenant.puts_failed() > 0) findings->push_back(FailedPuts(tenant));
  const admin::v1::TierSnapshot& store = tenant.store();
  if (store.budget_bytes() > 0 &&
      static_cast<double>(store.used_bytes()) >
          kStoreFullShare * static_cast<double>(store.budget_bytes())) {
    findings->push_back({"store_quota", Level::kNote,
                         "tenant " + name + ": " +
                             HumanBytes(store.used_bytes()) + " of " +
                             HumanBytes(store.budget_bytes()),
                         "raise the tenant's store quota"});
  }
}

}  // namespace

const char* LevelName(Level level) {
  switch (level) {
    case Level::kOk:
      return "ok";
    case Level::kNote:
      return "note";
    case Level::kProblem:
      return "problem";
  }
  return "unknown";
}

std::vector<Finding> CheckMemd(
    const absl::StatusOr<admin::v1::NodeSnapshot>& node) {
  if (!node.ok()) {
    std::string message = StatusMessage(node.status());
    if (node.status().code() != absl::StatusCode::kUnavailable) {
      return {{"memd", Level::kProblem, message, "see the message"}};
    }
    // The message ends with the remedy, which has a line of its own here.
    const std::string remedy = kHowToStartMemd;
    if (const std::size_t at = message.find(": " + remedy);
        at != std::string::npos) {
      message.erase(at);
    }
    return {{"memd", Level::kNote, message, remedy}};
  }
  std::vector<Finding> findings;
  Finding memd{"memd", Level::kOk,
               Printable(node->state()) + ", version " +
                   Printable(node->version()) + ", up " +
                   HumanDuration(node->uptime_ns()) + ", " +
                   std::to_string(node->clients_size()) + " clients",
               ""};
  if (node->state() != "serving") {
    memd.level = Level::kNote;
    memd.remedy = "wait until it serves, and look at its log if it does not";
  }
  findings.push_back(memd);
  for (const auto& tenant : node->tenants()) CheckTenant(tenant, &findings);
  for (const auto& client : node->clients()) {
    if (!client.socket_closed()) continue;
    findings.push_back(
        {"half_dead_client", Level::kNote,
         Printable(client.name()) + " (pid " + std::to_string(client.pid()) +
             ") hung up but lives, with " + HumanBytes(client.pinned_bytes()) +
             " pinned and " + HumanBytes(client.held_bytes()) + " held",
         "end the process to get its memory back"});
  }
  return findings;
}

std::vector<Finding> CheckSystem(const SystemView& system,
                                 const std::string& state_directory) {
  return {CheckPidfd(system),
          CheckMemfdSeals(system),
          CheckWipeOnFork(system),
          CheckMemory(system),
          CheckMemoryCgroup(system),
          CheckHugePages(system),
          CheckMemlock(system),
          CheckOpenFiles(system),
          CheckStateDirectory(system, state_directory),
          CheckUserfaultfd(system),
          CheckIoUring(system),
          CheckSeccomp(system),
          CheckRdma(system),
          CheckGpu(system)};
}

}  // namespace agentmem::memctl
