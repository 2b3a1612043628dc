// The first packet of a stranger.
#include <cstddef>
#include <cstdint>

#include "memd/handshake.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t bytes) {
  const auto hello = agentmem::ParseHello(data, bytes);
  if (!hello.ok()) agentmem::MakeRefusal(hello.status());
  return 0;
}
