// A function with a stack of its own, left and entered again at will: what
// lanes are (warp.h). The sanitizers are told of each switch.
//
// Ownership: owns its stack. Threads: one thread enters a fiber, always the
// same. Errors: none. Cost: a switch is a system call (the mask of signals).
#ifndef AGENTMEM_TESTS_EMULATION_FIBER_H_
#define AGENTMEM_TESTS_EMULATION_FIBER_H_

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>

// By the names that gcc has for them, or clang.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define AGENTMEM_EMULATION_ASAN
#elif __has_feature(thread_sanitizer)
#define AGENTMEM_EMULATION_TSAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define AGENTMEM_EMULATION_ASAN
#elif defined(__SANITIZE_THREAD__)
#define AGENTMEM_EMULATION_TSAN
#endif

namespace agentmem::emulation {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Begins `main` anew, which stays with the caller; what was not at its end is
  // dropped without unwinding.
  void Start(const std::function<void()>& main);
  // Runs it until it leaves. Not once it has ended.
  void Enter();
  // Called within it.
  void Leave();
  bool has_ended() const { return has_ended_; }

 private:
  static void Main(unsigned high, unsigned low);
  void Begin();

  std::unique_ptr<char[]> stack_;
  const std::function<void()>* main_ = nullptr;
  bool has_ended_ = true;
  ucontext_t inside_ = {};
  ucontext_t outside_ = {};
#ifdef AGENTMEM_EMULATION_ASAN
  void* fake_inside_ = nullptr;
  void* fake_outside_ = nullptr;
  const void* outer_stack_ = nullptr;
  std::size_t outer_bytes_ = 0;
#endif
#ifdef AGENTMEM_EMULATION_TSAN
  void* inside_of_tsan_ = nullptr;
  void* outside_of_tsan_ = nullptr;
#endif
};

}  // namespace agentmem::emulation

#endif  // AGENTMEM_TESTS_EMULATION_FIBER_H_
