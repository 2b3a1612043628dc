#include "tests/demo/agent_pool.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "base/status.h"

namespace agentmem::demo {
namespace {

constexpr DurationNs kQuitNs = 20 * kSecondNs;

}  // namespace

AgentPool::AgentPool(const Places& places, std::size_t size)
    : places_(places), agents_(size) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) == 0) {
    lifeline_ = UniqueFd(ends[0]);
    lifeline_end_ = UniqueFd(ends[1]);
  }
}

absl::Status AgentPool::Start(std::size_t lane) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoStatus("a socket pair for an agent");
  }
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  ChildOptions options;
  options.inherited = {theirs.get(), places_.workload, places_.board,
                       lifeline_.get()};
  std::vector<std::string> command = {places_.program, "--agent",
                                      std::to_string(lane)};
  for (const int fd : options.inherited) command.push_back(std::to_string(fd));
  command.push_back(places_.memd_socket_path);
  AgentHandle& agent = agents_[lane];
  AGENTMEM_ASSIGN_OR_RETURN(agent.process,
                            ChildProcess::Start(command, options));
  agent.socket = std::move(ours);
  agent.state = AgentHandle::State::kStarting;
  agent.posing = false;
  return absl::OkStatus();
}

void AgentPool::Kill(std::size_t lane) {
  agents_[lane].process = ChildProcess();
  agents_[lane].state = AgentHandle::State::kGone;
}

std::optional<int> AgentPool::Quit(std::size_t lane) {
  AgentHandle& agent = agents_[lane];
  Message message;
  message.type = MessageType::kQuit;
  Send(lane, message);
  const std::optional<int> exit = agent.process.Wait(kQuitNs);
  Kill(lane);
  return exit;
}

}  // namespace agentmem::demo
