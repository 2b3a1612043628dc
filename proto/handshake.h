// The UNIX socket's messages (SOCK_SEQPACKET, one message a packet). Version 1.
//
//   client                         memd
//     Hello            ->
//                      <-          Welcome + 4 descriptors, or Refusal
//
// The descriptors of Welcome, in order: index (sealed against writing), data,
// client file, doorbell (eventfd). Each side refuses a version that it does not
// speak and names both. The connection then stays open: its end tells the
// client that memd is gone. It tells memd nothing: a client is dead when its
// pidfd says so. All integers are little-endian, strings NUL-padded.
#ifndef AGENTMEM_PROTO_HANDSHAKE_H_
#define AGENTMEM_PROTO_HANDSHAKE_H_

#include <cstddef>
#include <cstdint>

#include "proto/types.h"

namespace agentmem {

inline constexpr std::uint64_t kWireMagic = 0x31455249'574d4741ULL;  // AGMWIRE1
inline constexpr std::uint32_t kWireVersion = 1;
inline constexpr std::size_t kTenantNameBytes = 64;  // with its NUL
inline constexpr std::size_t kClientNameBytes = 64;  // with its NUL
inline constexpr std::size_t kWelcomeDescriptors = 4;

enum class MessageType : std::uint32_t {
  kHello = 1,
  kWelcome = 2,
  kRefusal = 3,
  kAgentWelcome = 4,  // proto/agent_messages.h
};

struct MessageHeader {
  std::uint64_t magic;
  std::uint32_t version;
  MessageType type;
  std::uint32_t bytes;  // of the whole message
  std::uint32_t reserved;
};
static_assert(sizeof(MessageHeader) == 24);

// Hello.flags
inline constexpr std::uint32_t kHelloConfined = 1;  // asks for read-only data
// The connection is for agents: proto/agent_messages.h, not Welcome.
inline constexpr std::uint32_t kHelloAgents = 2;

struct Hello {
  MessageHeader header;
  std::uint32_t version_min;  // the lowest that the client speaks
  std::uint32_t flags;
  char tenant[kTenantNameBytes];       // empty: the user's default tenant
  char client_name[kClientNameBytes];  // for people: memctl clients
};
static_assert(sizeof(Hello) == 160);

// Welcome.flags; a client passes over those that it does not know.
// memd has other nodes to ask, and answers Op::kFindTier. A memd without it may
// know no such op.
inline constexpr std::uint32_t kWelcomeFindsTiers = 1;

struct Welcome {
  MessageHeader header;
  std::uint64_t client_id;
  std::uint64_t instance;
  std::uint32_t tenant_id;
  std::uint32_t client_layout_version;
  std::uint32_t index_layout_version;
  std::uint32_t flags;
  std::uint64_t data_bytes;
  std::uint64_t index_bytes;
  std::uint64_t client_file_bytes;
  std::uint64_t hold_quota_bytes;
  std::uint64_t grant_quota_bytes;
  std::uint8_t tenant_key[32];  // keys the names of sequences and objects
  std::uint8_t token[16];       // identity towards gRPC
  char tenant[kTenantNameBytes];
};
static_assert(sizeof(Welcome) == 208);

struct Refusal {
  MessageHeader header;
  std::uint32_t code;  // Code
  std::uint32_t version_max;
  char message[256];  // for people
};
static_assert(sizeof(Refusal) == 288);

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_HANDSHAKE_H_
