#include "benchmarks/memd_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "base/status.h"
#include "base/unique_fd.h"

namespace agentmem::bench {
namespace {

constexpr int kStartMs = 60'000;
constexpr std::size_t kLastWordsBytes = 2000;

}  // namespace

absl::StatusOr<std::unique_ptr<MemdChild>> MemdChild::Start(
    const MemdOptions& options) {
  AGENTMEM_ASSIGN_OR_RETURN(std::unique_ptr<TemporaryDirectory> directory,
                            TemporaryDirectory::Make());
  std::unique_ptr<MemdChild> child(
      new MemdChild(options.program, std::move(directory)));
  AGENTMEM_RETURN_IF_ERROR(child->Configure(options));
  AGENTMEM_RETURN_IF_ERROR(child->Launch());
  return child;
}

MemdChild::~MemdChild() {
  (void)Stop();  // nothing of it is needed any more
}

absl::Status MemdChild::Configure(const MemdOptions& options) const {
  const std::string path = directory() + "/memd.toml";
  std::ofstream file(path);
  file << "state_directory = \"" << state_directory() << "\"\n"
       << "socket = \"" << socket_path() << "\"\n"
       << "admin_socket = \"" << directory() << "/admin.sock\"\n";
  if (options.collect_ms != 0) {
    file << "collect_ms = " << options.collect_ms << "\n";
  }
  file << "[[tenant]]\n"
       << "dram = " << options.dram_bytes << "\n";
  if (options.slots != 0) file << "slots = " << options.slots << "\n";
  if (options.grant_quota_bytes != 0) {
    file << "grant_quota = " << options.grant_quota_bytes << "\n";
  }
  file << options.tables;
  file.close();
  if (!file) return Unavailable("cannot write " + path);
  return absl::OkStatus();
}

// memd says READY=1 on a datagram socket, as to systemd.
absl::Status MemdChild::Launch() {
  const std::string path = directory() + "/notify";
  const UniqueFd notify(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  ::unlink(path.c_str());
  if (::bind(notify.get(), reinterpret_cast<sockaddr*>(&address),
             sizeof(address)) != 0) {
    return ErrnoStatus("binding " + path);
  }
  pid_ = ::fork();
  if (pid_ < 0) return ErrnoStatus("fork");
  if (pid_ == 0) Exec(path);
  const UniqueFd ended(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  pollfd news[] = {{notify.get(), POLLIN, 0}, {ended.get(), POLLIN, 0}};
  ::poll(news, 2, kStartMs);
  if (news[0].revents != 0) return absl::OkStatus();
  return Unavailable(program_ + " ended, or is not ready after 60 s\n" +
                     LastWords());
}

void MemdChild::Exec(const std::string& notify_path) const {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int log = ::open((directory() + "/memd.log").c_str(),
                         O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::setenv("NOTIFY_SOCKET", notify_path.c_str(), 1);
  ::unsetenv("JOURNAL_STREAM");
  const std::string config = directory() + "/memd.toml";
  ::execl(program_.c_str(), "memd", "--config", config.c_str(), nullptr);
  ::_exit(127);
}

absl::Status MemdChild::Stop() {
  if (pid_ <= 0) return absl::OkStatus();
  ::kill(pid_, SIGTERM);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return Unavailable("memd did not end well after SIGTERM\n" + LastWords());
}

void MemdChild::Kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
}

absl::Status MemdChild::Restart() {
  AGENTMEM_RETURN_IF_ERROR(Stop());
  return Launch();
}

std::string MemdChild::LastWords() const {
  std::ifstream file(directory() + "/memd.log");
  std::ostringstream text;
  text << file.rdbuf();
  const std::string log = text.str();
  return log.substr(log.size() > kLastWordsBytes ? log.size() - kLastWordsBytes
                                                 : 0);
}

}  // namespace agentmem::bench
