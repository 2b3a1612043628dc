#include "benchmarks/processor_time.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace agentmem::bench {
namespace {

constexpr int kQuietMs = 500;
constexpr DurationNs kQuietNsMax = 20 * kSecondNs;

// Nanoseconds that all of the process's threads have run, in user and system.
absl::StatusOr<double> CpuNs(const std::string& process) {
  std::ifstream file("/proc/" + process + "/stat");
  std::string text;
  std::getline(file, text);
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) {
    return Unavailable("no /proc/" + process + "/stat: memd has ended");
  }
  std::istringstream fields(text.substr(name_end + 2));
  std::string skipped;
  for (int i = 3; i < 14; ++i) fields >> skipped;  // up to utime
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) * 1e9 / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

// Nanoseconds that each has run so far.
absl::StatusOr<std::vector<double>> CpuNs(const PoolCluster& cluster) {
  std::vector<double> all;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    AGENTMEM_ASSIGN_OR_RETURN(const double ns,
                              CpuNs(cluster.node(i)->process()));
    all.push_back(ns);
  }
  return all;
}

}  // namespace

absl::StatusOr<double> BusiestFor(const PoolCluster& cluster, int period_ms) {
  const pid_t watched = cluster.node(0)->pid();
  const UniqueFd ended(static_cast<int>(::syscall(SYS_pidfd_open, watched, 0)));
  pollfd news = {ended.get(), POLLIN, 0};
  const TimeNs start = MonotonicNowNs();
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<double> before, CpuNs(cluster));
  if (::poll(&news, 1, period_ms) != 0) {
    return Unavailable("memd has ended while nobody asked anything of it");
  }
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<double> after, CpuNs(cluster));
  const auto passed = static_cast<double>(MonotonicNowNs() - start);
  double most = 0;
  for (std::size_t i = 0; i < after.size(); ++i) {
    most = std::max(most, (after[i] - before[i]) / passed * 100);
  }
  return most;
}

absl::Status AwaitQuiet(const PoolCluster& cluster) {
  const double tick =
      100e3 / static_cast<double>(::sysconf(_SC_CLK_TCK)) / kQuietMs;
  const TimeNs give_up = MonotonicNowNs() + kQuietNsMax;
  while (MonotonicNowNs() < give_up) {
    AGENTMEM_ASSIGN_OR_RETURN(const double busy, BusiestFor(cluster, kQuietMs));
    if (busy <= tick) break;
  }
  return absl::OkStatus();
}

}  // namespace agentmem::bench
