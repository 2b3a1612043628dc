// How an operation ended: a canonical code and, when it is not OK, a sentence
// for people. For what libagentmem is made of: it has no Abseil.
//
// Threads: a value. Errors: is one. Cost: no allocation when OK.
#ifndef AGENTMEM_PROTO_OUTCOME_H_
#define AGENTMEM_PROTO_OUTCOME_H_

#include <string>
#include <utility>

#include "proto/types.h"

namespace agentmem {

struct [[nodiscard]] Outcome {
  Code code = Code::kOk;
  std::string message;

  bool ok() const { return code == Code::kOk; }
};

inline Outcome Fail(Code code, std::string message) {
  return Outcome{code, std::move(message)};
}

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_OUTCOME_H_
