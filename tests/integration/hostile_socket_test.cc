// Strangers at the door: garbage, other versions, silence; and clients that
// were let in and do not keep to the protocol.
#include <fcntl.h>

#include <atomic>
#include <random>
#include <thread>

#include "proto/client_layout.h"
#include "proto/handshake.h"
#include "tests/integration/memd_process.h"
#include "tests/integration/raw_agents.h"
#include "tests/integration/raw_client.h"

// The C++ types of proto/ and the C ABI are used here; agentmem.hpp is not.
namespace agentmem {
namespace {

Refusal Answer(const UniqueFd& fd, const void* message, std::size_t bytes) {
  EXPECT_EQ(::send(fd.get(), message, bytes, MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes));
  Refusal refusal = {};
  EXPECT_EQ(::recv(fd.get(), &refusal, sizeof(refusal), 0),
            static_cast<ssize_t>(sizeof(refusal)));
  return refusal;
}

TEST(HostileSocketTest, AnotherVersionIsRefusedNamingBoth) {
  MemdProcess memd("64MiB");
  Hello hello = GoodHello();
  hello.header.version = 77;
  const Refusal refusal = Answer(Dial(memd.socket()), &hello, sizeof(hello));
  EXPECT_EQ(refusal.code,
            static_cast<std::uint32_t>(Code::kFailedPrecondition));
  EXPECT_NE(std::string(refusal.message).find("77"), std::string::npos);
  EXPECT_NE(std::string(refusal.message).find("version 1"), std::string::npos);
}

TEST(HostileSocketTest, AnUnknownTenantIsRefusedByName) {
  MemdProcess memd("64MiB");
  Hello hello = GoodHello();
  std::string("nobody").copy(hello.tenant, sizeof(hello.tenant) - 1);
  const Refusal refusal = Answer(Dial(memd.socket()), &hello, sizeof(hello));
  EXPECT_EQ(refusal.code, static_cast<std::uint32_t>(Code::kNotFound));
  EXPECT_NE(std::string(refusal.message).find("nobody"), std::string::npos);
}

TEST(HostileSocketTest, GarbageIsAnsweredAndHonestClientsAreServed) {
  MemdProcess memd("64MiB");
  agentmem_client* client = memd.Connect();
  const agentmem_key key = KeyOf(1);
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i) {
    UniqueFd fd = Dial(memd.socket());
    Hello hello = GoodHello();
    auto* bytes = reinterpret_cast<unsigned char*>(&hello);
    for (int flips = 1 + static_cast<int>(random() % 8); flips > 0; --flips) {
      bytes[random() % sizeof(hello)] = static_cast<unsigned char>(random());
    }
    const std::size_t length = random() % 4 ? sizeof(hello) : random() % 160;
    ::send(fd.get(), &hello, length, MSG_NOSIGNAL);
    if (i % 3 == 0) ::send(fd.get(), &hello, sizeof(hello), MSG_NOSIGNAL);
  }
  EXPECT_EQ(
      Put(client, key, BytesOf(key, 1000), AGENTMEM_CACHE, AGENTMEM_VISIBLE),
      AGENTMEM_OK);
  EXPECT_EQ(Check(client, key, 1000), AGENTMEM_OK);
  agentmem_close(client);
  EXPECT_EQ(memd.Stop(), 0);
}

void ExpectServed(const MemdProcess& memd) {
  agentmem_client* client = memd.Connect();
  ASSERT_NE(client, nullptr);
  const agentmem_key key = KeyOf(1);
  EXPECT_EQ(
      Put(client, key, BytesOf(key, 1000), AGENTMEM_CACHE, AGENTMEM_VISIBLE),
      AGENTMEM_OK);
  agentmem_close(client);
}

// What nobody takes is closed by who reads: a socket that lingers would hold up
// all clients.
TEST(HostileSocketTest, DescriptorsCannotBeSentToTheReactor) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd one(pair[0]);
  const UniqueFd other(pair[1]);
  const int no = 0;
  constexpr int kPassRights = 83;  // SO_PASSRIGHTS, Linux 6.16
  if (::setsockopt(one.get(), SOL_SOCKET, kPassRights, &no, sizeof(no)) != 0) {
    GTEST_SKIP() << "this kernel cannot refuse descriptors";
  }
  MemdProcess memd("64MiB");
  const UniqueFd socket = Dial(memd.socket());
  Hello hello = GoodHello();
  EXPECT_FALSE(SendRaw(socket.get(), &hello, sizeof(hello), "", {one.get()}));
  EXPECT_EQ(errno, EPERM);
  EXPECT_TRUE(SendRaw(socket.get(), &hello, sizeof(hello), "", {}));
  EXPECT_GT(ReceiveRaw(socket.get()).got, 0);
  EXPECT_FALSE(SendRaw(socket.get(), "x", 1, "", {one.get()}));
}

TEST(HostileSocketTest, AClientThatReadsItsDoorbellDoesNotBlockMemd) {
  MemdProcess memd("64MiB");
  RawClient raw(memd);
  // The flags belong to the description that memd shares.
  ASSERT_EQ(::fcntl(raw.doorbell.get(), F_SETFL, 0), 0);
  std::atomic<bool> stop{false};
  std::thread thief([&] {
    while (!stop) {
      pollfd ready = {raw.doorbell.get(), POLLIN, 0};
      std::uint64_t count;
      if (::poll(&ready, 1, 0) == 1) {
        [[maybe_unused]] ssize_t got =
            ::read(raw.doorbell.get(), &count, sizeof(count));
      }
    }
  });
  for (int i = 0; i < 100'000; ++i) raw.Ring();
  stop = true;
  raw.Ring();  // so that the thief is not left in its read
  thief.join();
  ExpectServed(memd);
  EXPECT_EQ(memd.Stop(), 0);
}

TEST(HostileSocketTest, ADeadClientsChildThatKeepsItsRingFullDoesNotStopMemd) {
  MemdProcess memd("64MiB");
  Child parent([&](int say) {
    RawClient raw(memd);
    const pid_t child = ::fork();
    if (child == 0) {
      // Releases of nothing need no room for an answer. Bounded, if memd never
      // comes back.
      const TimeNs until = MonotonicNowNs() + 20 * kSecondNs;
      for (int i = 0; i < 1024; ++i) {
        raw.file.submissions()[i].op = Op::kRelease;
      }
      while (MonotonicNowNs() < until) {
        raw.file.header().submission_tail.store(
            raw.file.header().submission_head.load() + kSubmissionEntries);
        raw.Ring();
      }
      ::_exit(0);
    }
    [[maybe_unused]] ssize_t put = ::write(say, &child, sizeof(child));
    return 0;
  });
  pid_t grandchild = 0;
  for (std::size_t i = 0; i < sizeof(grandchild); ++i) {
    reinterpret_cast<char*>(&grandchild)[i] = parent.Hear();
  }
  ASSERT_GT(grandchild, 0);
  EXPECT_EQ(parent.Wait(), 0);
  ExpectServed(memd);
  ::kill(grandchild, SIGKILL);
  EXPECT_EQ(memd.Stop(), 0);
}

TEST(HostileSocketTest, AClientThatNeverReadsItsAnswersDoesNotKeepMemdBusy) {
  MemdProcess memd("64MiB");
  RawClient raw(memd);
  ClientHeader& header = raw.file.header();
  std::uint64_t tail = 0;
  // Until memd takes no more: 2048 answers wait, and the ring is full.
  const TimeNs until = MonotonicNowNs() + 20 * kSecondNs;
  while (tail < 3072 && MonotonicNowNs() < until) {
    if (tail - header.submission_head.load() < kSubmissionEntries) {
      SubmissionEntry entry = {};
      entry.op = Op::kFetch;
      entry.deadline_ns = kNoDeadline;
      std::memcpy(static_cast<void*>(
                      &raw.file.submissions()[tail % kSubmissionEntries]),
                  &entry, sizeof(entry));
      header.submission_tail.store(++tail);
    }
    if (header.memd_sleeping.exchange(0) == 1) raw.Ring();
  }
  ASSERT_EQ(tail, 3072u);
  const auto cpu_ticks = [&] {
    std::ifstream stat("/proc/" + std::to_string(memd.pid()) + "/stat");
    std::string field;
    long ticks = 0;
    for (int i = 1; i <= 15 && stat >> field; ++i) {
      if (i >= 14) ticks += std::stol(field);
    }
    return ticks;
  };
  const long before = cpu_ticks();
  pollfd nothing = {raw.socket.get(), POLLIN, 0};
  ::poll(&nothing, 1, 1000);  // memd says nothing here: a second passes
  EXPECT_LT(cpu_ticks() - before, sysconf(_SC_CLK_TCK) / 4);
  ExpectServed(memd);
  EXPECT_EQ(memd.Stop(), 0);
}

}  // namespace
}  // namespace agentmem
