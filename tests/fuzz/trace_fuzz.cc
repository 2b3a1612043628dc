// A line of a trace.
#include <cstddef>
#include <cstdint>
#include <string>

#include "tiering/traces/mooncake_trace.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t bytes) {
  agentmem::tiering::TraceRequest request;
  (void)agentmem::tiering::ParseMooncakeLine(
      std::string(reinterpret_cast<const char*>(data), bytes), &request);
  return 0;
}
