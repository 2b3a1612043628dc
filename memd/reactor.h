// The thread that owns a node: it waits for sockets, doorbells, process deaths,
// the store and posted work, and drives the state machine.
//
// One turn of the loop, in this order: rings of active clients (work that
// needs no system call to be seen), the store's completions, signals to
// clients, then, if nothing moved for `spin`, sleep in epoll. A client's ring
// is polled while it is active; before sleeping its memd_sleeping is set, and
// from then on its doorbell makes it active again.
//
// Ownership: owns sockets, pidfds and client files; borrows node and store.
// Threads: Run belongs to one thread; Post, Stop, StopNow and AdminBackend
// are thread-safe. Errors: Start says what could not be opened. Cost: idle, it
// wakes ten times a second while clients are attached, else never.
#ifndef AGENTMEM_MEMD_REACTOR_H_
#define AGENTMEM_MEMD_REACTOR_H_

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "memd/agents/agent_door.h"
#include "memd/agents/port_source.h"
#include "memd/descriptor_budget.h"
#include "memd/dram/shared_memory.h"
#include "memd/durability_watch.h"
#include "memd/handshake.h"
#include "memd/live_nodes.h"
#include "memd/node.h"
#include "memd/pool_parts.h"
#include "memd/populator.h"
#include "memd/remote_store.h"
#include "memd/service/snapshot.h"
#include "memd/socket_file.h"
#include "memd/store/store_losses.h"

namespace agentmem {

// What a reactor must know of a tenant to let clients in.
struct TenantDoor {
  Tenant* tenant = nullptr;
  const SharedMemory* index = nullptr;
  const SharedMemory* data = nullptr;
  DescriptorAccount* descriptors = nullptr;  // outlives the reactor
  std::vector<std::uint32_t> users;
  std::array<std::uint8_t, 32> key = {};
  std::size_t populator_index = 0;
};

struct ReactorOptions {
  std::string socket_path;
  std::string state_directory;
  std::uint64_t clients_max = 4096;
  DurationNs spin_ns = 20 * kMicrosecondNs;
  DurationNs stop_ns = 60 * kSecondNs;  // from Stop to the end of Run
  std::uint64_t instance = 0;
  std::function<std::uint64_t()> disk_bytes;
  Populator* populator = nullptr;  // may be missing: first writers touch
  AgentDoor* agents = nullptr;     // may be missing: agents are refused
  PoolParts* pool = nullptr;       // missing: the node is alone
  LiveNodes* live = nullptr;       // of a node with a pool
  // Of a node that may start without its cluster: has that confirmed its
  // tenants?
  std::function<bool()> proven;
  // Of a node without a disk: its store, which is also the constructor's.
  RemoteStore* remote_store = nullptr;
  std::uint64_t serve_bytes = 0;  // of its store, for peers; 0: none
  StoreLosses losses;             // of its store, as it was opened
};

// The process at the other end, by a descriptor that no reuse of its pid can
// turn into another; invalid when there is none.
UniqueFd ProcessOf(int socket, std::int32_t pid);

// Whether descriptors can be sent to the socket, or to those that a listener
// accepts. Linux 6.16; before, they always can.
void TakeDescriptors(int socket, bool take);

class Reactor final : public AdminBackend, public PortSource, public PoolHost {
 public:
  Reactor(const ReactorOptions& options, const Clock* clock, Node* node,
          BlockStore* store, std::vector<TenantDoor> doors);
  ~Reactor() override;

  // Binds the socket. UNAVAILABLE: somebody else answers there.
  absl::Status Start();
  // Serves until Stop, then drains: what memory alone has is written down.
  // False: StopNow ended that.
  bool Run();
  // From a signal handler too: it writes to an eventfd.
  void Stop();
  // False: Run has ended, or is about to.
  bool StopNow();

  // Runs `work` on the reactor's thread; false when it has ended. At most
  // kPostedMax wait.
  bool Post(std::function<void()> work);

  absl::StatusOr<NodeSnapshot> Snapshot() override;
  absl::StatusOr<BlockSnapshot> ShowBlock(const std::string& tenant,
                                          const Key& key) override;
  absl::StatusOr<FabricSnapshot> Fabric() override;
  absl::StatusOr<PortHandle> OpenPort(const std::string& tenant,
                                      const std::string& name,
                                      std::int32_t pid) override;
  absl::StatusOr<LentBlocks> WalkLent(const std::string& tenant,
                                      std::size_t cursor) override;

  // Of a node with a pool.
  PoolIdentity identity() const override AGENTMEM_EXCLUDES(identity_mutex_);
  void AddPeer(const PoolPeer& peer) override;
  void RemovePeer(const std::string& node) override;
  absl::StatusOr<std::vector<PoolPeerSnapshot>> Peers() override;
  void ShowCluster(const ClusterView& view) override;

  void SetAgents(AgentDoor* agents) { options_.agents = agents; }  // before Run

 private:
  // gRPC threads are far fewer; a thread for each client with agents.
  static constexpr std::size_t kPostedMax = 8192;

  struct Connection {
    UniqueFd socket;
    UniqueFd process;   // pidfd
    UniqueFd doorbell;  // eventfd
    UniqueFd wake;      // eventfd; ports only, in place of a futex
    SharedMemory file;
    DescriptorCharge charge;
    Tenant* tenant = nullptr;
    Client* client = nullptr;  // nullptr: has not said hello
    std::int32_t pid = 0;
    std::uint32_t uid = 0;
    TimeNs accepted_at = 0;
    bool active = false;
  };

  // reactor.cc
  std::size_t Turn(TimeNs now);
  void Sleep(TimeNs now);
  void Handle(std::uint64_t tag, std::uint32_t events, TimeNs now);
  void Tell();
  void RunPosted();
  void TouchAhead();
  bool AgentsStopped(TimeNs now);
  // True: it has ended, or was given up.
  bool Drain(TimeNs now);
  int TimeoutMs(TimeNs now) const;
  void Watch(int fd, std::uint64_t tag, std::uint32_t events);
  void Activate(std::uint64_t id);
  DurationNs SpinNs() const;

  // reactor_pool.cc
  static constexpr std::uint64_t kTagFabric = 4;  // in epoll
  absl::Status WatchPool();
  void NoteAddress() AGENTMEM_EXCLUDES(identity_mutex_);
  std::size_t PoolTurn(TimeNs now);

  // reactor_health.cc
  void LookAtDurability(TimeNs now);
  std::vector<Trouble> Troubles(TimeNs now);

  // reactor_clients.cc
  // Strangers at a time: each costs descriptors, until it says who it is.
  static constexpr std::size_t kStrangersMax = 256;
  void StopAccepting();
  void Accept(TimeNs now);
  void OnSocket(std::uint64_t id, TimeNs now);
  absl::Status Attach(std::uint64_t id, const HelloRequest& hello, TimeNs now);
  absl::StatusOr<const TenantDoor*> FindDoor(const std::string& tenant,
                                             std::uint32_t uid) const;
  void Refuse(std::uint64_t id, const absl::Status& status);
  void End(std::uint64_t id, TimeNs now);
  void DropStrangers(TimeNs now);

  // reactor_ports.cc
  absl::StatusOr<PortHandle> AttachPort(const std::string& tenant,
                                        const std::string& name,
                                        std::int32_t pid);
  absl::Status HandOver(std::uint64_t id, const HelloRequest& hello);

  ReactorOptions options_;
  const Clock* const clock_;
  Node* const node_;
  BlockStore* const store_;
  std::vector<TenantDoor> doors_;
  const TimeNs started_at_;

  UniqueFd epoll_;
  std::unique_ptr<SocketFile> file_;
  UniqueFd listener_;
  UniqueFd wake_;  // eventfd: posted work, or Stop
  std::atomic<bool> stop_{false};
  std::atomic<bool> stop_now_{false};
  absl::flat_hash_map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::uint64_t next_id_ = 16;  // below: tags of the fixed descriptors
  std::vector<std::uint64_t> active_;
  std::size_t ports_ = 0;
  std::size_t strangers_ = 0;  // connections that have not said hello
  bool accepting_ = true;      // the listener is watched
  TimeNs accept_again_ = 0;    // not before: there were no descriptors
  bool agents_busy_ = false;   // the agents have something to clear away
  bool draining_ = false;
  bool serves_ = true;
  TimeNs stop_until_ = 0;    // 0: nobody said Stop
  TimeNs agents_until_ = 0;  // then blocks have their turn
  TimeNs last_work_ = 0;
  TimeNs next_tick_ = 0;
  TimeNs next_pool_tick_ = 0;
  TimeNs last_pool_work_ = 0;
  DurabilityWatch durability_;
  TimeNs next_durability_look_ = 0;
  // Of a node that is alone: made when it is first asked for.
  // Where peers reach this node now; of the reactor, and of who asks for it.
  mutable Mutex identity_mutex_;
  std::string fabric_address_ AGENTMEM_GUARDED_BY(identity_mutex_);
  Mutex survey_mutex_;
  std::optional<RdmaSurvey> survey_ AGENTMEM_GUARDED_BY(survey_mutex_);
  std::uint64_t clients_died_ = 0;
  std::uint64_t clients_refused_ = 0;

  Mutex mutex_;
  std::vector<std::function<void()>> posted_ AGENTMEM_GUARDED_BY(mutex_);
  bool ended_ AGENTMEM_GUARDED_BY(mutex_) = false;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_REACTOR_H_
