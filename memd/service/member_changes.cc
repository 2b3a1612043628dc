#include "memd/service/member_changes.h"

#include <algorithm>

namespace agentmem {
namespace {

// So many names stand in a line; the others are counted.
constexpr std::size_t kNamesMax = 16;

const MemberInfo* Find(const MemberList& list, const std::string& node) {
  const auto found =
      std::find_if(list.members.begin(), list.members.end(),
                   [&](const MemberInfo& one) { return one.node == node; });
  return found == list.members.end() ? nullptr : &*found;
}

std::string Names(const MemberList& list) {
  std::string names;
  for (std::size_t i = 0; i < list.members.size() && i < kNamesMax; ++i) {
    names += (i == 0 ? "" : ", ") + list.members[i].node;
  }
  if (list.members.size() > kNamesMax) {
    names +=
        " and " + std::to_string(list.members.size() - kNamesMax) + " more";
  }
  return names;
}

}  // namespace

std::vector<MemberChanges::Line> MemberChanges::Take(const MemberList& list,
                                                     TimeNs now) {
  std::vector<Line> lines;
  if (!std::exchange(has_list_, true)) {
    // (That etcd was away at the start is said there.)
    unreachable_since_ = now;
    lines.push_back(
        {LogLevel::kInfo, "members of the cluster: " + Names(list)});
  } else {
    TakeReachable(list, now, &lines);
    TakeJoined(list, &lines);
    TakeLeft(list, now, &lines);
  }
  last_ = list;
  return lines;
}

void MemberChanges::TakeReachable(const MemberList& list, TimeNs now,
                                  std::vector<Line>* lines) {
  if (list.reachable == last_.reachable) return;
  if (list.reachable) {
    lines->push_back(
        {LogLevel::kInfo,
         "etcd answers again, after " +
             std::to_string((now - unreachable_since_) / kSecondNs) + " s"});
    return;
  }
  unreachable_since_ = now;
  lines->push_back(
      {LogLevel::kWarning,
       "etcd does not answer: the list of members stays as it is, blocks go "
       "on, and what needs agreement (agents, refs) is UNAVAILABLE until it "
       "does; see whether etcd runs and answers at [cluster] etcd"});
}

void MemberChanges::TakeJoined(const MemberList& list,
                               std::vector<Line>* lines) {
  for (const MemberInfo& member : list.members) {
    if (member.node == self_) continue;
    const MemberInfo* const before = Find(last_, member.node);
    if (before != nullptr && before->instance == member.instance) continue;
    std::erase_if(left_, [&](const ClusterView::Left& left) {
      return left.node == member.node;
    });
    lines->push_back({LogLevel::kInfo,
                      "node " + member.node + " joined the cluster, at " +
                          member.peer_address +
                          (before == nullptr ? "" : ": another run of memd")});
  }
}

void MemberChanges::TakeLeft(const MemberList& list, TimeNs now,
                             std::vector<Line>* lines) {
  for (const MemberInfo& member : last_.members) {
    if (member.node == self_ || Find(list, member.node) != nullptr) continue;
    left_.insert(left_.begin(), {member.node, now});
    if (left_.size() > kLeftMax) left_.pop_back();
    lines->push_back({LogLevel::kWarning,
                      "node " + member.node +
                          " left the cluster: its memd ended, or its lease ran "
                          "out; it was at " +
                          member.peer_address});
  }
}

}  // namespace agentmem
