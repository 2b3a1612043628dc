#include "memd/transport/fabric_wire.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace agentmem {
namespace {

// More than any socket holds.
constexpr std::size_t kDropBytes = std::size_t{1} << 30;

// What the epoll descriptor `fd` watches; of any other descriptor nothing.
//   tfd:       37 events:       1d data:     55784d9519d0  pos:0 ino:da75f
//   sdev:9
std::vector<int> WatchedBy(int fd) {
  std::vector<int> watched;
  std::ifstream file("/proc/self/fdinfo/" + std::to_string(fd));
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string word;
    int target = -1;
    if (!(words >> word >> target) || word != "tfd:") continue;
    ino_t inode = 0;
    while (words >> word) {
      if (!word.starts_with("ino:")) continue;
      std::istringstream(word.substr(4)) >> std::hex >> inode;
    }
    // A number may have been given to another file since.
    struct stat status = {};
    if (::fstat(target, &status) != 0 || status.st_ino != inode) continue;
    watched.push_back(target);
  }
  return watched;
}

bool IsConnectedTcp(int fd) {
  int type = 0;
  socklen_t bytes = sizeof(type);
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) != 0) return false;
  sockaddr_storage peer = {};
  bytes = sizeof(peer);
  return type == SOCK_STREAM &&
         ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &bytes) == 0 &&
         (peer.ss_family == AF_INET || peer.ss_family == AF_INET6);
}

// What is watched, through others too, and connected.
std::vector<int> ConnectionsBelow(int wait_fd) {
  std::vector<int> connections;
  std::set<int> seen = {wait_fd};
  std::vector<int> left = {wait_fd};
  while (!left.empty()) {
    const int fd = left.back();
    left.pop_back();
    if (IsConnectedTcp(fd)) connections.push_back(fd);
    for (const int watched : WatchedBy(fd)) {
      if (seen.insert(watched).second) left.push_back(watched);
    }
  }
  return connections;
}

}  // namespace

std::size_t CutConnections(int wait_fd) {
  std::size_t cut = 0;
  for (const int fd : ConnectionsBelow(wait_fd)) {
    if (::shutdown(fd, SHUT_RDWR) != 0) continue;
    ++cut;
    // Nothing follows any more (the kernel answers it with a reset), so the
    // owner cannot take the middle of something for its beginning.
    while (::recv(fd, nullptr, kDropBytes, MSG_TRUNC | MSG_DONTWAIT) > 0) {
    }
  }
  return cut;
}

std::size_t CountConnections(int wait_fd) {
  return ConnectionsBelow(wait_fd).size();
}

}  // namespace agentmem
