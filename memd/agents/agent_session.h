// One process's agents and regions: its requests, its faults, and the blocks
// that they wait for, on one thread of its own. A process that stops or locks
// its address space holds up this thread and nobody else's.
//
//   socket -> requests, one at a time --> agents, regions, commits
//   userfaultfd -> faults ------------/
//   port <-> the tenant's blocks
//
// While a request waits (for the store, say), faults are served; the next
// request is read when it has been answered.
//
// It ends when the process is dead or has hung up, or when memd stops. What the
// process had acknowledged as visible is written down then; what it had not
// committed is gone.
//
// Ownership: owns socket, port, regions; borrows what TenantAgents has.
// Threads: Run is the thread; Stop from any. Errors: to the process, in words.
// Cost: idle, nothing; it wakes when something is there.
#ifndef AGENTMEM_MEMD_AGENTS_AGENT_SESSION_H_
#define AGENTMEM_MEMD_AGENTS_AGENT_SESSION_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "memd/agents/agent_book.h"
#include "memd/agents/agent_door.h"
#include "memd/agents/block_port.h"
#include "memd/agents/hbm_ledger.h"
#include "memd/agents/history.h"
#include "memd/agents/manifest_builder.h"
#include "memd/agents/port_nodes.h"
#include "memd/agents/region.h"
#include "memd/agents/region_memory.h"
#include "memd/descriptor_budget.h"
#include "proto/agent_fields.h"
#include "proto/agent_messages.h"
#include "tiering/warmth.h"

namespace agentmem {

class AgentSession;

struct TenantLimits {
  std::string name;
  TenantId id;
  std::uint64_t dram_bytes = 0;
  RegionMemory::Dram dram = RegionMemory::Dram::kLendable;
  std::uint64_t region_bytes_max = kRegionBytesMax;
  std::uint64_t sessions_max = 4096;         // processes
  DescriptorAccount* descriptors = nullptr;  // outlives what is open
  std::uint64_t hbm_quota_bytes = 0;         // of each device; 0: no limit
  // Other nodes change the same refs, and read the same blocks.
  std::optional<SharedRefs> shared;
};

// What the sessions of a tenant share. Threads: thread-safe.
struct TenantAgents {
  TenantAgents(PortSource* ports, const Clock* clock, RefStore* refs,
               BlockStore* store, HbmLedger* hbm_books,
               const TenantLimits& limits)
      : name(limits.name),
        id(limits.id),
        region_bytes_max(limits.region_bytes_max),
        shared(limits.shared.has_value()),
        reachable(shared ? limits.shared->is_reachable : [] { return true; }),
        book(refs, id, AgentBook::RandomLineage, limits.shared),
        memory(ports, clock, name, limits.dram_bytes, limits.dram),
        lone_reads(store, id),
        hbm(hbm_books),
        descriptors(limits.descriptors) {}

  // The sessions that run; `visit` must not wait.
  // `then` before any of them can end.
  void ForEachSession(
      const std::function<void(AgentSession*)>& visit,
      const std::function<void()>& then = [] {}) AGENTMEM_EXCLUDES(mutex);
  void PostTo(std::uint64_t token, std::function<void(AgentSession*)> work)
      AGENTMEM_EXCLUDES(mutex);
  void WakeSession(std::uint64_t token) AGENTMEM_EXCLUDES(mutex);

  const std::string name;
  const TenantId id;
  const std::uint64_t region_bytes_max;
  const bool shared;                      // with other nodes
  const std::function<bool()> reachable;  // what they agree by
  AgentBook book;
  RegionMemory memory;
  LoneReads lone_reads;
  HbmLedger* const hbm;  // of all tenants
  DescriptorAccount* const descriptors;
  // Sessions that look for work without sleeping.
  const int looking_max =
      std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / 4);
  std::atomic<int> looking = 0;
  Mutex mutex;
  absl::flat_hash_map<std::uint64_t, AgentSession*> sessions
      AGENTMEM_GUARDED_BY(mutex);
};

class AgentSession {
 public:
  AgentSession(AgentPeer peer, std::uint64_t token, std::uint64_t instance,
               PortSource* ports, TenantAgents* tenant, const Clock* clock);
  ~AgentSession();

  void Run();
  // In place of Run: nothing will serve it.
  AgentPeer TakePeer() { return std::move(peer_); }
  void Stop();
  // `work` is run on the session's thread, unless it ends before.
  void Post(std::function<void(AgentSession*)> work) AGENTMEM_EXCLUDES(mutex_);
  // Others wait for memory: some pages leave, if any can.
  void WantRoom();
  void Wake();
  std::uint64_t token() const { return token_; }

 private:
  struct Agent {
    std::shared_ptr<AgentState> state;
    bool writes = false;
    std::uint64_t fence = 0;
    std::uint64_t lineage = 0;
    std::uint64_t counter = 0;  // of new blocks
  };
  struct Mapped {
    DescriptorCharge charge;  // ends after the region
    std::uint32_t agent = 0;  // handle
    std::shared_ptr<AgentState> state;
    RegionTools tools;
    std::unique_ptr<Region> region;
    std::unique_ptr<VersionHold> hold;  // the region's version
    bool plan_comes = false;            // its working set was asked for
  };
  struct HeldVersion {
    std::shared_ptr<const Manifest> manifest;
    std::unique_ptr<VersionHold> hold;
  };
  struct Request {
    AgentRequest fixed;
    std::string tail;
    UniqueFd fd;
  };
  struct Reply {
    std::uint64_t value[6] = {};
    std::string tail;
    UniqueFd fd;
  };

  // Blocks of a commit on their way.
  struct CommitBlocks {
    Ack ack = Ack::kVisible;
    TimeNs deadline = kNoDeadline;
    Agent* agent = nullptr;
    std::string payload;  // of the version block
    std::string pack;     // of the block that is being filled
    Key pack_key;
    std::size_t estimate = 0;
    std::vector<Key> made;    // in hand
    std::vector<Key> needed;  // by the versions, and written
    bool published = false;   // or it was tried
    // The store may have the record though it said that it failed: then its
    // blocks have to stay until a restart tells.
    bool IsUnknown(const absl::Status& status) const {
      return published && status.code() == absl::StatusCode::kUnavailable;
    }
    std::size_t asked = 0;
    std::shared_ptr<std::size_t> answered = std::make_shared<std::size_t>(0);
    std::shared_ptr<CompletionEntry> failure;
  };
  // A region's next version, on its way with others of the agent.
  struct NextVersion {
    Mapped* mapped = nullptr;
    std::vector<Region::Captured> pages;
    std::shared_ptr<const Manifest> base;
    std::shared_ptr<const Manifest> made;
    std::string bytes;
    bool with_ref = false;  // `bytes` go in one write with it
  };

  // agent_session.cc: the loop.
  absl::Status Welcome();
  void RunPosted() AGENTMEM_EXCLUDES(mutex_);
  bool ServeSocket();
  bool ServeFaults();
  bool PollPort();
  bool RetryWaiting(TimeNs now);
  bool LookOn(bool work, TimeNs now);
  void StopLooking();
  void Sleep(bool also_socket, TimeNs until);
  bool ServeUntil(const std::function<bool()>& done, TimeNs deadline);
  absl::StatusOr<bool> Receive(Request* request);
  void Answer(const Request& request, const absl::Status& status,
              const Reply& reply);
  absl::Status Dispatch(Request* request, Reply* reply);
  void DropDeadBlocks(Mapped* mapped);
  void Settle();
  void SettleLater(std::shared_ptr<AgentState> state);
  void SettleSoon();

  // session_agents.cc
  absl::Status UseFaults(Request* request, Reply* reply);
  absl::Status OpenAgent(const Request& request, Reply* reply);
  absl::Status CloseAgent(std::uint32_t handle);
  absl::Status SetPhase(const Request& request, Reply* reply);
  absl::Status SetLabels(const Request& request);
  absl::Status SetRetention(const Request& request);
  absl::Status ListAgents(const Request& request, Reply* reply);
  absl::Status ShowAgent(const Request& request, Reply* reply);
  absl::Status ForkAgent(const Request& request);
  absl::Status DeleteAgent(const Request& request);
  absl::Status Hibernate(const Request& request, Reply* reply);
  absl::Status Resume(const Request& request, Reply* reply);
  absl::Status Watch(const Request& request, Reply* reply);
  absl::Status Unwatch(const Request& request);
  AgentEntry EntryOf(AgentState* state);
  absl::StatusOr<Agent*> FindAgent(std::uint32_t handle);

  // session_hbm.cc
  absl::StatusOr<std::uint32_t> FreeWord() const;
  absl::Status HbmOpen(const Request& request, Reply* reply);
  absl::Status HbmReport(const Request& request, Reply* reply);
  absl::Status HbmClose(const Request& request);
  absl::Status HbmList(const Request& request, Reply* reply);

  // session_room.cc
  struct WarmRegion {
    tiering::Warmth warmth;
    Region* region;
  };
  std::vector<WarmRegion> ByWarmth(TimeNs now);
  bool MakeRoom();
  bool AskColder(tiering::Warmth own, TimeNs now);
  void AskOthersForRoom();
  void GiveRoom(tiering::Warmth below);
  void GiveSome();
  void PublishColdest();

  // session_regions.cc
  absl::Status MakeRegion(const Request& request, AgentState* state);
  absl::StatusOr<DescriptorCharge> ChargeRegion(const std::string& name) const;
  absl::Status OpenRegion(const Request& request, Reply* reply);
  absl::Status MapRegion(const Request& request);
  absl::Status CloseRegion(std::uint32_t handle);
  absl::Status Populate(const Request& request);
  absl::Status Hint(const Request& request, Reply* reply);
  std::uint64_t LetGoAgent(const std::string& agent);
  bool ReadPlanned();
  void FetchWorkingSet(std::uint32_t handle, Mapped* mapped);
  void KeepWorkingSet(Mapped* mapped);
  bool PutSoon(const Key& key, std::string_view bytes);
  absl::Status PrefetchWorkingSet(const std::shared_ptr<AgentState>& state,
                                  const RegionRecord& region,
                                  std::uint64_t* bytes_left,
                                  std::uint64_t* asked);
  absl::Status DemoteBlocks(AgentState* state, Reply* reply);
  absl::Status Refresh(const Request& request, Reply* reply);
  absl::StatusOr<Mapped*> FindRegion(std::uint32_t handle);
  absl::StatusOr<Mapped*> FindRange(const Request& request);

  // session_versions.cc
  absl::StatusOr<HeldVersion> VersionOf(
      const std::shared_ptr<AgentState>& state, const std::string& region,
      std::uint64_t number);
  absl::StatusOr<RegionRecord> RecordOf(AgentState* state,
                                        const std::string& region);
  absl::Status History(const Request& request, Reply* reply);
  absl::Status DiffVersions(const Request& request, Reply* reply);
  absl::Status Revert(const Request& request, Reply* reply);
  absl::Status RevertTo(CommitBlocks* blocks, const Request& request,
                        Reply* reply);

  // session_commit.cc
  absl::Status Commit(const Request& request, Reply* reply);
  absl::Status MakeVersions(const VersionInfo& info,
                            std::vector<NextVersion>* versions,
                            CommitBlocks* blocks);
  absl::Status MakeVersion(VersionInfo info, NextVersion* next,
                           CommitBlocks* blocks);
  absl::Status Publish(std::vector<NextVersion>* versions,
                       CommitBlocks* blocks);
  absl::Status SettleAhead(AgentState* state, TimeNs deadline);
  absl::Status ChangeSettled(AgentState* state, TimeNs deadline,
                             const std::function<absl::Status()>& change);
  void PutDown(AgentState* state, const std::vector<Key>& keys);
  void GiveUp(CommitBlocks* blocks, const absl::Status& why);
  absl::Status Capture(Mapped* mapped,
                       const std::vector<Region::Captured>& pages,
                       CommitBlocks* blocks, VersionChange* change);
  absl::StatusOr<PageContent> CapturePage(Region* region,
                                          const Region::Captured& captured,
                                          CommitBlocks* blocks,
                                          VersionChange* change);
  absl::Status Place(std::string_view bytes, Piece* piece, CommitBlocks* blocks,
                     VersionChange* change);
  absl::Status FlushPack(CommitBlocks* blocks, VersionChange* change);
  void MakeDurable(const Key& key, CommitBlocks* blocks);
  void AddStored(const VersionLink& link);
  absl::Status SettleBlocks(AgentState* state, TimeNs deadline);
  absl::Status AcquireGrant(std::uint32_t length, TimeNs deadline,
                            BlockPort::Grant* grant);
  absl::Status PutBlock(const Key& key, std::string_view bytes,
                        CommitBlocks* blocks);
  absl::Status AwaitBlocks(CommitBlocks* blocks);
  static Key NewKey(Agent* agent);
  CommitBlocks NewBlocks(Agent* agent, Ack ack, TimeNs deadline);

  AgentPeer peer_;
  const std::uint64_t token_;
  const std::uint64_t instance_;
  PortSource* const ports_;
  TenantAgents* const tenant_;
  const Clock* const clock_;
  UniqueFd wake_;  // eventfd: posted work, or Stop
  Mutex mutex_;
  std::vector<std::function<void(AgentSession*)>> posted_
      AGENTMEM_GUARDED_BY(mutex_);
  std::atomic<bool> room_wanted_{false};
  std::atomic<std::uint8_t> coldest_{0xff};  // Warmth of what could leave
  std::atomic<bool> stopping_{false};
  bool ended_ = false;

  std::unique_ptr<BlockPort> port_;
  std::unique_ptr<PortNodes> nodes_;
  std::shared_ptr<SharedMemory> board_;
  std::array<std::shared_ptr<AgentState>, kBoardWords> watched_;
  std::optional<std::uint32_t> hbm_word_;  // of the board; from its first open
  HbmLedger::Place hbm_listed_;            // its last page
  UniqueFd faults_;
  TrackingMode mode_ = TrackingMode::kNone;
  absl::flat_hash_map<std::uint32_t, Agent> agents_;
  absl::flat_hash_map<std::uint32_t, std::unique_ptr<Mapped>> regions_;
  std::uint32_t next_handle_ = 0;

  bool making_room_ = false;
  bool collects_ = false;  // RegionTools::collects
  TimeNs ask_again_ = 0;
  TimeNs colder_asked_ = 0;  // 0: who was asked has answered
  TimeNs publish_at_ = kNoDeadline;
  TimeNs last_work_ = 0;
  DurationNs look_ns_ = 0;  // how long without sleeping
  bool looks_ = false;      // counted in TenantAgents::looking
  TimeNs retry_at_ = kNoDeadline;
  TimeNs settle_at_ = kNoDeadline;
  // Could not be settled, and may not be open here any more.
  std::vector<std::shared_ptr<AgentState>> settling_;
  std::unique_ptr<char[]> packet_;  // the one that is received
  std::unique_ptr<char[]> scratch_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_AGENT_SESSION_H_
