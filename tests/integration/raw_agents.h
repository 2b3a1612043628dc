// The agents' protocol by hand: a process that may keep to none of it.
#ifndef AGENTMEM_TESTS_INTEGRATION_RAW_AGENTS_H_
#define AGENTMEM_TESTS_INTEGRATION_RAW_AGENTS_H_

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "proto/agent_messages.h"
#include "proto/handshake.h"

namespace agentmem {

inline Hello GoodHello() {
  Hello hello = {};
  hello.header.magic = kWireMagic;
  hello.header.version = kWireVersion;
  hello.header.type = MessageType::kHello;
  hello.header.bytes = sizeof(hello);
  hello.version_min = kWireVersion;
  return hello;
}

// Connected to memd's socket, and nothing said.
inline UniqueFd Dial(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address),
                      sizeof(address)),
            0);
  return fd;
}

inline AgentRequest GoodRequest(AgentOp op) {
  AgentRequest request = {};
  request.magic = kAgentWireMagic;
  request.version = kAgentVersion;
  request.op = op;
  request.bytes = sizeof(request);
  request.id = 1;
  request.deadline_ns = MonotonicNowNs() + 60 * kSecondNs;
  return request;
}

// `bytes` in parts, with descriptors along.
inline bool SendRaw(int socket, const void* bytes, std::size_t count,
                    const std::string& tail, const std::vector<int>& fds) {
  iovec parts[2] = {{const_cast<void*>(bytes), count},
                    {const_cast<char*>(tail.data()), tail.size()}};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))] = {};
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size() * sizeof(int));
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) >= 0;
}

struct RawAnswer {
  ssize_t got = -1;  // of recvmsg
  AgentReply reply = {};
  std::string tail;
  std::vector<UniqueFd> fds;
  Code code() const { return static_cast<Code>(reply.code); }
};

inline RawAnswer ReceiveRaw(int socket) {
  RawAnswer answer;
  std::vector<char> packet(kAgentPacketMax);
  iovec part = {packet.data(), packet.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  answer.got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (answer.got < 0) return answer;
  for (cmsghdr* rights = CMSG_FIRSTHDR(&message); rights != nullptr;
       rights = CMSG_NXTHDR(&message, rights)) {
    int fd;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof(fd));
    answer.fds.emplace_back(fd);
  }
  const auto got = static_cast<std::size_t>(answer.got);
  if (got < sizeof(answer.reply)) return answer;
  std::memcpy(&answer.reply, packet.data(), sizeof(answer.reply));
  answer.tail.assign(packet.data() + sizeof(answer.reply),
                     got - sizeof(answer.reply));
  return answer;
}

inline RawAnswer CallRaw(int socket, AgentRequest request,
                         const std::vector<int>& fds = {},
                         const std::string& tail = "") {
  request.bytes = static_cast<std::uint32_t>(sizeof(request) + tail.size());
  EXPECT_TRUE(SendRaw(socket, &request, sizeof(request), tail, fds));
  return ReceiveRaw(socket);
}

// What memd says to a process that wants agents: AgentWelcome, or Refusal.
inline MessageHeader GreetRaw(int socket, Refusal* refusal) {
  Hello hello = GoodHello();
  hello.flags = kHelloAgents;
  EXPECT_TRUE(SendRaw(socket, &hello, sizeof(hello), "", {}));
  std::vector<char> packet(kAgentPacketMax);
  const ssize_t got = ::recv(socket, packet.data(), packet.size(), 0);
  MessageHeader header = {};
  if (got < static_cast<ssize_t>(sizeof(header))) return header;
  std::memcpy(&header, packet.data(), sizeof(header));
  if (header.type == MessageType::kRefusal) {
    std::memcpy(refusal, packet.data(), sizeof(*refusal));
  }
  return header;
}

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_INTEGRATION_RAW_AGENTS_H_
