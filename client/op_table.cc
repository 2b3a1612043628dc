#include "client/op_table.h"

namespace agentmem::client {

std::uint64_t OpTable::Allocate(Op op, bool forgotten) {
  std::uint32_t index;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    if (records_.size() == kOpsMax) return 0;
    index = static_cast<std::uint32_t>(records_.size());
    records_.emplace_back();
  }
  OpRecord& record = records_[index];
  record.state =
      forgotten ? OpRecord::State::kForgotten : OpRecord::State::kPosted;
  record.op = op;
  ++record.uses;
  ++in_flight_[static_cast<std::size_t>(op)];
  return (record.uses << kIndexBits) | index;
}

OpRecord* OpTable::Find(std::uint64_t id) {
  const std::uint64_t index = id & kIndexMask;
  if (index >= records_.size()) return nullptr;
  OpRecord& record = records_[index];
  if (record.state == OpRecord::State::kFree ||
      record.uses != id >> kIndexBits) {
    return nullptr;
  }
  return &record;
}

void OpTable::Free(std::uint64_t id) {
  OpRecord* record = Find(id);
  if (record == nullptr) return;
  if (record->state != OpRecord::State::kDone) {
    --in_flight_[static_cast<std::size_t>(record->op)];
  }
  record->state = OpRecord::State::kFree;
  free_.push_back(static_cast<std::uint32_t>(id & kIndexMask));
}

OpRecord OpTable::Answer(const CompletionEntry& answer) {
  OpRecord* record = Find(answer.op_id);
  if (record == nullptr || record->state == OpRecord::State::kDone) return {};
  const OpRecord before = *record;
  if (before.state == OpRecord::State::kForgotten) {
    Free(answer.op_id);
    return before;
  }
  --in_flight_[static_cast<std::size_t>(record->op)];
  record->state = OpRecord::State::kDone;
  record->answer = answer;
  return before;
}

void OpTable::AnswerAll(Code code) {
  for (std::size_t index = 0; index < records_.size(); ++index) {
    const OpRecord& record = records_[index];
    if (record.state != OpRecord::State::kPosted &&
        record.state != OpRecord::State::kForgotten) {
      continue;
    }
    CompletionEntry answer = {};
    answer.op_id = (record.uses << kIndexBits) | index;
    answer.code = code;
    Answer(answer);
  }
}

}  // namespace agentmem::client
