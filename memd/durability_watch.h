// Can this node make blocks durable now? If not: why, since when, and what is
// to be done; for the log, once at the beginning and once at the end, and for
// operators.
//
//   well --a cause is there for kSettleNs--> lost --none is--> well
//
// The causes: no other node lends memory where a durable block needs a copy in
// one; those that lend any take none; the store fails or is full; with a remote
// store: no node takes this one's blocks. So a peer that is met, or comes back,
// within kSettleNs is no cause.
//
// Ownership: a value. Threads: thread-compatible. Errors: none. Cost: Look
// allocates while there is a cause.
#ifndef AGENTMEM_MEMD_DURABILITY_WATCH_H_
#define AGENTMEM_MEMD_DURABILITY_WATCH_H_

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "memd/pool/pool_host.h"
#include "memd/pool/pool_peer.h"
#include "memd/service/snapshot.h"

namespace agentmem {

// The last failure of writes that fail still.
struct WriteFailure {
  Code code = Code::kOk;
  TimeNs since = 0;
  TimeNs failed_at = 0;  // the last of them
  std::string tenant;    // whose they are
};

struct DurabilityFacts {
  // Of what is durable a copy is in another node's memory.
  bool copies_wanted = false;
  std::size_t lenders = 0;  // other nodes that are up and lend memory
  // Without lenders: what became of each other node (WhyNoLender).
  std::vector<std::string> absent;
  std::optional<WriteFailure> copies;
  bool store_remote = false;
  std::vector<RemoteStoreSnapshot> stores;  // remote: where blocks are kept
  std::optional<WriteFailure> store;        // this node's own
  std::string store_path;
};

// "n2 left 12 s ago", "n3 does not answer", "n4 lends none".
std::vector<std::string> WhyNoLender(const std::string& self,
                                     const ClusterView& cluster,
                                     const std::vector<PoolPeerSnapshot>& peers,
                                     TimeNs now);

class DurabilityWatch {
 public:
  static constexpr DurationNs kSettleNs = 2 * kSecondNs;

  // What the log is to say now; empty: nothing new.
  std::string Look(const DurabilityFacts& facts, TimeNs now);

  // As of the last Look.
  const std::optional<Trouble>& trouble() const { return trouble_; }

 private:
  struct Cause {
    std::string text;
    std::string remedy;
    TimeNs since = 0;
    // Whose blocks it was that failed: others' may go on. Empty: all.
    std::string tenant;
  };
  std::optional<Cause> FindCause(const DurabilityFacts& facts, TimeNs now);

  std::size_t lenders_ = 0;
  TimeNs lenders_changed_at_ = 0;
  bool caused_ = false;
  TimeNs caused_since_ = 0;
  std::optional<Trouble> trouble_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_DURABILITY_WATCH_H_
