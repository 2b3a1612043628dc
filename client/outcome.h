// How an operation of the library ended: a canonical code and, when it is not
// OK, a sentence for people. The library has no Abseil, hence a type of its
// own.
//
// Threads: a value. Errors: is one. Cost: no allocation when OK.
#ifndef AGENTMEM_CLIENT_OUTCOME_H_
#define AGENTMEM_CLIENT_OUTCOME_H_

#include <string>
#include <utility>

#include "proto/types.h"

namespace agentmem::client {

struct [[nodiscard]] Outcome {
  Code code = Code::kOk;
  std::string message;

  bool ok() const { return code == Code::kOk; }
};

inline Outcome Fail(Code code, std::string message) {
  return Outcome{code, std::move(message)};
}

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_OUTCOME_H_
