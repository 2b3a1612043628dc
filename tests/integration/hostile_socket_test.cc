// Strangers at the door: garbage, other versions, silence.
#include <random>

#include "proto/handshake.h"
#include "tests/integration/memd_process.h"

// The C++ types of proto/ and the C ABI are used here; agentmem.hpp is not.
namespace agentmem {
namespace {

UniqueFd Dial(const MemdProcess& memd) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, memd.socket().c_str(),
               sizeof(address.sun_path) - 1);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address),
                      sizeof(address)),
            0);
  return fd;
}

Refusal Answer(const UniqueFd& fd, const void* message, std::size_t bytes) {
  EXPECT_EQ(::send(fd.get(), message, bytes, MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes));
  Refusal refusal = {};
  EXPECT_EQ(::recv(fd.get(), &refusal, sizeof(refusal), 0),
            static_cast<ssize_t>(sizeof(refusal)));
  return refusal;
}

Hello GoodHello() {
  Hello hello = {};
  hello.header.magic = kWireMagic;
  hello.header.version = kWireVersion;
  hello.header.type = MessageType::kHello;
  hello.header.bytes = sizeof(hello);
  hello.version_min = kWireVersion;
  return hello;
}

TEST(HostileSocketTest, AnotherVersionIsRefusedNamingBoth) {
  MemdProcess memd("64MiB");
  Hello hello = GoodHello();
  hello.header.version = 77;
  const Refusal refusal = Answer(Dial(memd), &hello, sizeof(hello));
  EXPECT_EQ(refusal.code,
            static_cast<std::uint32_t>(Code::kFailedPrecondition));
  EXPECT_NE(std::string(refusal.message).find("77"), std::string::npos);
  EXPECT_NE(std::string(refusal.message).find("version 1"), std::string::npos);
}

TEST(HostileSocketTest, AnUnknownTenantIsRefusedByName) {
  MemdProcess memd("64MiB");
  Hello hello = GoodHello();
  std::string("nobody").copy(hello.tenant, sizeof(hello.tenant) - 1);
  const Refusal refusal = Answer(Dial(memd), &hello, sizeof(hello));
  EXPECT_EQ(refusal.code, static_cast<std::uint32_t>(Code::kNotFound));
  EXPECT_NE(std::string(refusal.message).find("nobody"), std::string::npos);
}

TEST(HostileSocketTest, GarbageIsAnsweredAndHonestClientsAreServed) {
  MemdProcess memd("64MiB");
  agentmem_client* client = memd.Connect();
  const agentmem_key key = KeyOf(1);
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i) {
    UniqueFd fd = Dial(memd);
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

}  // namespace
}  // namespace agentmem
