#include "tests/emulation/fiber.h"

#include <cstdint>

#ifdef AGENTMEM_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef AGENTMEM_EMULATION_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace agentmem::emulation {
namespace {

constexpr std::size_t kStackBytes = 128 << 10;

}  // namespace

Fiber::Fiber() : stack_(new char[kStackBytes]) {
#ifdef AGENTMEM_EMULATION_TSAN
  inside_of_tsan_ = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#ifdef AGENTMEM_EMULATION_TSAN
  __tsan_destroy_fiber(inside_of_tsan_);
#endif
}

void Fiber::Start(const std::function<void()>& main) {
  main_ = &main;
  has_ended_ = false;
#ifdef AGENTMEM_EMULATION_ASAN
  // What was dropped has left its marks.
  __asan_unpoison_memory_region(stack_.get(), kStackBytes);
  fake_inside_ = nullptr;
#endif
  getcontext(&inside_);
  inside_.uc_stack.ss_sp = stack_.get();
  inside_.uc_stack.ss_size = kStackBytes;
  inside_.uc_link = nullptr;
  const auto self = reinterpret_cast<std::uint64_t>(this);
  makecontext(&inside_, reinterpret_cast<void (*)()>(&Fiber::Main), 2,
              static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
}

void Fiber::Enter() {
#ifdef AGENTMEM_EMULATION_ASAN
  __sanitizer_start_switch_fiber(&fake_outside_, stack_.get(), kStackBytes);
#endif
#ifdef AGENTMEM_EMULATION_TSAN
  outside_of_tsan_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(inside_of_tsan_, 0);
#endif
  swapcontext(&outside_, &inside_);
#ifdef AGENTMEM_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(fake_outside_, nullptr, nullptr);
#endif
}

void Fiber::Leave() {
#ifdef AGENTMEM_EMULATION_ASAN
  __sanitizer_start_switch_fiber(has_ended_ ? nullptr : &fake_inside_,
                                 outer_stack_, outer_bytes_);
#endif
#ifdef AGENTMEM_EMULATION_TSAN
  __tsan_switch_to_fiber(outside_of_tsan_, 0);
#endif
  swapcontext(&inside_, &outside_);
#ifdef AGENTMEM_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(fake_inside_, &outer_stack_, &outer_bytes_);
#endif
}

void Fiber::Main(unsigned high, unsigned low) {
  reinterpret_cast<Fiber*>(std::uint64_t{high} << 32 | low)->Begin();
}

void Fiber::Begin() {
#ifdef AGENTMEM_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &outer_stack_, &outer_bytes_);
#endif
  (*main_)();
  has_ended_ = true;
  Leave();
}

}  // namespace agentmem::emulation
