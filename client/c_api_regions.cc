// The C ABI: open regions.
#include <algorithm>
#include <utility>

#include "client/c_api_agents.h"

namespace agentmem::client {
namespace {

Outcome ReadCommit(const agentmem_commit_options* raw, Region::Commit* commit) {
  agentmem_commit_options read;
  if (Outcome sized = ReadOptions("agentmem_commit_options", raw, &read);
      !sized.ok()) {
    return sized;
  }
  if (read.ack != 0) commit->ack = static_cast<Ack>(read.ack);
  if (!IsValid(commit->ack)) {
    return Fail(Code::kInvalidArgument,
                "ack is " + std::to_string(read.ack) +
                    "; AGENTMEM_VISIBLE to AGENTMEM_DURABLE are allowed");
  }
  const std::string_view message = read.message == nullptr ? "" : read.message;
  if (message.size() > kMessageBytesMax) {
    return Fail(Code::kInvalidArgument,
                "a message of " + std::to_string(message.size()) +
                    " bytes; at most " + std::to_string(kMessageBytesMax) +
                    " are allowed");
  }
  std::copy(std::begin(read.trace_id), std::end(read.trace_id), commit->trace);
  FieldWriter fields;
  fields.Add(message);
  Outcome added = AddLabels(read.labels, read.label_count, &fields);
  commit->tail = fields.bytes();
  return added;
}

agentmem_region_mode ModeOf(TrackingMode mode) {
  return mode == TrackingMode::kSync ? AGENTMEM_REGION_SYNC
                                     : AGENTMEM_REGION_EXPLICIT;
}

}  // namespace
}  // namespace agentmem::client

using agentmem::Outcome;
using agentmem::client::Answer;
using agentmem::client::Deadline;
using agentmem::client::Region;

extern "C" {

agentmem_code agentmem_region_open(agentmem_agent* agent, const char* name,
                                   const agentmem_region_options* options,
                                   uint64_t timeout_ns,
                                   agentmem_region** region,
                                   agentmem_error* error) {
  AGENTMEM_REQUIRE(region != nullptr, "region is NULL", error);
  *region = nullptr;
  AGENTMEM_ENTER_HANDLE("agent", agent, error);
  agentmem_region_options read;
  if (Outcome sized = agentmem::client::ReadOptions("agentmem_region_options",
                                                    options, &read);
      !sized.ok()) {
    return Answer(sized, error);
  }
  std::unique_ptr<Region> opened;
  const Outcome outcome = Region::Open(
      agent->agent, name, {read.force_explicit != 0, read.bytes, read.version},
      Deadline::After(timeout_ns), &opened);
  if (outcome.ok()) *region = new agentmem_region{std::move(opened)};
  return Answer(outcome, error);
}

void agentmem_region_close(agentmem_region* region) {
  if (region == nullptr || region->Forked()) return;
  delete region;
}

void* agentmem_region_data(agentmem_region* region) {
  if (region == nullptr || region->Forked()) return nullptr;
  return region->region->data();
}

uint64_t agentmem_region_size(agentmem_region* region) {
  return region == nullptr ? 0 : region->region->bytes();
}

uint64_t agentmem_region_version(agentmem_region* region) {
  return region == nullptr ? 0 : region->region->version();
}

agentmem_code agentmem_region_status(agentmem_region* region,
                                     agentmem_region_state* state,
                                     agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("region", region, error);
  AGENTMEM_REQUIRE(state != nullptr, "state is NULL", error);
  agentmem_region_state sized;
  if (Outcome read =
          agentmem::client::ReadOptions("agentmem_region_state", state, &sized);
      !read.ok()) {
    return Answer(read, error);
  }
  agentmem::client::AgentConnection& connection = region->region->connection();
  *state = {};
  state->size = sizeof(*state);
  state->mode = agentmem::client::ModeOf(region->region->mode());
  state->read_only = region->region->read_only() ? 1 : 0;
  state->lost = connection.Lost() ? 1 : 0;
  if (state->mode != AGENTMEM_REGION_EXPLICIT) {
    state->user_mode_only = connection.user_fault().user_mode_only() ? 1 : 0;
    state->poisons = connection.user_fault().can_poison() ? 1 : 0;
    state->faults_waiting = connection.watchdog().faults_waiting();
    state->faults_poisoned = connection.watchdog().faults_poisoned();
  }
  const std::string& reason = region->region->explicit_reason();
  reason.copy(state->reason, sizeof(state->reason) - 1);
  return AGENTMEM_OK;
}

agentmem_code agentmem_region_commit(agentmem_region* region,
                                     const agentmem_commit_options* options,
                                     uint64_t timeout_ns, uint64_t* version,
                                     agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("region", region, error);
  Region::Commit commit;
  if (Outcome read = agentmem::client::ReadCommit(options, &commit);
      !read.ok()) {
    return Answer(read, error);
  }
  std::uint64_t made = 0;
  const Outcome outcome =
      region->region->MakeVersion(commit, Deadline::After(timeout_ns), &made);
  if (outcome.ok() && version != nullptr) *version = made;
  return Answer(outcome, error);
}

agentmem_code agentmem_agent_commit(agentmem_agent* agent,
                                    const agentmem_commit_options* options,
                                    uint64_t timeout_ns,
                                    agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("agent", agent, error);
  Region::Commit commit;
  if (Outcome read = agentmem::client::ReadCommit(options, &commit);
      !read.ok()) {
    return Answer(read, error);
  }
  return Answer(agentmem::client::CommitAgent(agent->agent.get(), commit,
                                              Deadline::After(timeout_ns)),
                error);
}

agentmem_code agentmem_region_populate(agentmem_region* region, uint64_t offset,
                                       uint64_t bytes, uint64_t timeout_ns,
                                       agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("region", region, error);
  return Answer(region->region->Populate(offset, bytes, Region::Keep::kNo,
                                         Deadline::After(timeout_ns)),
                error);
}

agentmem_code agentmem_region_pin(agentmem_region* region, uint64_t offset,
                                  uint64_t bytes, uint64_t timeout_ns,
                                  agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("region", region, error);
  return Answer(region->region->Populate(offset, bytes, Region::Keep::kPinned,
                                         Deadline::After(timeout_ns)),
                error);
}

agentmem_code agentmem_region_unpin(agentmem_region* region, uint64_t offset,
                                    uint64_t bytes, uint64_t timeout_ns,
                                    agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("region", region, error);
  return Answer(
      region->region->Unpin(offset, bytes, Deadline::After(timeout_ns)), error);
}

agentmem_code agentmem_region_hint(agentmem_region* region, uint64_t offset,
                                   uint64_t bytes, uint64_t next_use_ns,
                                   uint64_t timeout_ns, agentmem_answer* answer,
                                   agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("region", region, error);
  std::uint8_t answered = 0;
  const Outcome outcome = region->region->Hint(
      offset, bytes, next_use_ns, Deadline::After(timeout_ns), &answered);
  if (outcome.ok()) agentmem::client::SetAnswer(answered, answer);
  return Answer(outcome, error);
}

agentmem_code agentmem_region_read(agentmem_region* region, uint64_t offset,
                                   void* buffer, uint64_t bytes,
                                   uint64_t timeout_ns, agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("region", region, error);
  AGENTMEM_REQUIRE(buffer != nullptr || bytes == 0, "buffer is NULL", error);
  return Answer(region->region->Read(offset, static_cast<char*>(buffer), bytes,
                                     Deadline::After(timeout_ns)),
                error);
}

agentmem_code agentmem_region_write(agentmem_region* region, uint64_t offset,
                                    const void* buffer, uint64_t bytes,
                                    uint64_t timeout_ns,
                                    agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("region", region, error);
  AGENTMEM_REQUIRE(buffer != nullptr || bytes == 0, "buffer is NULL", error);
  return Answer(region->region->Write(offset, static_cast<const char*>(buffer),
                                      bytes, Deadline::After(timeout_ns)),
                error);
}

agentmem_code agentmem_region_refresh(agentmem_region* region, uint64_t version,
                                      uint64_t timeout_ns,
                                      uint64_t* new_version,
                                      agentmem_range_callback changed,
                                      void* context, agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("region", region, error);
  Region::RangeCallback callback;
  if (changed != nullptr) {
    callback = [=](const agentmem::RangeEntry& entry) {
      const agentmem_range range = {entry.offset, entry.bytes};
      changed(context, &range);
    };
  }
  std::uint64_t moved_to = 0;
  const Outcome outcome = region->region->Refresh(
      version, Deadline::After(timeout_ns), callback, &moved_to);
  if (outcome.ok() && new_version != nullptr) *new_version = moved_to;
  return Answer(outcome, error);
}

agentmem_code agentmem_region_watch(agentmem_region* region,
                                    uint64_t after_version, uint64_t timeout_ns,
                                    uint64_t* version, agentmem_error* error) {
  AGENTMEM_ENTER_HANDLE("region", region, error);
  AGENTMEM_REQUIRE(version != nullptr, "version is NULL", error);
  std::uint64_t newest = 0;
  const Outcome outcome = region->region->Watch(
      after_version, Deadline::After(timeout_ns), &newest);
  if (outcome.ok()) *version = newest;
  return Answer(outcome, error);
}

}  // extern "C"
