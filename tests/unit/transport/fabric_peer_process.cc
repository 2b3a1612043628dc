#include "tests/unit/transport/fabric_peer_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "base/check.h"
#include "tests/unit/transport/fabric_fixture.h"

namespace agentmem {
namespace {

constexpr int kSocketFd = 3;  // of the child

struct PeerRequest {
  char provider[64] = {};
  char bind_address[64] = {};
};
struct PeerAnswer {
  std::uint64_t address_bytes = 0;
  char address[256] = {};
  RemoteMemory memory;
};

template <typename T>
bool ReadWhole(int fd, T* value) {
  char* to = reinterpret_cast<char*>(value);
  std::size_t left = sizeof(T);
  while (left > 0) {
    const ssize_t got = ::read(fd, to, left);
    if (got <= 0) return false;
    to += got;
    left -= static_cast<std::size_t>(got);
  }
  return true;
}

// The peer's program.
TEST(FabricPeer, DISABLED_Serves) {
  PeerRequest request;
  if (::fcntl(kSocketFd, F_GETFD) < 0 || !ReadWhole(kSocketFd, &request)) {
    GTEST_SKIP() << "a helper of other tests, which start it themselves";
  }
  SetFabricEnvironment();
  FabricOptions options;
  options.provider = request.provider;
  options.bind_address = request.bind_address;
  auto transport = FabricTransport::Open(options);
  ASSERT_TRUE(transport.ok()) << transport.status().ToString();
  std::vector<char> bytes(FabricPeerProcess::kMemoryBytes);
  for (std::uint64_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = FabricPeerProcess::ByteAt(i);
  }
  const auto memory = (*transport)->Register(bytes, RemoteAccess::kReadWrite);
  ASSERT_TRUE(memory.ok()) << memory.status().ToString();
  PeerAnswer answer;
  const std::string& address = (*transport)->address();
  answer.address_bytes = address.size();
  std::memcpy(answer.address, address.data(), address.size());
  answer.memory = memory->remote;
  ASSERT_EQ(::write(kSocketFd, &answer, sizeof(answer)),
            static_cast<ssize_t>(sizeof(answer)));
  while (true) {
    TransportEvent events[16];
    (*transport)->Poll(MonotonicNowNs(), events);
    if (!(*transport)->ReadyToWait()) continue;
    pollfd waited[] = {{(*transport)->wait_fd(), POLLIN, 0},
                       {kSocketFd, POLLIN, 0}};
    ::poll(waited, 2, -1);
    if (waited[1].revents != 0) return;
  }
}

}  // namespace

FabricPeerProcess::FabricPeerProcess(const FabricOptions& options) {
  int ends[2];
  AGENTMEM_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) ==
                 0);
  socket_ = UniqueFd(ends[0]);
  UniqueFd theirs(ends[1]);
  // dup2 onto itself would leave the descriptor to be closed.
  if (theirs.get() == kSocketFd) theirs = UniqueFd(::dup(kSocketFd));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), kSocketFd);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  std::string arguments[] = {"peer",
                             "--gtest_filter=FabricPeer.DISABLED_Serves",
                             "--gtest_also_run_disabled_tests"};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(),
                  nullptr};
  AGENTMEM_CHECK(::posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, argv,
                               environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  theirs = UniqueFd();

  PeerRequest request;
  options.provider.copy(request.provider, sizeof(request.provider) - 1);
  options.bind_address.copy(request.bind_address,
                            sizeof(request.bind_address) - 1);
  AGENTMEM_CHECK(::write(socket_.get(), &request, sizeof(request)) ==
                 static_cast<ssize_t>(sizeof(request)));
  PeerAnswer answer;
  AGENTMEM_CHECK(ReadWhole(socket_.get(), &answer));
  address_.assign(answer.address, answer.address_bytes);
  memory_ = answer.memory;
}

FabricPeerProcess::~FabricPeerProcess() {
  if (pid_ > 0) Kill();
}

void FabricPeerProcess::Stop() {
  ::kill(pid_, SIGSTOP);
  int status = 0;
  AGENTMEM_CHECK(::waitpid(pid_, &status, WUNTRACED) == pid_);
  AGENTMEM_CHECK(WIFSTOPPED(status));
}

void FabricPeerProcess::Continue() { ::kill(pid_, SIGCONT); }

void FabricPeerProcess::Kill() {
  ::kill(pid_, SIGKILL);
  int status = 0;
  AGENTMEM_CHECK(::waitpid(pid_, &status, 0) == pid_);
  pid_ = -1;
}

}  // namespace agentmem
