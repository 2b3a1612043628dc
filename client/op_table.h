// The operations that wait for memd's answer, or whose answer waits for
// somebody to ask.
//
//   free --Allocate--> posted --answer--> done --Free--> free
//                         \--Forget--> forgotten --answer--> free
//
// An id names a place and how often that was used, so that an answer or a put's
// handle that comes too late is recognised. Places are made at need and used
// again; how many are in flight is bounded by the ring.
//
// Ownership: plain values. Threads: thread-compatible. Errors: Allocate answers
// 0 when kOpsMax places are in use. Cost: O(1), ForgetAll O(places).
#ifndef AGENTMEM_CLIENT_OP_TABLE_H_
#define AGENTMEM_CLIENT_OP_TABLE_H_

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "proto/client_layout.h"

namespace agentmem::client {

struct OpRecord {
  enum class State : std::uint8_t { kFree, kPosted, kForgotten, kDone };

  State state = State::kFree;
  Op op = Op::kNone;
  std::uint64_t uses = 0;
  CompletionEntry answer = {};  // kDone
};

class OpTable {
 public:
  static constexpr int kIndexBits = 20;
  static constexpr std::uint32_t kOpsMax = 1u << kIndexBits;

  // `forgotten`: nobody will ask for the answer.
  std::uint64_t Allocate(Op op, bool forgotten);
  // Null when `id` is not in use.
  OpRecord* Find(std::uint64_t id);
  void Free(std::uint64_t id);
  // The answer to `id`, if that is in flight; returns its record as it was.
  OpRecord Answer(const CompletionEntry& answer);
  // Every operation in flight ends with `code`.
  void AnswerAll(Code code);

  std::uint32_t in_flight(Op op) const {
    return in_flight_[static_cast<std::size_t>(op)];
  }

 private:
  static constexpr std::uint64_t kIndexMask = kOpsMax - 1;

  std::deque<OpRecord> records_;
  std::vector<std::uint32_t> free_;
  std::array<std::uint32_t, 16> in_flight_ = {};
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_OP_TABLE_H_
