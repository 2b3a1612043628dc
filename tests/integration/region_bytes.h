// A client of a test's memd, and bytes that say whose they are.
#ifndef AGENTMEM_TESTS_INTEGRATION_REGION_BYTES_H_
#define AGENTMEM_TESTS_INTEGRATION_REGION_BYTES_H_

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <utility>

#include "agentmem/agentmem.hpp"
#include "tests/integration/memd_process.h"

namespace agentmem {

inline Client ConnectTo(const MemdProcess& memd,
                        const std::string& name = "test") {
  ConnectOptions options;
  options.socket_path = memd.socket();
  options.name = name;
  auto client = Client::Connect(options);
  if (!client) {
    ADD_FAILURE() << client.status().message();
    ::abort();
  }
  return std::move(*client);
}

// Bytes that say where they are and of which round.
inline void Fill(std::byte* bytes, std::uint64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::uint64_t i = 0; i + 8 <= count; i += 8) {
    const std::uint64_t word = random();
    std::memcpy(bytes + i, &word, 8);
  }
}

inline bool IsFilled(const std::byte* bytes, std::uint64_t count,
                     std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::uint64_t i = 0; i + 8 <= count; i += 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes + i, 8);
    if (word != random()) return false;
  }
  return true;
}

// For a child: says why it cannot go on; its exit status.
inline int Complain(const Status& status) {
  std::fprintf(stderr, "child: %s\n", status.message().c_str());
  return 1;
}

inline constexpr std::uint64_t kMiB = 1 << 20;

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_INTEGRATION_REGION_BYTES_H_
