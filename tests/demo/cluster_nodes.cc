#include "tests/demo/cluster_nodes.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "tests/demo/memd_process.h"

namespace agentmem::demo {
namespace {

using Json = nlohmann::json;

constexpr DurationNs kAnswerNs = 40 * kSecondNs;

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return ErrnoStatus(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Up to the end of a line, or until it took too long.
std::string ReadLine(int fd) {
  std::string line;
  const TimeNs deadline = MonotonicNowNs() + kAnswerNs;
  while (line.find('\n') == std::string::npos) {
    const DurationNs left = deadline - MonotonicNowNs();
    pollfd event = {fd, POLLIN, 0};
    char buffer[1024];
    if (left <= 0 ||
        poll(&event, 1, static_cast<int>(left / kMillisecondNs) + 1) <= 0) {
      return "no answer in time";
    }
    const ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got <= 0) return line.empty() ? "no answer" : line;
    line.append(buffer, static_cast<std::size_t>(got));
  }
  return line.substr(0, line.find('\n'));
}

}  // namespace

absl::StatusOr<std::vector<ClusterNodes::Node>> ClusterNodes::Parse(
    const std::string& json) {
  const Json parsed = Json::parse(json, nullptr, false);
  const std::string wanted =
      "a cluster's description: it must be an object with a list \"nodes\" of "
      "objects with \"name\", \"socket\" and \"log\"";
  if (!parsed.is_object() || !parsed.contains("nodes") ||
      !parsed["nodes"].is_array()) {
    return InvalidArgument(wanted);
  }
  std::vector<Node> nodes;
  for (const Json& node : parsed["nodes"]) {
    for (const char* field : {"name", "socket", "log"}) {
      if (!node.is_object() || !node.contains(field) ||
          !node[field].is_string()) {
        return InvalidArgument(wanted);
      }
    }
    nodes.push_back({node["name"].get<std::string>(),
                     node["socket"].get<std::string>(),
                     node["log"].get<std::string>()});
  }
  return nodes;
}

absl::StatusOr<std::unique_ptr<ClusterNodes>> ClusterNodes::Open(
    const std::string& directory) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::string text,
                            ReadFile(directory + "/cluster.json"));
  AGENTMEM_ASSIGN_OR_RETURN(std::vector<Node> nodes, Parse(text));
  return std::make_unique<ClusterNodes>(directory + "/control",
                                        std::move(nodes));
}

absl::Status ClusterNodes::Ask(const std::string& verb,
                               std::size_t node) const {
  const std::string line = verb + " " + nodes_[node].name;
  const UniqueFd socket = ConnectTo(control_, SOCK_STREAM);
  if (!socket.valid()) return ErrnoStatus("the cluster's " + control_);
  const std::string sent = line + "\n";
  if (send(socket.get(), sent.data(), sent.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(sent.size())) {
    return ErrnoStatus("the cluster's " + control_);
  }
  const std::string answer = ReadLine(socket.get());
  if (answer == "ok") return absl::OkStatus();
  return Unavailable("the cluster answers \"" + line + "\" with: " + answer);
}

absl::Status ClusterNodes::Check(std::size_t node) const {
  if (ConnectTo(nodes_[node].socket, SOCK_SEQPACKET).valid()) {
    return absl::OkStatus();
  }
  return Unavailable("node " + nodes_[node].name +
                     " has died; its last words:\n" +
                     LogTail(nodes_[node].log));
}

}  // namespace agentmem::demo
