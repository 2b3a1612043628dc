#include "benchmarks/etcd_child.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "benchmarks/free_ports.h"

namespace agentmem::bench {
namespace {

constexpr DurationNs kPatienceNs = 30 * kSecondNs;
constexpr int kLookAgainMs = 10;

std::string Url(std::uint16_t port) {
  return "http://127.0.0.1:" + std::to_string(port);
}

bool Connects(std::uint16_t port) {
  const UniqueFd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address),
                   sizeof(address)) == 0;
}

}  // namespace

std::string EtcdChild::Program() {
  for (const char* path : {"/usr/bin/etcd", "/usr/local/bin/etcd"}) {
    if (::access(path, X_OK) == 0) return path;
  }
  return "";
}

absl::StatusOr<std::unique_ptr<EtcdChild>> EtcdChild::Start() {
  AGENTMEM_ASSIGN_OR_RETURN(auto directory, TemporaryDirectory::Make());
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<std::uint16_t> ports,
                            FreePorts(2));
  std::unique_ptr<EtcdChild> etcd(
      new EtcdChild(std::move(directory), Url(ports[0])));
  AGENTMEM_RETURN_IF_ERROR(etcd->Launch(Url(ports[1])));
  AGENTMEM_RETURN_IF_ERROR(etcd->AwaitReady(ports[0]));
  return etcd;
}

EtcdChild::~EtcdChild() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

absl::Status EtcdChild::Launch(const std::string& peers_url) {
  // Half of etcd's default times: leases from 1 s on.
  std::vector<std::string> command = {
      Program(),
      "--name=bench",
      "--data-dir=" + directory_->path() + "/data",
      "--listen-client-urls=" + url_,
      "--advertise-client-urls=" + url_,
      "--listen-peer-urls=" + peers_url,
      "--initial-advertise-peer-urls=" + peers_url,
      "--initial-cluster=bench=" + peers_url,
      "--heartbeat-interval=50",
      "--election-timeout=500",
      "--logger=zap",
      "--log-level=error"};
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  const std::string log = directory_->path() + "/log";
  pid_ = ::fork();
  if (pid_ < 0) return ErrnoStatus("fork");
  if (pid_ > 0) return absl::OkStatus();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(fd, STDOUT_FILENO);
  ::dup2(fd, STDERR_FILENO);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

absl::Status EtcdChild::AwaitReady(std::uint16_t port) const {
  const UniqueFd ended(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  const TimeNs give_up = MonotonicNowNs() + kPatienceNs;
  pollfd news = {ended.get(), POLLIN, 0};
  while (::poll(&news, 1, kLookAgainMs) == 0 && MonotonicNowNs() < give_up) {
    if (Connects(port)) return absl::OkStatus();
  }
  std::ifstream file(directory_->path() + "/log");
  std::ostringstream text;
  text << file.rdbuf();
  return Unavailable("etcd ended, or takes no connections after 30 s\n" +
                     text.str());
}

}  // namespace agentmem::bench
