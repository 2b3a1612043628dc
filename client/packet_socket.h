// Packets of a SOCK_SEQPACKET socket, with descriptors, under a deadline.
//
// Ownership: received descriptors are the caller's; those beyond its room are
// closed. Threads: thread-safe, but one receiver at a time. Errors: PacketEnd;
// errno has the cause of kFailed. Cost: two system calls, or more while it
// waits.
#ifndef AGENTMEM_CLIENT_PACKET_SOCKET_H_
#define AGENTMEM_CLIENT_PACKET_SOCKET_H_

#include <cstddef>
#include <span>
#include <string_view>

#include "base/unique_fd.h"
#include "client/deadline.h"

namespace agentmem::client {

enum class PacketEnd { kDone, kHungUp, kDeadline, kFailed };

// `head` and `tail` are one packet; `fd` goes along unless it is -1. The socket
// must be non-blocking.
PacketEnd SendPacket(int socket, std::string_view head, std::string_view tail,
                     int fd, const Deadline& deadline);

// *fd_count counts all descriptors that came, also those without room. A packet
// longer than `room` has *bytes > room.size().
PacketEnd ReceivePacket(int socket, std::span<char> room,
                        const Deadline& deadline, std::size_t* bytes,
                        std::span<UniqueFd> fds, std::size_t* fd_count);

// Has the other end hung up? Takes nothing from the socket.
bool SocketHungUp(int socket);

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_PACKET_SOCKET_H_
