// A word of a session's board: what a process sleeps on.
//
// Ownership: keeps the board alive. Threads: Move from any. Errors: none; what
// the process writes there is its own affair. Cost: a system call.
#ifndef AGENTMEM_MEMD_AGENTS_BOARD_WORD_H_
#define AGENTMEM_MEMD_AGENTS_BOARD_WORD_H_

#include <cstdint>
#include <memory>

#include "memd/dram/shared_memory.h"

namespace agentmem {

struct BoardWord {
  std::shared_ptr<SharedMemory> board;
  std::uint32_t index = 0;

  // Adds to it, and wakes who sleeps.
  void Move() const;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_BOARD_WORD_H_
