// What the keeper of a pool says to memd and hears from it
// (proto/hbm_messages.h), and where it sleeps until memd, or its own process,
// has something for it.
//
// Ownership: none. Threads: Wake: any; the rest: the keeper's. Errors:
// UNAVAILABLE: memd is gone, and all that it was told: Open comes next.
// UNIMPLEMENTED: it knows of no blocks in device memory. Cost: Open connects,
// Report is a request.
#ifndef AGENTMEM_CLIENT_HBM_LINK_H_
#define AGENTMEM_CLIENT_HBM_LINK_H_

#include <cstdint>
#include <span>
#include <vector>

#include "client/deadline.h"
#include "proto/hbm_messages.h"
#include "proto/outcome.h"

namespace agentmem::client {

// Blocks that loads found in the pool since Open.
struct HbmHits {
  std::uint64_t blocks = 0;
  std::uint64_t bytes = 0;

  friend bool operator==(const HbmHits&, const HbmHits&) = default;
};

struct HbmReport {
  std::span<const HbmUse> uses;  // at most kHbmUsesMax
  std::uint64_t allocated_bytes = 0;
  std::uint64_t wanted_bytes = 0;
  HbmHits hits;
};

struct HbmReply {
  std::uint64_t budget_bytes = 0;
  std::vector<HbmWish> wishes;
};

class HbmLink {
 public:
  virtual ~HbmLink() = default;

  virtual Outcome Open(std::uint64_t wanted_bytes, const Deadline& deadline,
                       std::uint64_t* budget_bytes) = 0;
  virtual Outcome Report(const HbmReport& report, const Deadline& deadline,
                         HbmReply* reply) = 0;
  virtual void Close(const HbmHits& hits) = 0;
  // Looks whether memd has hung up.
  virtual bool IsLost() = 0;

  // Changes when there is something to hear. Sleep returns when it is not
  // `seen`, or after `duration_ns`, or for no reason.
  virtual std::uint32_t Bell() = 0;
  virtual void Sleep(std::uint32_t seen, DurationNs duration_ns) = 0;
  virtual void Wake() = 0;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_HBM_LINK_H_
