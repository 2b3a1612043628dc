// Limits of this process, memory, huge pages and the disk.
#include <algorithm>
#include <cstdint>

#include "client/memctl/doctor.h"
#include "client/memctl/human_text.h"
#include "client/memctl/proc_text.h"

namespace agentmem::memctl {
namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kGiB = 1ULL << 30;

// memd keeps 4 descriptors a client (socket, client file, doorbell, pidfd)
// beside RocksDB's files: 4,096 serve some hundred clients.
constexpr std::uint64_t kOpenFilesWanted = 4096;
// Below this memd's default DRAM budget has no room.
constexpr std::uint64_t kAvailableProblem = 512ULL << 20;
constexpr std::uint64_t kAvailableNote = 2 * kGiB;
constexpr std::uint64_t kDiskProblem = kGiB;
constexpr std::uint64_t kDiskNote = 10 * kGiB;

std::string LimitText(std::uint64_t value, bool bytes) {
  if (value == LimitValue::kUnlimited) return "unlimited";
  return bytes ? HumanBytes(value) : std::to_string(value);
}

std::uint64_t MemInfo(const SystemView& system, const char* name) {
  const std::string text = system.Read("/proc/meminfo").value_or("");
  return NumberOf(text, name).value_or(0) * kKiB;
}

// The path of this process in a cgroup hierarchy ("" is version 2's).
std::string CgroupPath(const std::string& text, const std::string& controller) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string names =
        "," + line.substr(first + 1, second - first - 1) + ",";
    const bool matches =
        controller.empty()
            ? names == ",,"
            : names.find("," + controller + ",") != std::string::npos;
    if (matches) return line.substr(second + 1);
  }
  return "";
}

struct CgroupMemory {
  std::string path;
  std::uint64_t limit = 0;  // 0: none found
  std::uint64_t used = 0;
};

// The tightest limit from this process's group up to the root.
void Tighten(const SystemView& system, const std::string& root,
             const std::string& group, const char* limit_file,
             const char* used_file, CgroupMemory* memory) {
  std::string path = group == "/" ? "" : group;
  while (true) {
    const std::string directory = root + path;
    const auto limit =
        ParseNumber(system.Read(directory + "/" + limit_file).value_or(""));
    if (limit && (memory->limit == 0 || *limit < memory->limit)) {
      memory->path = directory;
      memory->limit = *limit;
      memory->used =
          ParseNumber(system.Read(directory + "/" + used_file).value_or(""))
              .value_or(0);
    }
    if (path.empty()) return;
    path = path.substr(0, path.rfind('/'));
  }
}

}  // namespace

Finding CheckMemlock(const SystemView& system) {
  const LimitValue limit = system.LimitOf(Limit::kMemlock);
  Finding finding{"memlock", Level::kOk,
                  "soft " + LimitText(limit.soft, true) + ", hard " +
                      LimitText(limit.hard, true),
                  ""};
  if (limit.soft == LimitValue::kUnlimited) return finding;
  const bool rdma = !system.List("/sys/class/infiniband").empty();
  finding.level = rdma ? Level::kProblem : Level::kNote;
  finding.remedy = std::string(rdma ? "RDMA registers the pool and fails with "
                                      "ENOMEM at this limit"
                                    : "only RDMA needs more") +
                   ": set LimitMEMLOCK=infinity in memd's unit, or `* - "
                   "memlock unlimited` in /etc/security/limits.conf";
  return finding;
}

Finding CheckOpenFiles(const SystemView& system) {
  const LimitValue limit = system.LimitOf(Limit::kOpenFiles);
  Finding finding{"open_files", Level::kOk,
                  "soft " + LimitText(limit.soft, false) + ", hard " +
                      LimitText(limit.hard, false),
                  ""};
  if (limit.soft >= kOpenFilesWanted) return finding;
  finding.level =
      limit.hard >= kOpenFilesWanted ? Level::kNote : Level::kProblem;
  finding.remedy = "memd wants at least " + std::to_string(kOpenFilesWanted) +
                   " (4 a client, and the store's files): set "
                   "LimitNOFILE=65536 in its unit, or `ulimit -n 65536`";
  return finding;
}

Finding CheckMemory(const SystemView& system) {
  const std::uint64_t total = MemInfo(system, "MemTotal");
  const std::uint64_t available = MemInfo(system, "MemAvailable");
  if (total == 0) {
    return {"memory", Level::kNote, "/proc/meminfo cannot be read",
            "mount /proc in this container"};
  }
  Finding finding{"memory", Level::kOk,
                  HumanBytes(available) + " available of " + HumanBytes(total) +
                      " (memfds are limited by it alone)",
                  ""};
  if (available >= kAvailableNote) return finding;
  finding.level =
      available < kAvailableProblem ? Level::kProblem : Level::kNote;
  finding.remedy =
      "the DRAM tier must fit in what is available: set a smaller DRAM budget "
      "in memd's config, or free memory";
  return finding;
}

std::vector<Finding> CheckBudgets(const SystemView& system,
                                  const admin::v1::NodeSnapshot& node,
                                  std::uint64_t export_bytes) {
  const std::uint64_t total = MemInfo(system, "MemTotal");
  std::uint64_t budgets = export_bytes;
  for (const auto& tenant : node.tenants()) {
    budgets += tenant.dram().budget_bytes();
  }
  if (total == 0 || budgets <= total) return {};
  return {{"memory_budgets", Level::kNote,
           "the tenants' dram and the pool's export are " +
               HumanBytes(budgets) + " together, of a machine with " +
               HumanBytes(total),
           "lower `dram` or `export` in memd's config: pages are taken when "
           "they are first used, and then the kernel ends somebody"}};
}

Finding CheckMemoryCgroup(const SystemView& system) {
  const std::string groups = system.Read("/proc/self/cgroup").value_or("");
  CgroupMemory memory;
  Tighten(system, "/sys/fs/cgroup", CgroupPath(groups, ""), "memory.max",
          "memory.current", &memory);
  Tighten(system, "/sys/fs/cgroup/memory", CgroupPath(groups, "memory"),
          "memory.limit_in_bytes", "memory.usage_in_bytes", &memory);
  const std::uint64_t total = MemInfo(system, "MemTotal");
  // Version 1 writes "no limit" as a number near 2^63.
  if (memory.limit == 0 || (total != 0 && memory.limit >= total)) {
    return {"memory_cgroup", Level::kOk, "no limit below the machine's memory",
            ""};
  }
  const std::uint64_t left = memory.limit - std::min(memory.used, memory.limit);
  Finding finding{"memory_cgroup", Level::kNote,
                  HumanBytes(memory.used) + " used of " +
                      HumanBytes(memory.limit) + " in " + memory.path,
                  "shared memory is charged to the group of its first toucher "
                  "(memd): keep the DRAM budget below the limit, or raise "
                  "MemoryMax= of memd's unit"};
  if (left < kAvailableProblem) finding.level = Level::kProblem;
  return finding;
}

Finding CheckHugePages(const SystemView& system) {
  const std::string base = "/sys/kernel/mm/transparent_hugepage/";
  const std::string shmem =
      ChosenOf(system.Read(base + "shmem_enabled").value_or("missing"));
  const std::string thp =
      ChosenOf(system.Read(base + "enabled").value_or("missing"));
  const std::uint64_t reserved =
      NumberOf(system.Read("/proc/meminfo").value_or(""), "HugePages_Total")
          .value_or(0);
  Finding finding{"huge_pages", Level::kOk,
                  "shmem " + shmem + ", thp " + thp + ", " +
                      std::to_string(reserved) + " reserved",
                  ""};
  const bool shared_huge = shmem == "always" || shmem == "within_size" ||
                           shmem == "advise" || shmem == "force";
  if (shared_huge || reserved > 0) return finding;
  finding.level = Level::kNote;
  finding.remedy =
      "the pool uses 4 KiB pages (2 MiB of page tables a GiB and process): "
      "echo advise > " +
      base + "shmem_enabled";
  return finding;
}

Finding CheckStateDirectory(const SystemView& system, const std::string& path) {
  const auto space = system.Space(path);
  if (!space) {
    return {"state_directory", Level::kProblem, path + " cannot be examined",
            "name another one with state_directory in memd's config"};
  }
  Finding finding{"state_directory", Level::kOk,
                  path + ": " + HumanBytes(space->free_bytes) + " free of " +
                      HumanBytes(space->total_bytes),
                  ""};
  if (space->path != path) finding.value += " (not made yet)";
  if (!space->writable) {
    finding.level = Level::kProblem;
    finding.value += ", " + space->path + " is not writable for this user";
    finding.remedy =
        "run as memd's user, or give it the directory: chown USER " +
        space->path;
  } else if (space->free_bytes < kDiskNote) {
    finding.level =
        space->free_bytes < kDiskProblem ? Level::kProblem : Level::kNote;
    finding.remedy =
        "free space on this disk, or name a directory on a larger one with "
        "state_directory in memd's config";
  }
  return finding;
}

}  // namespace agentmem::memctl
