// Many processes over few bytes: every byte that is read is compared.
#include <random>

#include "tests/integration/memd_process.h"

namespace agentmem {
namespace {

// Each process puts and gets random keys of a set far larger than the pool,
// so that slots are unpublished and reused all the time under its pins.
int Work(const MemdProcess& memd, std::uint32_t seed, int rounds) {
  agentmem_client* client = memd.Connect();
  if (client == nullptr) return 1;
  std::mt19937 random(seed);
  for (int round = 0; round < rounds; ++round) {
    agentmem_key keys[8];
    for (agentmem_key& key : keys) key = KeyOf(random() % 600);
    const std::size_t lengths[] = {500, 4000, 60'000, 100'000};
    if (random() % 3 == 0) {
      const std::size_t length = lengths[keys[0].name[0] % 4];
      agentmem_error error = {};
      const agentmem_code code =
          Put(client, keys[0], BytesOf(keys[0], length),
              keys[0].name[0] % 5 == 0 ? AGENTMEM_STATE : AGENTMEM_CACHE,
              AGENTMEM_VISIBLE, &error);
      if (code != AGENTMEM_OK) {
        std::fprintf(stderr, "put: %d %s\n", code, error.message);
        return 2;
      }
    }
    agentmem_span spans[8] = {};
    agentmem_error error = {};
    const agentmem_code code =
        agentmem_get(client, keys, 8, 10 * kSecondNs, spans, &error);
    if (code != AGENTMEM_OK && code != AGENTMEM_NOT_FOUND) {
      std::fprintf(stderr, "get: %d %s\n", code, error.message);
      return 3;
    }
    for (int i = 0; i < 8; ++i) {
      if (spans[i].data == nullptr) continue;
      const std::string expected =
          BytesOf(keys[i], lengths[keys[i].name[0] % 4]);
      if (spans[i].length != expected.size() ||
          std::memcmp(spans[i].data, expected.data(), expected.size()) != 0) {
        std::fprintf(stderr, "wrong bytes of key %u\n", keys[i].name[0]);
        return 4;
      }
    }
    agentmem_release(client, spans, 8);
  }
  agentmem_close(client);
  return 0;
}

TEST(StressTest, ManyProcessesNeverReadAWrongByte) {
  MemdProcess memd("16MiB");
  std::vector<std::unique_ptr<Child>> children;
  for (std::uint32_t i = 0; i < 6; ++i) {
    children.push_back(std::make_unique<Child>(
        [&memd, i](int) { return Work(memd, i, 1500); }));
  }
  for (auto& child : children) EXPECT_EQ(child->Wait(), 0);
  const auto tenants = memd.Memctl("tenants")["tenants"];
  EXPECT_EQ(tenants[0]["held_bytes"], 0);
  EXPECT_EQ(tenants[0]["corrupt_blocks"], 0);
  EXPECT_EQ(memd.Stop(), 0);
}

}  // namespace
}  // namespace agentmem
