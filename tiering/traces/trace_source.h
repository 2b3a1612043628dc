// A stream of requests, from a recorded trace or from a generator.
//
// Ownership: owns what it reads from. Threads: thread-compatible. Errors: as
// the implementation says; a broken request is named and left behind.
#ifndef AGENTMEM_TIERING_TRACES_TRACE_SOURCE_H_
#define AGENTMEM_TIERING_TRACES_TRACE_SOURCE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "tiering/policy.h"

namespace agentmem::tiering {

// One step of a model: a context goes in, an output comes out.
struct TraceRequest {
  DurationNs timestamp_ns = 0;  // since the start of the trace
  std::uint32_t input_tokens = 0;
  std::uint32_t output_tokens = 0;
  // The input's prefix blocks from its first token on. Equal ids are the same
  // block under the same prefix.
  std::vector<std::uint64_t> block_ids;
  std::uint64_t agent = 0;    // 0 where the trace does not tell
  std::uint64_t session = 0;  // requests of one growing context share it
  std::uint32_t turn = 0;     // within the session, from 0
  // What the agent does after the output, and for how long.
  Phase think_phase = Phase::kIdle;
  DurationNs think_ns = 0;
};

class TraceSource {
 public:
  virtual ~TraceSource() = default;

  // True: *request is the next one. False: the trace has ended.
  virtual absl::StatusOr<bool> Next(TraceRequest* request) = 0;
};

}  // namespace agentmem::tiering

#endif  // AGENTMEM_TIERING_TRACES_TRACE_SOURCE_H_
