// Which places of a ring are in use: spans of neighbouring places are taken,
// and given back, oldest first. Only the arithmetic; what lies in the places
// is the caller's.
//
// A span does not go around the end: the places left there are skipped, and
// belong to it. A ring that has run empty has room for any span up to its size,
// so whoever waits for that gets on.
//
// Ownership: a value. Threads: thread-compatible. Errors: no room is nullopt.
// Cost: constant; a span in use is a few words in a deque.
#ifndef AGENTMEM_CUDA_RING_SPANS_H_
#define AGENTMEM_CUDA_RING_SPANS_H_

#include <cstdint>
#include <deque>
#include <optional>

namespace agentmem {

class RingSpans {
 public:
  explicit RingSpans(std::uint32_t places) : places_(places) {}

  // The first of `count` places, which are the newest span from now on.
  std::optional<std::uint32_t> Take(std::uint32_t count) {
    if (count == 0 || count > places_) return std::nullopt;
    if (spans_.empty()) next_ = 0;
    const std::uint32_t skipped = count > places_ - next_ ? places_ - next_ : 0;
    if (skipped + count > places_ - used_) return std::nullopt;
    const std::uint32_t first = skipped != 0 ? 0 : next_;
    spans_.push_back({next_, skipped + count});
    used_ += skipped + count;
    next_ = (first + count) % places_;
    return first;
  }
  bool empty() const { return spans_.empty(); }
  void GiveBackOldest() {
    used_ -= spans_.front().places;
    spans_.pop_front();
  }
  void GiveBackNewest() {
    next_ = spans_.back().begin;
    used_ -= spans_.back().places;
    spans_.pop_back();
  }

 private:
  struct Span {
    std::uint32_t begin = 0;
    std::uint32_t places = 0;
  };

  std::uint32_t places_;
  std::uint32_t next_ = 0;
  std::uint32_t used_ = 0;
  std::deque<Span> spans_;
};

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_RING_SPANS_H_
