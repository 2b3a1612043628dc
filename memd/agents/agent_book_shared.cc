// AgentBook: where other nodes change the same refs.
#include "base/log.h"
#include "base/status.h"
#include "memd/agents/agent_book.h"

namespace agentmem {
namespace {

void LogLostVersions(const AgentState& state) {
  LogError("agent " + state.name +
           ": versions that were acknowledged as visible are lost: another "
           "node took it over, or this one was away for too long, before they "
           "were durable");
}

}  // namespace

std::string AgentBook::ClaimName(const std::string& agent) const {
  return "writer/" + std::to_string(tenant_.value()) + "/" + agent;
}

// While nobody here writes it, another node may have.
void AgentBook::DoubtIfShared(AgentState* state) {
  if (shared_.has_value() && state->writer.token == 0 && !state->ahead) {
    state->doubtful = true;
  }
}

absl::Status AgentBook::CheckClaim(const AgentState& state,
                                   std::uint32_t flags) {
  if (!shared_.has_value() || (flags & kOpenTakeOver) != 0) {
    return absl::OkStatus();
  }
  const std::string name = ClaimName(state.name);
  AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, refs_->Read(name));
  if (ref.version == 0) return absl::OkStatus();
  AGENTMEM_ASSIGN_OR_RETURN(const WriterClaim claim,
                            DecodeWriterClaim(name, ref.value));
  // One of this node's own is of a session that has ended, or the book would
  // have said so; one of an earlier run, of a node that went, is void.
  if (claim.node == shared_->node ||
      !shared_->is_alive(claim.node, claim.instance)) {
    return absl::OkStatus();
  }
  return FailedPrecondition(
      "agent \"" + state.name + "\" is being written by \"" + claim.name +
      "\" (process " + std::to_string(claim.pid) + ") on node " + claim.node +
      "; open it for reading, or take it over");
}

// What the last writer left, now that it cannot write any more; and our claim.
absl::Status AgentBook::TakeShared(AgentState* state,
                                   const WriterIdentity& writer) {
  if (!shared_.has_value()) return absl::OkStatus();
  const auto now = refs_->Read(RefName(state->name));
  if (!now.ok()) {
    state->doubtful = true;
    return now.status();
  }
  if (now->fence.value() != state->fence.value()) {
    state->doubtful = true;
    return Aborted("agent \"" + state->name +
                   "\" was opened on another node at the same moment; open it "
                   "again");
  }
  if (now->version == 0) {
    state->deleted = true;
    return NotFound("agent \"" + state->name +
                    "\" was deleted on another node");
  }
  AGENTMEM_ASSIGN_OR_RETURN(AgentRecord record,
                            DecodeAgentRecord(state->name, now->value));
  // What this node acknowledged as visible stays, unless another wrote since,
  // or it was away for so long that its blocks may be gone.
  if (now->version != state->ref_version ||
      record.lineage != state->record.lineage || !state->ahead ||
      !HasUse(*state)) {
    if (state->ahead) LogLostVersions(*state);
    state->record = std::move(record);
    state->ref_version = now->version;
    state->ahead = false;
    state->lost = false;
    state->unsettled.clear();
  }
  state->doubtful = false;
  if (const absl::Status used = TakeUse(state, true); !used.ok()) {
    state->doubtful = true;
    return used;
  }
  const std::string name = ClaimName(state->name);
  AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, refs_->Read(name));
  const RefChange change = {name, ref.version, ref.fence,
                            EncodeWriterClaim({shared_->node, shared_->instance,
                                               writer.name, writer.pid}),
                            false};
  // Another node that opens it just now may have put its own: the fence
  // decides.
  const absl::Status claimed = refs_->Commit({&change, 1}, {});
  if (claimed.code() == absl::StatusCode::kAborted) return absl::OkStatus();
  return claimed;
}

// A change was refused: who took the agent over may be on another node. Then
// what was visible here only is gone, and nobody here writes it any more.
void AgentBook::LoseIfTaken(AgentState* state) {
  if (!shared_.has_value() || state->writer.token == 0) return;
  const auto ref = refs_->Read(RefName(state->name));
  if (!ref.ok()) return;
  if (ref->fence.value() == state->fence.value() && !UseIsLost(*state)) return;
  Lose(state);
}

void AgentBook::Lose(AgentState* state) {
  if (state->ahead) LogLostVersions(*state);
  state->writer = {};
  state->ahead = false;
  state->unsettled.clear();
  state->doubtful = true;
  state->lost = true;
}

void AgentBook::DropClaim(const AgentState& state) {
  if (!shared_.has_value()) return;
  const std::string name = ClaimName(state.name);
  const auto ref = refs_->Read(name);
  if (!ref.ok() || ref->version == 0) return;
  const auto claim = DecodeWriterClaim(name, ref->value);
  if (!claim.ok() || claim->node != shared_->node ||
      claim->instance != shared_->instance) {
    return;
  }
  const RefChange change = {name, ref->version, ref->fence, "", true};
  const absl::Status dropped = refs_->Commit({&change, 1}, {});
  // It stays, and names us, until this node opens the agent again or ends.
  if (!dropped.ok() && dropped.code() != absl::StatusCode::kAborted) {
    LogWarning("agent " + state.name +
               ": the claim to write it could not be taken back: " +
               StatusMessage(dropped));
  }
}

}  // namespace agentmem
