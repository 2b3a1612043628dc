// What the kernel lets this process do; each thing is tried for real.
#include <errno.h>

#include <cstring>

#include "client/memctl/doctor.h"
#include "client/memctl/proc_text.h"

namespace agentmem::memctl {
namespace {

std::string ErrorName(int error) {
  if (error == EPERM) return "EPERM";
  if (error == EACCES) return "EACCES";
  if (error == ENOSYS) return "ENOSYS";
  if (error == ENOENT) return "ENOENT";
  return std::strerror(error);
}

// Whether a seccomp filter stands before this process's system calls.
bool Filtered(const SystemView& system) {
  const std::string status = system.Read("/proc/self/status").value_or("");
  return NumberOf(status, "Seccomp").value_or(0) == 2;
}

std::string Sysctl(const SystemView& system, const std::string& path) {
  return Trim(system.Read("/proc/sys/" + path).value_or("missing"));
}

// What agentmem cannot do without: present, or a problem.
Finding CheckNeeded(const SystemView& system, Feature feature,
                    const std::string& name, const std::string& works,
                    const std::string& since) {
  const int error = system.Try(feature);
  if (error == 0) return {name, Level::kOk, works, ""};
  std::string remedy =
      "agentmem cannot run without it: use Linux " + since + " or newer";
  if (Filtered(system)) {
    remedy += ", and allow it in the container's seccomp profile";
  }
  return {name, Level::kProblem, "fails with " + ErrorName(error), remedy};
}

}  // namespace

Finding CheckUserfaultfd(const SystemView& system) {
  const int plain = system.Try(Feature::kUserfaultfd);
  const int device = system.Try(Feature::kUserfaultfdDevice);
  const int user_mode = system.Try(Feature::kUserfaultfdUserMode);
  const bool exists = system.Mode("/dev/userfaultfd").has_value();
  const std::string sysctl = Sysctl(system, "vm/unprivileged_userfaultfd");
  Finding finding{"userfaultfd", Level::kOk, "", ""};
  const std::string device_text =
      device == 0 ? "works"
                  : (exists ? ErrorName(device) : std::string("missing"));
  finding.value =
      "call " + (plain == 0 ? std::string("works") : ErrorName(plain)) +
      ", /dev/userfaultfd " + device_text + ", user mode " +
      (user_mode == 0 ? std::string("works") : ErrorName(user_mode)) +
      ", vm.unprivileged_userfaultfd " + sysctl;
  if (plain == 0 || device == 0) return finding;

  const std::string rule =
      exists ? "give memd's group the device with a udev rule "
               "(KERNEL==\"userfaultfd\", GROUP=\"agentmem\", MODE=\"0660\"), "
               "or set vm.unprivileged_userfaultfd=1"
             : "set vm.unprivileged_userfaultfd=1";
  if (user_mode == 0) {
    finding.level = Level::kNote;
    finding.remedy =
        "regions are limited: a system call into a page that is not there "
        "fails with EFAULT; " +
        rule;
    return finding;
  }
  finding.level = Level::kProblem;
  if (plain == ENOSYS && !Filtered(system)) {
    finding.remedy =
        "regions need a kernel with CONFIG_USERFAULTFD: use a distribution's "
        "kernel";
  } else if (Filtered(system)) {
    finding.remedy =
        "regions need it and a seccomp filter forbids it: allow userfaultfd "
        "in the container's profile, or pass it /dev/userfaultfd";
  } else {
    finding.remedy = "regions need it: " + rule;
  }
  return finding;
}

Finding CheckSeccomp(const SystemView& system) {
  const auto status = system.Read("/proc/self/status");
  if (!status || !NumberOf(*status, "Seccomp")) {
    return {"seccomp", Level::kNote, "/proc/self/status does not tell",
            "mount /proc in this container"};
  }
  const std::uint64_t mode = *NumberOf(*status, "Seccomp");
  if (mode == 0) return {"seccomp", Level::kOk, "no filter", ""};
  const std::uint64_t filters =
      NumberOf(*status, "Seccomp_filters").value_or(0);
  return {"seccomp", Level::kNote,
          "mode " + std::to_string(mode) + ", " + std::to_string(filters) +
              " filters",
          "look at userfaultfd, io_uring and pidfd here: what fails with EPERM "
          "or ENOSYS may be the filter, not the kernel"};
}

Finding CheckIoUring(const SystemView& system) {
  const int error = system.Try(Feature::kIoUring);
  const std::string sysctl = Sysctl(system, "kernel/io_uring_disabled");
  Finding finding{
      "io_uring", Level::kOk,
      (error == 0 ? std::string("works") : "fails with " + ErrorName(error)) +
          ", kernel.io_uring_disabled " + sysctl,
      ""};
  if (error == 0) return finding;
  finding.level = Level::kNote;
  const std::string cost =
      "disk reads and writes then need threads and cost more CPU: ";
  if (sysctl == "1" || sysctl == "2") {
    finding.remedy = cost + "set kernel.io_uring_disabled=0";
  } else if (Filtered(system)) {
    finding.remedy =
        cost +
        "allow io_uring_setup, io_uring_enter and io_uring_register in "
        "the container's seccomp profile";
  } else if (error == ENOSYS) {
    finding.remedy = cost + "use a kernel with CONFIG_IO_URING (Linux 5.1+)";
  } else {
    finding.remedy = cost + "look for a security module that forbids it";
  }
  return finding;
}

Finding CheckPidfd(const SystemView& system) {
  return CheckNeeded(system, Feature::kPidfd, "pidfd",
                     "pidfd_open works: the death of clients is proven", "5.3");
}

Finding CheckMemfdSeals(const SystemView& system) {
  return CheckNeeded(
      system, Feature::kMemfdSeals, "memfd_seals",
      "F_SEAL_FUTURE_WRITE works: clients cannot write the index", "5.1");
}

Finding CheckWipeOnFork(const SystemView& system) {
  return CheckNeeded(system, Feature::kWipeOnFork, "wipe_on_fork",
                     "MADV_WIPEONFORK works: use after fork is detected",
                     "4.14");
}

}  // namespace agentmem::memctl
