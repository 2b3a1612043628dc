// Membership by leases in etcd: a node is in the list while its key is there
// (memd/cluster/node_lease.h), and a watch tells of each change.
//
// The cluster epoch is etcd's revision of the last change of a node's key, so
// that nodes which have seen the same changes give a list the same epoch; one
// that had to read the list anew, because the changes it missed are compacted,
// may give a higher one.
//
// etcd away, and back: the last list stays, with `reachable` false. Leases that
// ran out while etcd stood still say nothing about their nodes; so when it can
// be reached again a list that lacks somebody is believed only after the time
// in which everybody could take a new lease. One that lacks nobody is believed
// at once.
//
// Ownership: borrows the client; owns two threads; the destructor leaves the
// cluster. Threads: as Membership; the callback may be slow, not endless: the
// lease has a thread of its own. Errors: Start: INVALID_ARGUMENT,
// FAILED_PRECONDITION (another run of memd lives under this node's name: both
// are named). etcd's absence is no error: the list is this node alone then, of
// epoch 0 and not reachable, until it comes. Cost: the lease's beats, and one
// message a change; nothing else, however many nodes there are. Start blocks
// for up to kEtcdCallNs, and while an earlier run's lease lasts.
#ifndef AGENTMEM_MEMD_CLUSTER_ETCD_MEMBERSHIP_H_
#define AGENTMEM_MEMD_CLUSTER_ETCD_MEMBERSHIP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "base/mutex.h"
#include "memd/cluster/etcd_client.h"
#include "memd/cluster/etcd_watch.h"
#include "memd/cluster/membership.h"
#include "memd/cluster/node_lease.h"
#include "memd/cluster/wake_event.h"

namespace agentmem {

struct EtcdMembershipOptions {
  std::string cluster;
  std::int64_t lease_s = 1;  // etcd grants 2 at least at its defaults
  // This node has its lease (again), or lost it, or may have by its own clock:
  // others may take over what it did meanwhile. From a thread of the
  // membership; quick.
  std::function<void(bool held)> on_held;
};

class EtcdMembership final : public Membership {
 public:
  static absl::StatusOr<std::unique_ptr<EtcdMembership>> Make(
      EtcdClient* client, EtcdMembershipOptions options);
  ~EtcdMembership() override;

  absl::Status Start(const MemberInfo& self, Callback callback) override;

 private:
  struct Entry {
    MemberInfo member;
    std::int64_t revision = 0;
  };
  using Entries = std::map<std::string, Entry>;

  EtcdMembership(EtcdClient* client, EtcdMembershipOptions options);

  void Run();
  // Reads what is not known yet, then follows the changes until that breaks.
  absl::Status Follow();
  absl::Status CatchUp(TimeNs deadline);
  absl::Status ReadList(std::int64_t revision, TimeNs deadline);
  void Apply(const EtcdEvent& event);
  void Insert(const EtcdKeyValue& value, Entries* entries) const;
  // Calls back if there is something new that may be believed.
  void Publish();
  bool LacksNobody() const;
  TimeNs NextLook() const;
  void WakeWatcher();

  EtcdClient* const client_;
  const EtcdMembershipOptions options_;
  const std::string prefix_;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> lease_reachable_ = false;
  WakeEvent wake_;
  Mutex mutex_;
  EtcdWatch* watch_ AGENTMEM_GUARDED_BY(mutex_) = nullptr;

  // Constant after Start.
  MemberInfo self_;
  Callback callback_;
  std::unique_ptr<NodeLease> lease_;

  // Of the watching thread.
  Entries entries_;
  std::int64_t seen_revision_ = 0;  // all changes up to it are in entries_
  std::uint64_t epoch_ = 0;
  bool watching_ = false;
  bool published_once_ = false;
  MemberList published_;
  TimeNs believe_from_ = 0;

  std::thread thread_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_ETCD_MEMBERSHIP_H_
