// What the C ABI's functions of agents and regions have in common: their
// handles, options of an older or newer caller, labels.
//
// Ownership: a handle owns what it names. Threads: any. Errors:
// INVALID_ARGUMENT, naming the field. Cost: allocates.
#ifndef AGENTMEM_CLIENT_C_API_AGENTS_H_
#define AGENTMEM_CLIENT_C_API_AGENTS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "client/agent.h"
#include "client/c_api.h"
#include "client/region.h"
#include "proto/agent_fields.h"

struct agentmem_agent {
  std::shared_ptr<agentmem::client::Agent> agent;

  bool Forked() const { return agent->connection().Forked(); }
};

struct agentmem_region {
  std::unique_ptr<agentmem::client::Region> region;

  bool Forked() const { return region->connection().Forked(); }
};

namespace agentmem::client {

// What the caller has of `options` and this code knows; the rest is 0. NULL is
// all 0.
template <typename Options>
Outcome ReadOptions(const char* what, const Options* options, Options* out) {
  *out = {};
  if (options == nullptr) return {};
  if (options->size < sizeof(Options)) {
    return Fail(Code::kInvalidArgument,
                std::string(what) + ": size is " +
                    std::to_string(options->size) + "; set it to sizeof(" +
                    what + "), which is " + std::to_string(sizeof(Options)) +
                    " for this libagentmem");
  }
  std::memcpy(out, options, sizeof(Options));
  return {};
}

// Adds (key, value)* to `fields`.
Outcome AddLabels(const agentmem_label* labels, std::size_t count,
                  FieldWriter* fields);

void SetAnswer(std::uint8_t answered, agentmem_answer* answer);

}  // namespace agentmem::client

// At the head of every function that has an agent or a region.
#define AGENTMEM_ENTER_HANDLE(what, handle, error)                          \
  do {                                                                      \
    if ((handle) == nullptr) {                                              \
      return ::agentmem::client::AnswerInvalid(what " is NULL", (error));   \
    }                                                                       \
    if ((handle)->Forked()) return ::agentmem::client::AnswerForked(error); \
  } while (false)

#endif  // AGENTMEM_CLIENT_C_API_AGENTS_H_
