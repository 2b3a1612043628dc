// Generates the requests of coding agents from published statistics.
//
// Sources: TraceLab, arXiv 2606.30560, CC BY 4.0 (what a step reads and writes,
// how long tools and people take) and the vLLM x Mooncake blog of 2026-05 (how
// long sessions are). Which figure is published, fitted or assumed stands
// beside each constant in the .cc file.
//
// Agents of one project begin every session with the same tools and system
// prompt: the project's blocks. A session then grows turn by turn: what the
// agent appends, then the model's output. Only whole blocks are named; the
// last, partial one is not. Now and then the history behind some point is
// written anew (an edited message, dropped tool results), and past the context
// window it is replaced by a summary: the blocks behind that point get new ids.
// Ids are dense from 0, and one id is always one block under one prefix.
//
// Requests come in the order of their timestamps. The same options give the
// same requests on every machine.
//
// Ownership: owns its state, about 8 bytes a block of an agent's context.
// Threads: thread-compatible. Errors: Validate: INVALID_ARGUMENT; constructing
// from invalid options is a check; Next never fails.
// Cost: O(blocks of the context + log agents) a request.
#ifndef AGENTMEM_TIERING_TRACES_AGENT_WORKLOAD_H_
#define AGENTMEM_TIERING_TRACES_AGENT_WORKLOAD_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiering/traces/random_stream.h"
#include "tiering/traces/trace_source.h"

namespace agentmem::tiering {

struct AgentWorkloadOptions {
  std::uint64_t seed = 1;
  std::uint32_t agents = 4;              // 1 to 100,000
  std::uint64_t requests = 1000;         // then the stream ends
  std::uint32_t block_tokens = 512;      // 1 to 1,048,576
  double context_scale = 1;              // of all token counts: 0.001 to 100
  std::uint32_t agents_per_project = 4;  // at least 1
};

absl::Status Validate(const AgentWorkloadOptions& options);

class AgentWorkload final : public TraceSource {
 public:
  explicit AgentWorkload(const AgentWorkloadOptions& options);

  absl::StatusOr<bool> Next(TraceRequest* request) override;

 private:
  struct Project {
    double prefix_tokens = 0;
    std::vector<std::uint64_t> blocks;  // whole blocks of the prefix
  };
  struct Agent {
    DurationNs next_ns = 0;
    std::uint64_t session = 0;
    std::uint32_t turn = 0;
    std::uint32_t turns = 0;  // 0: no session yet
    double context_tokens = 0;
    std::vector<std::uint64_t> blocks;
  };

  Project& ProjectOf(std::uint32_t agent);
  void BeginSession(std::uint32_t agent);
  void ContinueSession(std::uint32_t agent);
  void KeepPrefix(std::uint32_t agent, double tokens);
  void ExtendBlocks(double tokens, std::vector<std::uint64_t>* blocks);
  void Think(bool session_ended, TraceRequest* request);
  double ScaledLogNormal(double median, double sigma);
  void Schedule(std::uint32_t agent);

  const AgentWorkloadOptions options_;
  RandomStream random_;
  std::vector<Project> projects_;
  std::vector<Agent> agents_;
  std::vector<std::uint32_t> schedule_;  // heap of agents, the next on top
  std::uint64_t requests_made_ = 0;
  std::uint64_t next_block_id_ = 0;
  std::uint64_t next_session_ = 0;
};

}  // namespace agentmem::tiering

#endif  // AGENTMEM_TIERING_TRACES_AGENT_WORKLOAD_H_
