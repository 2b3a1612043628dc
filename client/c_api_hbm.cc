// The C ABI: the pool of blocks in a device's memory.
#include <memory>
#include <string>
#include <string_view>

#include "agentmem/kv.h"
#include "client/agent.h"
#include "client/c_api.h"
#include "client/c_api_kv.h"

namespace {

using agentmem::Code;
using agentmem::Fail;
using agentmem::Outcome;
using agentmem::client::Answer;
using agentmem::client::Deadline;
using agentmem::client::HbmCounts;
using agentmem::client::HbmKeep;
using agentmem::client::HbmKeeper;
using agentmem::client::HbmPool;

Outcome NoPool() {
  return Fail(Code::kFailedPrecondition,
              "the device has no pool; open one with agentmem_hbm_open");
}

// One that memd refuses would spoil a whole report.
Outcome CheckCharacters(std::string_view agent) {
  if (agentmem::IsAgentName(agent)) return {};
  return Fail(Code::kInvalidArgument,
              "agent's name: spaces and control characters are not allowed");
}

}  // namespace

extern "C" {

agentmem_code agentmem_hbm_open(agentmem_device* device,
                                const agentmem_hbm_options* options,
                                uint64_t timeout_ns, agentmem_error* error) {
  AGENTMEM_ENTER(device, error);
  AGENTMEM_REQUIRE(options != nullptr, "options is NULL", error);
  AGENTMEM_REQUIRE(options->size >= sizeof(agentmem_hbm_options),
                   "agentmem_hbm_options: set size to its sizeof", error);
  const uint64_t memory = device->of.device()->properties().memory_bytes;
  if (options->bytes == 0 || options->bytes > memory) {
    return Answer(Fail(Code::kInvalidArgument,
                       "bytes is " + std::to_string(options->bytes) +
                           "; 1 to " + std::to_string(memory) +
                           ", which the device has, are allowed"),
                  error);
  }
  return Answer(
      device->of.OpenPool(options->bytes, Deadline::After(timeout_ns)), error);
}

agentmem_code agentmem_kv_keep(agentmem_kv* kv, const char* agent,
                               agentmem_error* error) {
  AGENTMEM_ENTER(kv, error);
  HbmPool* const pool = kv->device->of.pool();
  if (pool == nullptr) return Answer(NoPool(), error);
  if (agent != nullptr) {
    Outcome named = agentmem::client::CheckName("agent's name", agent,
                                                agentmem::kAgentNameBytes);
    if (named.ok()) named = CheckCharacters(agent);
    if (!named.ok()) return Answer(named, error);
  }
  kv->SetKeep(std::make_shared<HbmKeep>(pool, agent == nullptr ? "" : agent));
  return AGENTMEM_OK;
}

agentmem_code agentmem_hbm_describe(agentmem_device* device,
                                    agentmem_hbm_state* state,
                                    agentmem_error* error) {
  AGENTMEM_ENTER(device, error);
  AGENTMEM_REQUIRE(state != nullptr, "state is NULL", error);
  AGENTMEM_REQUIRE(state->size >= sizeof(agentmem_hbm_state),
                   "agentmem_hbm_state: set size to its sizeof", error);
  device->of.Sweep();
  HbmKeeper* const keeper = device->of.keeper();
  if (keeper == nullptr) return Answer(NoPool(), error);
  const HbmCounts counts = device->of.pool()->counts();
  *state = {};
  state->size = sizeof(agentmem_hbm_state);
  state->budget_bytes = counts.budget_bytes;
  state->allocated_bytes = counts.allocated_bytes;
  state->used_bytes = counts.used_bytes;
  state->blocks = counts.blocks;
  state->hits = counts.hits;
  state->misses = counts.misses;
  state->filled = counts.filled;
  state->dropped = counts.dropped;
  state->demoted = counts.demoted;
  state->forgotten = counts.forgotten;
  state->brought_back = counts.brought_back;
  state->emptied = keeper->emptied();
  state->emptied_late = keeper->emptied_late();
  return AGENTMEM_OK;
}

}  // extern "C"
