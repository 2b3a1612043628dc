// A client of memd by hand: what libagentmem would never do with its rings.
#ifndef AGENTMEM_TESTS_INTEGRATION_RAW_CLIENT_H_
#define AGENTMEM_TESTS_INTEGRATION_RAW_CLIENT_H_

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "proto/client_layout.h"
#include "proto/handshake.h"
#include "tests/integration/memd_process.h"
#include "tests/integration/raw_agents.h"

namespace agentmem {

struct RawClient {
  explicit RawClient(const MemdProcess& memd) : socket(Dial(memd.socket())) {
    const Hello hello = GoodHello();
    EXPECT_EQ(::send(socket.get(), &hello, sizeof(hello), MSG_NOSIGNAL),
              static_cast<ssize_t>(sizeof(hello)));
    iovec part = {&welcome, sizeof(welcome)};
    alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))] = {};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    EXPECT_EQ(::recvmsg(socket.get(), &message, 0),
              static_cast<ssize_t>(sizeof(welcome)));
    int fds[4] = {};
    std::memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fds));
    index = UniqueFd(fds[0]);
    data = UniqueFd(fds[1]);
    memory = UniqueFd(fds[2]);
    doorbell = UniqueFd(fds[3]);
    file = ClientFile(::mmap(nullptr, kClientFileBytes, PROT_READ | PROT_WRITE,
                             MAP_SHARED, memory.get(), 0));
  }

  void Ring() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] ssize_t put = ::write(doorbell.get(), &one, sizeof(one));
  }
  void Post(const SubmissionEntry& entry) {
    auto& tail = file.header().submission_tail;
    const std::uint64_t at = tail.load();
    std::memcpy(
        static_cast<void*>(&file.submissions()[at % kSubmissionEntries]),
        &entry, sizeof(entry));
    tail.store(at + 1);
    Ring();
  }
  bool HasCompletion() const {
    return file.header().completion_tail.load() !=
           file.header().completion_head.load();
  }
  // The next completion, taken; waits for it without end.
  CompletionEntry Await() {
    ClientHeader& header = file.header();
    const std::uint64_t at = header.completion_head.load();
    while (!HasCompletion()) ::sched_yield();
    const CompletionEntry entry = file.completions()[at % kCompletionEntries];
    header.completion_head.store(at + 1);
    return entry;
  }

  Welcome welcome = {};
  UniqueFd socket, index, data, memory, doorbell;
  ClientFile file;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_INTEGRATION_RAW_CLIENT_H_
