#include "tests/demo/memd_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include "base/status.h"

namespace agentmem::demo {
namespace {

constexpr DurationNs kStartNs = 30 * kSecondNs;
constexpr DurationNs kStopNs = 30 * kSecondNs;
constexpr int kAskAgainMs = 10;
constexpr std::size_t kTailBytes = 2000;

}  // namespace

UniqueFd ConnectTo(const std::string& socket_path, int type) {
  UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(),
               sizeof(address.sun_path) - 1);
  const bool connected =
      connect(socket.get(), reinterpret_cast<sockaddr*>(&address),
              sizeof(address)) == 0;
  return connected ? std::move(socket) : UniqueFd();
}

std::string LogTail(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  const std::string log = text.str();
  return log.substr(log.size() > kTailBytes ? log.size() - kTailBytes : 0);
}

absl::StatusOr<std::unique_ptr<MemdProcess>> MemdProcess::Create(
    const DemoOptions& options) {
  // A socket's path must be short (108 bytes).
  char directory[] = "/tmp/agentmem-demo-XXXXXX";
  if (mkdtemp(directory) == nullptr) return ErrnoStatus(directory);
  std::unique_ptr<MemdProcess> memd(new MemdProcess(options, directory));
  AGENTMEM_RETURN_IF_ERROR(memd->Configure(options));
  return memd;
}

MemdProcess::~MemdProcess() {
  Kill();
  std::error_code ignored;
  if (!keep_) std::filesystem::remove_all(directory_, ignored);
}

absl::Status MemdProcess::Configure(const DemoOptions& options) const {
  std::ofstream file(directory_ + "/memd.toml");
  file << "state_directory = \"" << directory_ << "/state\"\n"
       << "socket = \"" << socket_path() << "\"\n"
       << "admin_socket = \"" << directory_ << "/admin.sock\"\n"
       << "[[tenant]]\n"
       << "name = \"default\"\n"
       << "dram = " << options.dram_bytes << "\n";
  file.close();
  if (!file) return Unavailable("cannot write " + directory_ + "/memd.toml");
  return absl::OkStatus();
}

absl::Status MemdProcess::Start() {
  const UniqueFd log(open(log_path().c_str(),
                          O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  ChildOptions options;
  options.standard_output = log.get();
  options.standard_error = log.get();
  AGENTMEM_ASSIGN_OR_RETURN(
      child_, ChildProcess::Start(
                  {program_, "--config", directory_ + "/memd.toml"}, options));
  const TimeNs deadline = MonotonicNowNs() + kStartNs;
  while (!ConnectTo(socket_path(), SOCK_SEQPACKET).valid()) {
    if (MonotonicNowNs() >= deadline) {
      Kill();
      return Unavailable("memd takes no connections after 30 s\n" + LogTail());
    }
    if (const auto exit = child_.Wait(kAskAgainMs * kMillisecondNs)) {
      return Unavailable(program_ + " ended at its start: " +
                         DescribeExit(*exit) + "\n" + LogTail());
    }
  }
  return absl::OkStatus();
}

absl::Status MemdProcess::Stop() {
  child_.Signal(SIGTERM);
  const std::optional<int> exit = child_.Wait(kStopNs);
  if (!exit.has_value()) {
    Kill();
    return Unavailable("memd has not ended 30 s after SIGTERM\n" + LogTail());
  }
  if (!WIFEXITED(*exit) || WEXITSTATUS(*exit) != 0) {
    return Unavailable("memd ended badly: " + DescribeExit(*exit) + "\n" +
                       LogTail());
  }
  return absl::OkStatus();
}

void MemdProcess::Kill() { child_ = ChildProcess(); }

}  // namespace agentmem::demo
