#include "benchmarks/wake_up.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <new>

#include "base/clock.h"
#include "base/status.h"

namespace agentmem::bench {
namespace {

constexpr std::uint32_t kEnd = ~0u;

using Word = std::atomic<std::uint32_t>;

void Wait(Word* word, std::uint32_t seen) {
  while (word->load() == seen) {
    ::syscall(SYS_futex, word, FUTEX_WAIT, seen, nullptr, nullptr, 0);
  }
}

void Set(Word* word, std::uint32_t value) {
  word->store(value);
  ::syscall(SYS_futex, word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

}  // namespace

struct WakeUp::Shared {
  alignas(64) Word there = 0;
  alignas(64) Word back = 0;
};

absl::StatusOr<std::unique_ptr<WakeUp>> WakeUp::Start() {
  void* const memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ErrnoStatus("memory for two processes");
  std::unique_ptr<WakeUp> pair(new WakeUp(new (memory) Shared));
  Shared* const shared = pair->shared_;
  pair->pid_ = ::fork();
  if (pair->pid_ < 0) return ErrnoStatus("fork");
  if (pair->pid_ != 0) return pair;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (std::uint32_t seen = 0;;) {
    Wait(&shared->there, seen);
    seen = shared->there.load();
    if (seen == kEnd) ::_exit(0);
    Set(&shared->back, seen);
  }
}

WakeUp::~WakeUp() {
  if (pid_ > 0) {
    Set(&shared_->there, kEnd);
    int status = 0;
    ::waitpid(pid_, &status, 0);
  }
  ::munmap(shared_, sizeof(Shared));
}

double WakeUp::Measure(std::size_t count, Samples* samples) {
  samples->Reserve(count);
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t turn = shared_->back.load();
    const TimeNs start = MonotonicNowNs();
    Set(&shared_->there, turn + 1);
    Wait(&shared_->back, turn);
    const double ns = static_cast<double>(MonotonicNowNs() - start) / 2;
    samples->Add(ns);
    sum += ns;
  }
  return sum / static_cast<double>(count);
}

}  // namespace agentmem::bench
