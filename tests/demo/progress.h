// How far the demo is: a bar on a terminal, a line each tenth elsewhere.
//
// Ownership: writes to a descriptor that it does not own. Threads:
// thread-compatible. Errors: none. Cost: at most ten writes a second.
#ifndef AGENTMEM_TESTS_DEMO_PROGRESS_H_
#define AGENTMEM_TESTS_DEMO_PROGRESS_H_

#include <cstdint>
#include <string>

#include "base/clock.h"

namespace agentmem::demo {

class Progress {
 public:
  Progress(int fd, std::uint64_t total);

  void Update(std::uint64_t done, const std::string& text, TimeNs now);
  // A line of its own, above the bar.
  void Say(const std::string& line);

 private:
  void Write(const std::string& text) const;

  const int fd_;
  const std::uint64_t total_;
  const bool terminal_;
  TimeNs written_ns_ = 0;
  std::uint64_t tenths_ = 0;
  std::string bar_;  // as it stands on the terminal
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_PROGRESS_H_
