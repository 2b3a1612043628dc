// What a membership called back, to be waited for.
//
// Ownership: must outlive the membership. Threads: thread-safe. Errors: none.
#ifndef AGENTMEM_TESTS_UNIT_CLUSTER_MEMBER_LOG_H_
#define AGENTMEM_TESTS_UNIT_CLUSTER_MEMBER_LOG_H_

#include <functional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "memd/cluster/membership.h"
#include "memd/cluster/wake_event.h"
#include "tests/unit/cluster/etcd_process.h"

namespace agentmem {

// "a b c": the names.
inline std::string NamesOf(const MemberList& list) {
  std::string names;
  for (const MemberInfo& member : list.members) {
    names += (names.empty() ? "" : " ") + member.node;
  }
  return names;
}

class MemberLog {
 public:
  using Condition = std::function<bool(const std::vector<MemberList>&)>;

  Membership::Callback callback() {
    return [this](const MemberList& list) {
      MutexLock lock(&mutex_);
      lists_.push_back(list);
      changed_.Signal();
    };
  }

  std::vector<MemberList> lists() {
    MutexLock lock(&mutex_);
    return lists_;
  }
  MemberList last() {
    const auto all = lists();
    return all.empty() ? MemberList() : all.back();
  }

  // Until it holds for what was called back so far, of which there is some.
  // One thread waits at a time.
  bool WaitFor(const Condition& condition) {
    const TimeNs deadline = Patience();
    while (true) {
      const std::vector<MemberList> now = lists();
      if (!now.empty() && condition(now)) return true;
      if (MonotonicNowNs() >= deadline) return false;
      changed_.Wait(deadline);
    }
  }
  // That the newest list has these names.
  bool WaitForNames(const std::string& names, bool reachable = true) {
    return WaitFor([&](const auto& lists) {
      return NamesOf(lists.back()) == names &&
             lists.back().reachable == reachable;
    });
  }

 private:
  Mutex mutex_;
  std::vector<MemberList> lists_ AGENTMEM_GUARDED_BY(mutex_);
  WakeEvent changed_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_CLUSTER_MEMBER_LOG_H_
