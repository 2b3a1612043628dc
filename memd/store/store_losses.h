// What a store's database names and is not there: files that somebody removed.
//
// Ownership: a value. Threads: thread-compatible. Errors: none. Cost: text
// allocates.
#ifndef AGENTMEM_MEMD_STORE_STORE_LOSSES_H_
#define AGENTMEM_MEMD_STORE_STORE_LOSSES_H_

#include <cstdint>
#include <string>

namespace agentmem {

struct StoreLosses {
  std::string directory;  // of the segments
  std::uint64_t segments = 0;
  std::uint64_t blocks = 0;        // in them
  std::uint64_t state_blocks = 0;  // of those

  // For people.
  std::string text() const {
    return "segment files that the store names and that are not in " +
           directory + ": " + std::to_string(segments) + ", with " +
           std::to_string(blocks) + " blocks, " + std::to_string(state_blocks) +
           " of them of class state";
  }
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_STORE_LOSSES_H_
