// A thread's view of its ThreadTable: which of its pins are free.
//
// The table in shared memory is memd's to read at any time; this is the
// process's own book of it. The owning thread takes and gives back pins with
// plain loads and stores; other threads go through Return, under the mutex of
// ThreadContexts. When the owner leaves (thread exit, or a new session) while
// spans are out, the table is an orphan until the last of them is returned.
//
// Ownership: part of its Session. Threads: see each method. Errors: none.
// Cost: Take is a bit scan.
#ifndef AGENTMEM_CLIENT_PIN_TABLE_H_
#define AGENTMEM_CLIENT_PIN_TABLE_H_

#include <atomic>
#include <cstdint>

#include "proto/client_layout.h"

namespace agentmem::client {

class Session;

struct PinTable {
  static constexpr int kNone = -1;
  static constexpr int kWords = kThreadPins / 64;

  Session* session = nullptr;
  ThreadTable* shared = nullptr;
  std::uint64_t note_tail = 0;                  // owner
  std::uint64_t free[kWords] = {~0ULL, ~0ULL};  // owner; an orphan's: mutex
  // Written under the mutex; the owner looks without it whether to take it.
  std::atomic<std::uint64_t> returned[kWords] = {};
  bool owned = false;  // mutex

  // Owner only: a free pin, which stays free until MarkTaken; or kNone.
  int Peek() const {
    for (int word = 0; word < kWords; ++word) {
      if (free[word] != 0) return word * 64 + __builtin_ctzll(free[word]);
    }
    return kNone;
  }
  void MarkTaken(int pin) { free[pin >> 6] &= ~(1ULL << (pin & 63)); }
  void MarkFree(int pin) { free[pin >> 6] |= 1ULL << (pin & 63); }
  bool AllFree() const {
    for (const std::uint64_t word : free) {
      if (~word != 0) return false;
    }
    return true;
  }
  bool HasReturned() const {
    for (const auto& word : returned) {
      if (word.load(std::memory_order_relaxed) != 0) return true;
    }
    return false;
  }
  // Mutex, and nobody else may be the owner meanwhile.
  void CollectReturned() {
    for (int word = 0; word < kWords; ++word) {
      free[word] |= returned[word].exchange(0, std::memory_order_relaxed);
    }
  }

  // Owner only: tells the policy of a hit.
  void Note(std::uint32_t slot, std::uint64_t generation) {
    shared->notes[note_tail % kThreadNotes].store(slot | (generation << 32),
                                                  std::memory_order_relaxed);
    shared->note_tail.store(++note_tail, std::memory_order_release);
  }
};
static_assert(kThreadPins == 128);

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_PIN_TABLE_H_
