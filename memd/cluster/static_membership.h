// Membership of a configured list, for clusters without etcd: it never changes.
//
// Ownership: copies the list. Threads: thread-compatible; the callback comes
// from Start. Errors: INVALID_ARGUMENT (two nodes of one name or address, or a
// field out of range), FAILED_PRECONDITION (Start, a second time). Cost: none.
#ifndef AGENTMEM_MEMD_CLUSTER_STATIC_MEMBERSHIP_H_
#define AGENTMEM_MEMD_CLUSTER_STATIC_MEMBERSHIP_H_

#include <utility>
#include <vector>

#include "memd/cluster/membership.h"

namespace agentmem {

class StaticMembership final : public Membership {
 public:
  // `members` may name this node too: what it says of itself is taken.
  explicit StaticMembership(std::vector<MemberInfo> members)
      : members_(std::move(members)) {}

  absl::Status Start(const MemberInfo& self, Callback callback) override;

 private:
  const std::vector<MemberInfo> members_;
  bool started_ = false;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_STATIC_MEMBERSHIP_H_
