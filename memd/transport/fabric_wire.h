// The TCP connections under an endpoint, and how to cut them.
//
// RxM hides its sockets; but what a completion queue waits on is an epoll
// descriptor over them (and over more such descriptors), and the kernel lists
// what an epoll descriptor watches in /proc/self/fdinfo.
//
// Ownership: none: descriptors stay open, and the provider's. Threads: any.
// Errors: where /proc cannot be read, nothing is found. Cost: some system calls
// a socket; what is dropped is not copied.
#ifndef AGENTMEM_MEMD_TRANSPORT_FABRIC_WIRE_H_
#define AGENTMEM_MEMD_TRANSPORT_FABRIC_WIRE_H_

#include <cstddef>

namespace agentmem {

// Shuts down both directions of every connected TCP socket that `wait_fd`
// watches, itself or through other epoll descriptors. How many there were.
// What has arrived and was not read is dropped (their owner would read all of
// it, up to 32 MiB a socket): it sees the end at once.
std::size_t CutConnections(int wait_fd);

// How many CutConnections would cut.
std::size_t CountConnections(int wait_fd);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_FABRIC_WIRE_H_
