#include "client/handshake_client.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

#include "client/messages.h"
#include "client/packet_socket.h"

namespace agentmem::client {
namespace {

union Answer {
  MessageHeader header;
  Welcome welcome;
  Refusal refusal;
  AgentWelcome agents;
};

struct Received {
  Answer answer;
  std::size_t bytes;
  std::size_t fd_count;
};

Outcome Unreachable(const Endpoint& endpoint, const std::string& what) {
  return Fail(Code::kUnavailable,
              "no memd answers at " + endpoint.socket_path + " (" + what +
                  "); start memd, or name its socket in the options or in "
                  "AGENTMEM_SOCKET");
}

// So long a connect may wait for its turn in memd's backlog.
constexpr DurationNs kConnectNs = 3600 * kSecondNs;

Outcome OpenSocket(const Endpoint& endpoint, const Deadline& deadline,
                   UniqueFd* out) {
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
  // It does not block but in connect, which has no other way to wait.
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Unreachable(endpoint, std::strerror(errno));
  const DurationNs left =
      std::max<DurationNs>(deadline.Remaining(kConnectNs), kMillisecondNs);
  const timeval patience = {left / kSecondNs, left % kSecondNs / 1000};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  int connected;
  do {
    connected = connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                        sizeof(address));
  } while (connected != 0 && errno == EINTR && !deadline.Passed());
  const int error = errno;
  fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  if (connected != 0) {
    if (error == EAGAIN) {
      return Fail(Code::kUnavailable,
                  "memd at " + endpoint.socket_path +
                      " takes no connections: others wait before this one");
    }
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

Outcome SendHello(const Endpoint& endpoint, std::uint32_t flags, int socket) {
  Hello hello = {};
  hello.header = {kWireMagic, kWireVersion, MessageType::kHello, sizeof(hello),
                  0};
  hello.version_min = kWireVersion;
  hello.flags = flags;
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
                      const Deadline& deadline, Received* received,
                      std::span<UniqueFd> fds) {
  const std::span<char> room(reinterpret_cast<char*>(&received->answer),
                             sizeof(received->answer));
  switch (ReceivePacket(socket, room, deadline, &received->bytes, fds,
                        &received->fd_count)) {
    case PacketEnd::kDone:
      return {};
    case PacketEnd::kHungUp:
      return Unreachable(endpoint, "it hung up");
    case PacketEnd::kDeadline:
      return Fail(Code::kUnavailable,
                  "memd at " + endpoint.socket_path +
                      " has not answered before the deadline, though its "
                      "socket takes connections: it is stopped (SIGSTOP, a "
                      "debugger), hangs or is overloaded; look at its process "
                      "and its log");
    case PacketEnd::kFailed:
      break;
  }
  return Unreachable(endpoint, std::strerror(errno));
}

Outcome Malformed(const Endpoint& endpoint, const std::string& what) {
  return Fail(Code::kFailedPrecondition,
              "what listens at " + endpoint.socket_path +
                  " does not speak agentmem's protocol: " + what);
}

Outcome UnexpectedMessage(const Endpoint& endpoint, MessageType wanted,
                          const Received& received) {
  const MessageType type = received.answer.header.type;
  if (wanted == MessageType::kAgentWelcome && type == MessageType::kWelcome) {
    return Fail(Code::kUnimplemented,
                "memd at " + endpoint.socket_path +
                    " has no agents; update it to this library's version");
  }
  return Malformed(
      endpoint, "a message of type " +
                    std::to_string(static_cast<std::uint32_t>(type)) + " and " +
                    std::to_string(received.bytes) + " bytes");
}

// Says Hello and takes the answer: one of `type` and `bytes`, with `fd_count`
// descriptors, or why not.
Outcome Greet(const Endpoint& endpoint, std::uint32_t flags,
              const Deadline& deadline, MessageType type, std::size_t bytes,
              std::span<UniqueFd> fds, UniqueFd* socket, Received* received) {
  if (Outcome opened = OpenSocket(endpoint, deadline, socket); !opened.ok()) {
    return opened;
  }
  if (Outcome sent = SendHello(endpoint, flags, socket->get()); !sent.ok()) {
    return sent;
  }
  if (Outcome got =
          ReceiveAnswer(endpoint, socket->get(), deadline, received, fds);
      !got.ok()) {
    return got;
  }
  Answer& answer = received->answer;
  if (received->bytes < sizeof(MessageHeader) ||
      answer.header.magic != kWireMagic) {
    return Malformed(endpoint, "an answer of " +
                                   std::to_string(received->bytes) +
                                   " bytes without its magic number");
  }
  if (answer.header.type == MessageType::kRefusal &&
      received->bytes >= sizeof(Refusal)) {
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
  if (answer.header.type != type || received->bytes != bytes) {
    return UnexpectedMessage(endpoint, type, *received);
  }
  if (received->fd_count != fds.size()) {
    return Malformed(endpoint, std::to_string(received->fd_count) +
                                   " descriptors where " +
                                   std::to_string(fds.size()) + " belong");
  }
  return {};
}

}  // namespace

Outcome Handshake(const Endpoint& endpoint, const Deadline& deadline,
                  Connection* connection) {
  UniqueFd socket;
  UniqueFd fds[kWelcomeDescriptors];
  Received received = {};
  if (Outcome greeted = Greet(endpoint, 0, deadline, MessageType::kWelcome,
                              sizeof(Welcome), fds, &socket, &received);
      !greeted.ok()) {
    return greeted;
  }
  connection->welcome = received.answer.welcome;
  connection->socket = std::move(socket);
  connection->index = std::move(fds[0]);
  connection->data = std::move(fds[1]);
  connection->client_file = std::move(fds[2]);
  connection->doorbell = std::move(fds[3]);
  return {};
}

Outcome AgentHandshake(const Endpoint& endpoint, const Deadline& deadline,
                       AgentSocket* out) {
  UniqueFd socket;
  UniqueFd board;
  Received received = {};
  if (Outcome greeted =
          Greet(endpoint, kHelloAgents, deadline, MessageType::kAgentWelcome,
                sizeof(AgentWelcome), {&board, 1}, &socket, &received);
      !greeted.ok()) {
    return greeted;
  }
  if (received.answer.agents.agent_version != kAgentVersion) {
    return Fail(
        Code::kFailedPrecondition,
        VersionMismatch("agents' protocol",
                        received.answer.agents.agent_version, kAgentVersion));
  }
  out->welcome = received.answer.agents;
  out->socket = std::move(socket);
  out->board = std::move(board);
  return {};
}

}  // namespace agentmem::client
