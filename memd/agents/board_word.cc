#include "memd/agents/board_word.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>

namespace agentmem {

void BoardWord::Move() const {
  auto* const words =
      reinterpret_cast<std::atomic<std::uint32_t>*>(board->base());
  words[index].fetch_add(1, std::memory_order_seq_cst);
  syscall(SYS_futex, &words[index], FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace agentmem
