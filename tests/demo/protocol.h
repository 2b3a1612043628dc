// What the demo and its agent processes say to each other.
//
// Messages of one size over a SOCK_SEQPACKET pair: each arrives whole or not at
// all, also when its sender is killed. What counts and measures goes through
// shared memory (scoreboard.h), so that it outlives its writer.
//
// Ownership: none. Threads: any. Errors: Send and Receive answer false when the
// other end is gone (Receive with MSG_DONTWAIT also when nothing is there).
// Cost: a system call each.
#ifndef AGENTMEM_TESTS_DEMO_PROTOCOL_H_
#define AGENTMEM_TESTS_DEMO_PROTOCOL_H_

#include <sys/socket.h>

#include <cstdint>
#include <type_traits>

namespace agentmem::demo {

enum class MessageType : std::uint32_t {
  kNone = 0,
  // To an agent.
  kWork,    // `number`: the request; `flags`: what to do at its end
  kProbe,   // get again what the last request used, without waiting
  kVerify,  // a durable block or object must be there with its bytes
  kQuit,
  // From an agent.
  kReady,     // connected to memd
  kDone,      // request `number`
  kPosed,     // request `number` is done, and everything is in hand: kill me
  kDurable,   // acknowledged: block `low`, `high`, or object `number`
  kProbed,    // `number` blocks were right, `length` were not there
  kVerified,  // `number`: 1 when it was there and right; else see text
  kTrouble,   // `text`: something that should not be
};

// Of kWork.
inline constexpr std::uint32_t kPoseAtEnd = 1;
inline constexpr std::uint32_t kForkBeforePose = 2;
// Of kDurable and kVerify.
inline constexpr std::uint32_t kIsObject = 4;

struct Message {
  MessageType type = MessageType::kNone;
  std::uint32_t flags = 0;
  std::uint64_t number = 0;
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  std::uint64_t length = 0;
  char text[216] = {};
};
static_assert(sizeof(Message) == 256 && std::is_trivially_copyable_v<Message>);

inline bool SendMessage(int socket, const Message& message) {
  return send(socket, &message, sizeof(message), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(sizeof(message));
}

inline bool ReceiveMessage(int socket, Message* message, int flags = 0) {
  return recv(socket, message, sizeof(*message), flags) ==
         static_cast<ssize_t>(sizeof(*message));
}

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_PROTOCOL_H_
