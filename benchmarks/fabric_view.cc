#include "benchmarks/fabric_view.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"

namespace agentmem::bench {
namespace {

// What a program writes to its standard output until it ends.
absl::StatusOr<std::string> OutputOf(std::vector<std::string> command) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus("pipe2");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, to.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null",
                                     O_WRONLY, 0);
  pid_t pid = -1;
  const int failed = ::posix_spawn(&pid, arguments[0], &actions, nullptr,
                                   arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return Unavailable("cannot start " + command[0]);
  to.Reset();
  std::string output;
  char bytes[4096];
  ssize_t count = 0;
  while ((count = ::read(from.get(), bytes, sizeof(bytes))) > 0) {
    output.append(bytes, static_cast<std::size_t>(count));
  }
  ::waitpid(pid, nullptr, 0);
  return output;
}

}  // namespace

absl::StatusOr<FabricView> ViewFabric(const MemdChild& memd) {
  const std::string memctl =
      std::filesystem::path(memd.program()).parent_path() / "memctl";
  AGENTMEM_ASSIGN_OR_RETURN(const std::string text,
                            OutputOf({memctl, "--socket", memd.socket_path(),
                                      "-o", "json", "fabric"}));
  // What it exits with tells of health, too: of peers that are away.
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_discarded() || !json.contains("pool")) {
    return Unavailable(memctl + " says nothing of the pool of " +
                       memd.socket_path());
  }
  const auto& pool = json["pool"];
  FabricView view;
  view.lent_blocks = pool["export_blocks"].get<std::uint64_t>();
  view.moved = pool["moved"].get<std::uint64_t>();
  view.repaired = pool["repaired"].get<std::uint64_t>();
  for (const auto& peer : pool["peers"]) {
    if (peer["state"] == "up") {
      view.peers_up.insert(peer["node"].get<std::string>());
    }
  }
  for (const auto& member : json["cluster"]["members"]) {
    view.members.insert(member["node"].get<std::string>());
  }
  return view;
}

}  // namespace agentmem::bench
