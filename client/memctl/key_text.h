// A block's key as people write it: 32 hex digits, the group first.
//
//   0000002a:00112233445566778899aabb
//   group    name (3 words of 8 digits, the first word first)
//
// Threads: pure functions. Errors: INVALID_ARGUMENT, with the format.
// Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_KEY_TEXT_H_
#define AGENTMEM_CLIENT_MEMCTL_KEY_TEXT_H_

#include <string>

#include "absl/status/statusor.h"
#include "proto/types.h"

namespace agentmem::memctl {

// The colon may be left out; upper case is accepted.
absl::StatusOr<Key> ParseKey(const std::string& text);
std::string FormatKey(const Key& key);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_KEY_TEXT_H_
