// Which versions an agent may have when its next process opens it.
//
// The driver notes each commit before (Intend) and after (Acknowledge). While
// memd lives, the newest acknowledged version is there, or the one in flight.
// Once memd was killed, versions acknowledged as visible alone may be gone: any
// version from the newest durable one on is right. Resumed settles which it is;
// later ones never were.
//
// Ownership: a value. Threads: thread-compatible. Errors: none; Resumed says
// false to a version that may not be. Cost: O(1) each.
#ifndef AGENTMEM_TESTS_DEMO_MEMORY_JOURNAL_H_
#define AGENTMEM_TESTS_DEMO_MEMORY_JOURNAL_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/demo/memory_content.h"

namespace agentmem::demo {

class MemoryJournal {
 public:
  // The next version is being committed.
  void Intend(const MemoryWriter& writer) { writers_.push_back(writer); }
  // The one in flight is there.
  void Acknowledge(bool durable) {
    acknowledged_ = writers_.size();
    if (durable) durable_ = acknowledged_;
  }
  void MemdWasKilled() { memd_was_killed_ = true; }
  bool Resumed(std::uint64_t version) {
    if (version < oldest() || version > newest()) return false;
    writers_.resize(version);
    acknowledged_ = version;
    // memd had it from the store, or it may still be in memory alone.
    durable_ = memd_was_killed_ ? version : std::min(durable_, version);
    memd_was_killed_ = false;
    return true;
  }

  // What Resumed accepts.
  std::uint64_t oldest() const {
    return memd_was_killed_ ? durable_ : acknowledged_;
  }
  std::uint64_t newest() const { return writers_.size(); }
  std::uint64_t acknowledged() const { return acknowledged_; }
  bool in_flight() const { return acknowledged_ < writers_.size(); }
  // Of versions 1 to newest().
  const std::vector<MemoryWriter>& writers() const { return writers_; }

 private:
  std::vector<MemoryWriter> writers_;
  std::uint64_t acknowledged_ = 0;
  std::uint64_t durable_ = 0;
  bool memd_was_killed_ = false;  // since it was resumed last
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_MEMORY_JOURNAL_H_
