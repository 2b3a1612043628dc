// What of this machine helps or hinders agentmem, and what to do about it.
//
// Each check is a pure function of a SystemView. A `problem` stops something
// that agentmem offers on this machine; a `note` costs speed, or stands in the
// way of something that is not in use here.
//
// Threads: pure functions. Errors: none: what cannot be found out is a note.
// Cost: tens of system calls.
#ifndef AGENTMEM_CLIENT_MEMCTL_DOCTOR_H_
#define AGENTMEM_CLIENT_MEMCTL_DOCTOR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/memctl/system_view.h"
#include "proto/admin.pb.h"

namespace agentmem::memctl {

enum class Level { kOk, kNote, kProblem };

struct Finding {
  std::string name;  // stable: a key for scripts
  Level level = Level::kOk;
  std::string value;   // what was found
  std::string remedy;  // what to do; empty when all is well
};

const char* LevelName(Level level);

// doctor_limits.cc
Finding CheckMemlock(const SystemView& system);
Finding CheckOpenFiles(const SystemView& system);
Finding CheckMemory(const SystemView& system);
Finding CheckMemoryCgroup(const SystemView& system);
Finding CheckHugePages(const SystemView& system);
Finding CheckStateDirectory(const SystemView& system, const std::string& path);

// doctor_kernel.cc
Finding CheckUserfaultfd(const SystemView& system);
Finding CheckSeccomp(const SystemView& system);
Finding CheckIoUring(const SystemView& system);
Finding CheckPidfd(const SystemView& system);
Finding CheckMemfdSeals(const SystemView& system);
Finding CheckWipeOnFork(const SystemView& system);

// doctor_devices.cc
Finding CheckRdma(const SystemView& system);
Finding CheckGpu(const SystemView& system);

// Of a running memd, or why none answers.
std::vector<Finding> CheckMemd(
    const absl::StatusOr<admin::v1::NodeSnapshot>& node);

// Do the budgets of a running memd fit into this machine? Nothing, if they do.
// (doctor_limits.cc)
std::vector<Finding> CheckBudgets(const SystemView& system,
                                  const admin::v1::NodeSnapshot& node,
                                  std::uint64_t export_bytes);

// doctor_fabric.cc: what memd says of the way to its peers. Nothing, where a
// memd of before the fabric answers.
std::vector<Finding> CheckFabric(
    const absl::StatusOr<admin::v1::FabricSnapshot>& fabric);

// All checks of the machine, in the order in which they are shown.
std::vector<Finding> CheckSystem(const SystemView& system,
                                 const std::string& state_directory);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_DOCTOR_H_
