// A block's key as people write it, read: the one spelling of proto/key_text.h,
// so that what is searched for in a log is what was typed.
//
// Threads: pure functions. Errors: INVALID_ARGUMENT, with the format.
// Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_KEY_TEXT_H_
#define AGENTMEM_CLIENT_MEMCTL_KEY_TEXT_H_

#include <string>

#include "absl/status/statusor.h"
#include "proto/types.h"

namespace agentmem::memctl {

absl::StatusOr<Key> ParseKey(const std::string& text);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_KEY_TEXT_H_
