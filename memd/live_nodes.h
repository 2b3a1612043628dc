// Which nodes are members now: written by the thread that follows the list,
// read by whoever wants to know.
//
// Ownership: a copy of the last list. Threads: thread-safe. Errors: none.
// Cost: a mutex.
#ifndef AGENTMEM_MEMD_LIVE_NODES_H_
#define AGENTMEM_MEMD_LIVE_NODES_H_

#include <string>

#include "base/mutex.h"
#include "memd/pool/pool_host.h"

namespace agentmem {

class LiveNodes {
 public:
  void Set(const ClusterView& view) AGENTMEM_EXCLUDES(mutex_) {
    MutexLock lock(&mutex_);
    view_ = view;
  }
  ClusterView Get() const AGENTMEM_EXCLUDES(mutex_) {
    MutexLock lock(&mutex_);
    return view_;
  }
  bool IsReachable() const AGENTMEM_EXCLUDES(mutex_) {
    MutexLock lock(&mutex_);
    return view_.reachable;
  }
  // While the agreement cannot be reached nobody is called dead.
  bool IsAlive(const std::string& node, std::uint64_t instance) const
      AGENTMEM_EXCLUDES(mutex_) {
    MutexLock lock(&mutex_);
    // A list that etcd never gave, or cannot confirm now.
    if (view_.epoch == ClusterEpoch() || !view_.reachable) return true;
    for (const ClusterView::Member& member : view_.members) {
      if (member.node == node) {
        return member.instance == 0 || member.instance == instance;
      }
    }
    return false;
  }

 private:
  mutable Mutex mutex_;
  ClusterView view_ AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_LIVE_NODES_H_
