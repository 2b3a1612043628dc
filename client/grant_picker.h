// Takes a granted slot of the right size out of the client file.
//
// memd grants slots ahead, of the sizes that the client has used. A put takes
// the exact size class if one is there, else the smallest that is not much too
// large, and asks memd only when there is none.
//
// Ownership: none; a taken grant is the caller's to publish or abandon.
// Threads: thread-safe (a grant is taken by compare-and-swap). Errors: none.
// Cost: a look at up to kGrantEntries entries, usually a few: a hint for each
// size class tells where the last one stood.
#ifndef AGENTMEM_CLIENT_GRANT_PICKER_H_
#define AGENTMEM_CLIENT_GRANT_PICKER_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "client/session.h"
#include "proto/size_class.h"

namespace agentmem::client {

struct Grant {
  std::uint32_t entry = 0;
  std::uint32_t slot_bytes = 0;
  std::uint64_t sequence = 0;
  std::uint64_t data_offset = 0;
};

enum class Waste {
  kBounded,  // at most twice the length and 512 bytes
  kAny,
};

class GrantPicker {
 public:
  // `length` is 1 to kMaxBlockBytes. False: there is none.
  bool Take(const Session& session, std::uint64_t length, Waste waste,
            Grant* grant);

 private:
  static bool TakeEntry(const Session& session, std::uint32_t index,
                        std::uint64_t state, Grant* grant);

  // Where to look first, by size class; only a hint.
  std::array<std::atomic<std::uint32_t>, kSizeClasses> hints_ = {};
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_GRANT_PICKER_H_
