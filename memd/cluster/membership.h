// Membership: which nodes are in the cluster now.
//
// A node is a member while its lease lasts (etcd), or always (a static list:
// whether it answers shows when it is spoken to). The callback gets the whole
// list after each change, and once at the start.
//
// Ownership: the membership owns its threads and ends them in its destructor;
// the callback must stay callable until then. Threads: the callback comes from
// a thread of the membership, one call at a time. Errors: Start's. While the
// agreement cannot be reached the last list stays, and `reachable` is false.
// Cost: constant in the number of nodes, for each node and second, but for
// changes.
#ifndef AGENTMEM_MEMD_CLUSTER_MEMBERSHIP_H_
#define AGENTMEM_MEMD_CLUSTER_MEMBERSHIP_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/types.h"

namespace agentmem {

// As a node announces itself.
struct MemberInfo {
  std::string node;            // its name, unique in the cluster
  std::string peer_address;    // host:port of its peers' gRPC door
  std::uint64_t instance = 0;  // which run of its memd; 0: not known
  std::string rack;            // empty: none
  std::uint64_t weight = 0;    // bytes that it exports; 0: none, or not known
};

struct MemberList {
  // Grows with each change of the list. 0: a static list.
  ClusterEpoch epoch;
  bool reachable = true;
  std::vector<MemberInfo> members;  // by name; this node among them
};

class Membership {
 public:
  using Callback = std::function<void(const MemberList&)>;

  virtual ~Membership() = default;

  // Announces this node and begins to call back.
  virtual absl::Status Start(const MemberInfo& self, Callback callback) = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_MEMBERSHIP_H_
