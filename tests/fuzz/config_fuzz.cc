// A configuration file.
#include <cstddef>
#include <cstdint>
#include <string>

#include "memd/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t bytes) {
  agentmem::Surroundings surroundings;
  surroundings.memory_bytes = 1ULL << 33;
  (void)agentmem::ParseConfig(
      std::string(reinterpret_cast<const char*>(data), bytes), "fuzz.toml",
      surroundings);
  return 0;
}
