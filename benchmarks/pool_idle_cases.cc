// Suite `pool`: what daemons that are connected cost when nothing happens.
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "base/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "benchmarks/pool_bench.h"

namespace agentmem::bench {
namespace {

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

}  // namespace

absl::Status PoolBench::AddIdle() {
  AGENTMEM_RETURN_IF_ERROR(SetUp(2));
  // They have worked together; it is over.
  PoolBlocks blocks(setup_.client.get(), 64 << 10, seed_);
  AGENTMEM_RETURN_IF_ERROR(blocks.Fill(64));
  const pid_t watched = setup_.cluster->node(0)->pid();
  const UniqueFd ended(static_cast<int>(::syscall(SYS_pidfd_open, watched, 0)));
  pollfd news = {ended.get(), POLLIN, 0};
  std::vector<double> before;
  const TimeNs start = MonotonicNowNs();
  for (std::size_t i = 0; i < setup_.cluster->size(); ++i) {
    AGENTMEM_ASSIGN_OR_RETURN(const double ns,
                              CpuNs(setup_.cluster->node(i)->process()));
    before.push_back(ns);
  }
  if (::poll(&news, 1, scale_.idle_ms) != 0) {
    return Unavailable("memd has ended while nobody asked anything of it");
  }
  double most = 0;
  for (std::size_t i = 0; i < setup_.cluster->size(); ++i) {
    AGENTMEM_ASSIGN_OR_RETURN(const double ns,
                              CpuNs(setup_.cluster->node(i)->process()));
    const auto passed = static_cast<double>(MonotonicNowNs() - start);
    most = std::max(most, (ns - before[i]) / passed * 100);
  }
  CaseResult row;
  row.name = "idle_cpu";
  row.value = most;
  row.unit = "% of a core";
  result_->cases.push_back(row);
  Bar(row.name, most < 1,
      "under 1% of a core for each of two connected daemons, the busier one "
      "takes " +
          Decimal(most) + "%");
  return absl::OkStatus();
}

}  // namespace agentmem::bench
