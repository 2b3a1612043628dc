#include "client/handshake_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "client/messages.h"

namespace agentmem::client {
namespace {

union Answer {
  MessageHeader header;
  Welcome welcome;
  Refusal refusal;
};

Outcome Unreachable(const Endpoint& endpoint, const std::string& what) {
  return Fail(Code::kUnavailable,
              "no memd answers at " + endpoint.socket_path + " (" + what +
                  "); start memd, or name its socket in the options or in "
                  "AGENTMEM_SOCKET");
}

Outcome OpenSocket(const Endpoint& endpoint, UniqueFd* out) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (endpoint.socket_path.size() >= sizeof(address.sun_path)) {
    return Fail(
        Code::kInvalidArgument,
        "socket path of " + std::to_string(endpoint.socket_path.size()) +
            " bytes; at most " + std::to_string(sizeof(address.sun_path) - 1) +
            " are allowed: " + endpoint.socket_path);
  }
  std::memcpy(address.sun_path, endpoint.socket_path.c_str(),
              endpoint.socket_path.size() + 1);
  UniqueFd fd(
      socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Unreachable(endpoint, std::strerror(errno));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0) {
    const int error = errno;
    if (error == EACCES || error == EPERM) {
      return Fail(Code::kPermissionDenied,
                  "socket " + endpoint.socket_path + ": " +
                      std::strerror(error) +
                      "; memd on this socket serves another user");
    }
    return Unreachable(endpoint, std::strerror(error));
  }
  *out = std::move(fd);
  return {};
}

Outcome SendHello(const Endpoint& endpoint, int socket) {
  Hello hello = {};
  hello.header = {kWireMagic, kWireVersion, MessageType::kHello, sizeof(hello),
                  0};
  hello.version_min = kWireVersion;
  if (endpoint.tenant.size() >= sizeof(hello.tenant)) {
    return Fail(Code::kInvalidArgument,
                "tenant name of " + std::to_string(endpoint.tenant.size()) +
                    " bytes; at most " +
                    std::to_string(sizeof(hello.tenant) - 1) + " are allowed");
  }
  std::memcpy(hello.tenant, endpoint.tenant.data(), endpoint.tenant.size());
  // A name for people only: a long one is shortened.
  std::memcpy(hello.client_name, endpoint.name.data(),
              std::min(endpoint.name.size(), sizeof(hello.client_name) - 1));
  if (send(socket, &hello, sizeof(hello), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(sizeof(hello))) {
    return Unreachable(endpoint, std::strerror(errno));
  }
  return {};
}

// Waits for one packet; its descriptors go to `fds`.
Outcome ReceiveAnswer(const Endpoint& endpoint, int socket,
                      const Deadline& deadline, Answer* answer,
                      std::size_t* bytes, UniqueFd* fds,
                      std::size_t* fd_count) {
  for (;;) {
    const DurationNs left = deadline.Remaining(100 * kMillisecondNs);
    pollfd waiting = {socket, POLLIN, 0};
    const int ready =
        poll(&waiting, 1, static_cast<int>((left + 999'999) / 1'000'000));
    if (ready > 0) break;
    if (ready < 0 && errno != EINTR) {
      return Unreachable(endpoint, std::strerror(errno));
    }
    if (deadline.Passed()) {
      return Unreachable(endpoint,
                         "it accepted the connection and then said "
                         "nothing before the deadline");
    }
  }
  iovec io = {answer, sizeof(*answer)};
  alignas(cmsghdr) char control[CMSG_SPACE(16 * sizeof(int))];
  msghdr message = {};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (received <= 0) {
    return Unreachable(endpoint,
                       received == 0 ? "it hung up" : std::strerror(errno));
  }
  *bytes = static_cast<std::size_t>(received);
  *fd_count = 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
      UniqueFd owned(fd);  // closed again when it is one too many
      if (*fd_count < kWelcomeDescriptors) fds[*fd_count] = std::move(owned);
      ++*fd_count;
    }
  }
  return {};
}

Outcome Malformed(const Endpoint& endpoint, const std::string& what) {
  return Fail(Code::kFailedPrecondition,
              "what listens at " + endpoint.socket_path +
                  " does not speak agentmem's protocol: " + what);
}

}  // namespace

Outcome Handshake(const Endpoint& endpoint, const Deadline& deadline,
                  Connection* connection) {
  UniqueFd socket;
  if (Outcome opened = OpenSocket(endpoint, &socket); !opened.ok()) {
    return opened;
  }
  if (Outcome sent = SendHello(endpoint, socket.get()); !sent.ok()) return sent;
  Answer answer = {};
  std::size_t bytes = 0;
  UniqueFd fds[kWelcomeDescriptors];
  std::size_t fd_count = 0;
  if (Outcome received = ReceiveAnswer(endpoint, socket.get(), deadline,
                                       &answer, &bytes, fds, &fd_count);
      !received.ok()) {
    return received;
  }
  if (bytes < sizeof(MessageHeader) || answer.header.magic != kWireMagic) {
    return Malformed(endpoint, "an answer of " + std::to_string(bytes) +
                                   " bytes without its magic number");
  }
  if (answer.header.type == MessageType::kRefusal && bytes >= sizeof(Refusal)) {
    answer.refusal.message[sizeof(answer.refusal.message) - 1] = '\0';
    std::string text = "memd at " + endpoint.socket_path +
                       " refuses: " + answer.refusal.message;
    const auto code = static_cast<Code>(answer.refusal.code);
    const bool known = code > Code::kOk && code <= Code::kDataLoss;
    return Fail(known ? code : Code::kUnknown, std::move(text));
  }
  if (answer.header.version != kWireVersion) {
    return Fail(Code::kFailedPrecondition,
                VersionMismatch("socket protocol", answer.header.version,
                                kWireVersion));
  }
  if (answer.header.type != MessageType::kWelcome || bytes != sizeof(Welcome)) {
    return Malformed(
        endpoint,
        "a message of type " +
            std::to_string(static_cast<std::uint32_t>(answer.header.type)) +
            " and " + std::to_string(bytes) + " bytes");
  }
  if (fd_count != kWelcomeDescriptors) {
    return Malformed(endpoint,
                     std::to_string(fd_count) + " descriptors where " +
                         std::to_string(kWelcomeDescriptors) + " belong");
  }
  connection->welcome = answer.welcome;
  connection->socket = std::move(socket);
  connection->index = std::move(fds[0]);
  connection->data = std::move(fds[1]);
  connection->client_file = std::move(fds[2]);
  connection->doorbell = std::move(fds[3]);
  return {};
}

}  // namespace agentmem::client
