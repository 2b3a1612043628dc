// A block's key as people read and write it, everywhere: in messages, in the
// log, as an argument of memctl. 32 hex digits in lower case, the group first.
//
//   0000002a:00112233445566778899aabb
//   group    name (3 words of 8 digits, the first word first)
//
// Threads: pure functions. Errors: none. Cost: allocates.
#ifndef AGENTMEM_PROTO_KEY_TEXT_H_
#define AGENTMEM_PROTO_KEY_TEXT_H_

#include <cstdio>
#include <string>

#include "proto/types.h"

namespace agentmem {

inline std::string KeyText(const Key& key) {
  char text[34];
  std::snprintf(text, sizeof(text), "%08x:%08x%08x%08x", key.group, key.name[0],
                key.name[1], key.name[2]);
  return text;
}

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_KEY_TEXT_H_
