#include "memd/cluster/static_membership.h"

#include <map>
#include <set>

#include "base/status.h"
#include "memd/cluster/member_record.h"

namespace agentmem {

absl::Status StaticMembership::Start(const MemberInfo& self,
                                     Callback callback) {
  if (started_) return FailedPrecondition("the membership was started before");
  std::map<std::string, MemberInfo> by_name;
  for (const MemberInfo& member : members_) {
    AGENTMEM_RETURN_IF_ERROR(CheckMember(member));
    if (!by_name.emplace(member.node, member).second) {
      return InvalidArgument("the list of nodes has \"" + member.node +
                             "\" twice: a node's name is unique in a cluster");
    }
  }
  AGENTMEM_RETURN_IF_ERROR(CheckMember(self));
  by_name[self.node] = self;
  std::set<std::string> addresses;
  MemberList list;
  for (const auto& [name, member] : by_name) {
    if (!addresses.insert(member.peer_address).second) {
      return InvalidArgument("two nodes have the address " +
                             member.peer_address + ", one of them is \"" +
                             name + "\": each has its own");
    }
    list.members.push_back(member);
  }
  started_ = true;
  callback(list);
  return absl::OkStatus();
}

}  // namespace agentmem
