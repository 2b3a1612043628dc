#include "client/packet_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace agentmem::client {
namespace {

// The longest sleep without a look at the clock.
constexpr DurationNs kSleepMax = 100 * kMillisecondNs;
constexpr std::size_t kDescriptorsMax = 16;

PacketEnd Await(int socket, short events, const Deadline& deadline) {
  for (;;) {
    const DurationNs left = deadline.Remaining(kSleepMax);
    pollfd waiting = {socket, events, 0};
    const int ready =
        poll(&waiting, 1, static_cast<int>((left + 999'999) / 1'000'000));
    if (ready > 0) return PacketEnd::kDone;
    if (ready < 0 && errno != EINTR) return PacketEnd::kFailed;
    if (deadline.Passed()) return PacketEnd::kDeadline;
  }
}

bool IsHangUp(int error) { return error == EPIPE || error == ECONNRESET; }

void TakeDescriptors(msghdr* message, std::span<UniqueFd> fds,
                     std::size_t* fd_count) {
  *fd_count = 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(message); part != nullptr;
       part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
      UniqueFd owned(fd);  // closed again when it is one too many
      if (*fd_count < fds.size()) fds[*fd_count] = std::move(owned);
      ++*fd_count;
    }
  }
}

}  // namespace

PacketEnd SendPacket(int socket, std::string_view head, std::string_view tail,
                     int fd, const Deadline& deadline) {
  iovec io[2] = {{const_cast<char*>(head.data()), head.size()},
                 {const_cast<char*>(tail.data()), tail.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = io;
  message.msg_iovlen = tail.empty() ? 1 : 2;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(part), &fd, sizeof(fd));
  }
  for (;;) {
    if (sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
      return PacketEnd::kDone;
    }
    if (errno == EINTR) continue;
    if (IsHangUp(errno)) return PacketEnd::kHungUp;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return PacketEnd::kFailed;
    if (PacketEnd end = Await(socket, POLLOUT, deadline);
        end != PacketEnd::kDone) {
      return end;
    }
  }
}

PacketEnd ReceivePacket(int socket, std::span<char> room,
                        const Deadline& deadline, std::size_t* bytes,
                        std::span<UniqueFd> fds, std::size_t* fd_count) {
  for (;;) {
    if (PacketEnd end = Await(socket, POLLIN, deadline);
        end != PacketEnd::kDone) {
      return end;
    }
    iovec io = {room.data(), room.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(kDescriptorsMax * sizeof(int))];
    msghdr message = {};
    message.msg_iov = &io;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t got =
        recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | MSG_TRUNC);
    if (got == 0) return PacketEnd::kHungUp;
    if (got > 0) {
      TakeDescriptors(&message, fds, fd_count);
      *bytes = static_cast<std::size_t>(got);
      return PacketEnd::kDone;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) continue;
    return IsHangUp(errno) ? PacketEnd::kHungUp : PacketEnd::kFailed;
  }
}

bool SocketHungUp(int socket) {
  char byte;
  const ssize_t got =
      recv(socket, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT);
  if (got > 0) return false;
  if (got == 0) return true;
  return errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
}

}  // namespace agentmem::client
