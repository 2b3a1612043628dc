// What memd says at its end: how much `state` it has written down since it was
// told to stop, how much not, and why.
//
// Ownership: a value. Threads: thread-compatible. Errors: none. Cost: at the
// end only.
#ifndef AGENTMEM_MEMD_DRAIN_REPORT_H_
#define AGENTMEM_MEMD_DRAIN_REPORT_H_

#include <string>

#include "absl/container/btree_map.h"
#include "memd/pool/lent_drain.h"

namespace agentmem {

struct DrainReport {
  static constexpr const char* kTimeRanOut =
      "the time for it (`stop_ms`) ran out";
  using ByReason = absl::btree_map<std::string, DrainSum>;

  DrainSum own_written;  // from DRAM
  ByReason own_left;
  DrainSum lent_written;  // from the memory that is lent
  ByReason lent_left;

  bool whole() const { return own_left.empty() && lent_left.empty(); }
  std::string Text() const;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_DRAIN_REPORT_H_
