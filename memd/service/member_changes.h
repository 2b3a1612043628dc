// What changes from one list of members to the next, for the log; and who left.
//
// Nothing is said of the first list but who is in it, nor of this node itself:
// its lease tells of that.
//
// Ownership: copies the last list. Threads: thread-compatible. Errors: none.
// Cost: Take allocates; O(members).
#ifndef AGENTMEM_MEMD_SERVICE_MEMBER_CHANGES_H_
#define AGENTMEM_MEMD_SERVICE_MEMBER_CHANGES_H_

#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "memd/cluster/membership.h"
#include "memd/pool/pool_host.h"

namespace agentmem {

class MemberChanges {
 public:
  // Of those that left so many are remembered.
  static constexpr std::size_t kLeftMax = 16;

  struct Line {
    LogLevel level = LogLevel::kInfo;
    std::string text;
  };

  explicit MemberChanges(std::string self) : self_(std::move(self)) {}

  std::vector<Line> Take(const MemberList& list, TimeNs now);

  // The last first; until they are back.
  const std::vector<ClusterView::Left>& left() const { return left_; }

 private:
  void TakeReachable(const MemberList& list, TimeNs now,
                     std::vector<Line>* lines);
  void TakeJoined(const MemberList& list, std::vector<Line>* lines);
  void TakeLeft(const MemberList& list, TimeNs now, std::vector<Line>* lines);

  const std::string self_;
  bool has_list_ = false;
  MemberList last_;
  TimeNs unreachable_since_ = 0;
  std::vector<ClusterView::Left> left_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_MEMBER_CHANGES_H_
