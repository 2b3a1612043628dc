#include "benchmarks/self_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/status.h"

namespace agentmem::bench {

absl::StatusOr<SelfProcess> StartSelf(const std::string& option,
                                      const std::string& value) {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoStatus("socketpair");
  }
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return ErrnoStatus("fork");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (theirs.get() == kSelfSocket) {
      ::fcntl(kSelfSocket, F_SETFD, 0);
    } else {
      ::dup2(theirs.get(), kSelfSocket);
    }
    ::execl("/proc/self/exe", "agentmem_bench", option.c_str(), value.c_str(),
            nullptr);
    ::_exit(127);
  }
  return SelfProcess{pid, std::move(ours)};
}

}  // namespace agentmem::bench
