#include "tests/unit/cluster/etcd_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace agentmem {
namespace {

// Free now; if somebody else takes it before etcd does, the constructor tries
// another.
int FreePort() {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  AGENTMEM_CHECK(
      bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
  AGENTMEM_CHECK(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address),
                             &length) == 0);
  return ntohs(address.sin_port);
}

std::string Url(int port) { return "http://127.0.0.1:" + std::to_string(port); }

}  // namespace

std::string EtcdProcess::Binary() {
  for (const char* path : {"/usr/bin/etcd", "/usr/local/bin/etcd"}) {
    if (access(path, X_OK) == 0) return path;
  }
  return "";
}

EtcdProcess::EtcdProcess(std::string tls_directory)
    : tls_directory_(std::move(tls_directory)) {
  directory_ = testing::TempDir() + "agentmem_etcd_XXXXXX";
  AGENTMEM_CHECK(mkdtemp(directory_.data()) != nullptr);
  for (int tries = 0; tries < 5; ++tries) {
    client_port_ = FreePort();
    peer_port_ = FreePort();
    Launch();
    if (Answers()) return;
    Kill();
    RemoveData();
  }
  ADD_FAILURE() << "etcd does not start; see " << directory_ << "/log";
}

EtcdProcess::~EtcdProcess() {
  Kill();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

std::string EtcdProcess::ClientUrl() const {
  return (tls_directory_.empty() ? "http" : "https") +
         ("://127.0.0.1:" + std::to_string(client_port_));
}

EtcdOptions EtcdProcess::options() const {
  if (tls_directory_.empty()) return {.endpoints = {ClientUrl()}};
  return {.endpoints = {ClientUrl()},
          .ca_file = tls_directory_ + "/ca.pem",
          .certificate_file = tls_directory_ + "/node.pem",
          .key_file = tls_directory_ + "/node.key"};
}

void EtcdProcess::Launch() {
  // Half of etcd's default times: leases from 1 s on, elections within 1 s.
  std::vector<std::string> command = {
      Binary(),
      "--name=test",
      "--data-dir=" + directory_ + "/data",
      "--listen-client-urls=" + ClientUrl(),
      "--advertise-client-urls=" + ClientUrl(),
      "--listen-peer-urls=" + Url(peer_port_),
      "--initial-advertise-peer-urls=" + Url(peer_port_),
      "--initial-cluster=test=" + Url(peer_port_),
      "--heartbeat-interval=50",
      "--election-timeout=500",
      "--logger=zap",
      "--log-level=error"};
  if (!tls_directory_.empty()) {
    command.push_back("--cert-file=" + tls_directory_ + "/node.pem");
    command.push_back("--key-file=" + tls_directory_ + "/node.key");
    command.push_back("--trusted-ca-file=" + tls_directory_ + "/ca.pem");
    command.push_back("--client-cert-auth");
  }
  std::vector<char*> arguments;
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  const std::string log = directory_ + "/log";
  const pid_t parent = getpid();
  pid_ = fork();
  AGENTMEM_CHECK(pid_ >= 0);
  if (pid_ > 0) return;
  // Between fork and exec: system calls only.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  dup2(fd, 1);
  dup2(fd, 2);
  execv(arguments[0], arguments.data());
  _exit(127);
}

bool EtcdProcess::Answers() const {
  const auto client = EtcdClient::Make(options());
  AGENTMEM_CHECK(client.ok());
  const TimeNs deadline = Patience();
  while (MonotonicNowNs() < deadline) {
    const TimeNs until = MonotonicNowNs() + kSecondNs;
    if ((*client)->Range({"ready"}, until).ok()) return true;
    siginfo_t ended = {};
    waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT);
    if (ended.si_pid == pid_) return false;
  }
  return false;
}

void EtcdProcess::Start() {
  Launch();
  ASSERT_TRUE(Answers()) << "see " << directory_ << "/log";
}

void EtcdProcess::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void EtcdProcess::Stop() const {
  kill(pid_, SIGSTOP);
  // Until it really stands.
  AGENTMEM_CHECK(waitpid(pid_, nullptr, WUNTRACED) == pid_);
}

void EtcdProcess::Continue() const { kill(pid_, SIGCONT); }

void EtcdProcess::RemoveData() const {
  std::filesystem::remove_all(directory_ + "/data");
}

void EtcdTest::SetUp() {
  if (EtcdProcess::Binary().empty()) {
    GTEST_SKIP() << "etcd is not installed (Debian: etcd-server); ./dev deps "
                    "installs it";
  }
  etcd_ = std::make_unique<EtcdProcess>();
  auto client = EtcdClient::Make(etcd_->options());
  ASSERT_TRUE(client.ok()) << client.status().ToString();
  client_ = std::move(*client);
}

}  // namespace agentmem
