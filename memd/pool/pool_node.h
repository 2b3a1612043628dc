// One node's part in the pool: it puts blocks into other nodes' memory, reads
// them back, and serves its own export extents; apart from threads and clocks.
//
// A put is a leg to each of the nodes that placement names: reserve, write,
// commit. A get asks one node at a time, in the order of placement, the one
// first where it knows the block to be; each copy is verified after arrival,
// and one that does not fit is looked up once more, then passed over.
//
//   leg:  asking (a message waits for its answer) --> moving (a one-sided
//         operation runs) --> asking (commit) --> done
//
// A put whose room was reserved ahead (room_ahead.h) begins with moving; where
// messages follow writes its commit is sent as soon as the bytes are posted,
// and its answer may come before the write completes. So a put of a size that
// is put often takes one round trip.
//
// A node that is not heard of is passed over (placement is over those that are
// up); what was under way to it fails over to the next.
//
// Repair: after each change of placement the node walks over its own export
// extents and puts what the nodes that placement names now may lack there; a
// reservation that answers "I have it" is the comparison. What does not belong
// here any more is dropped once all of them have it. Of two nodes that drop a
// copy since others have it, those others come before both of them in the
// block's order; so the first two never do, and two copies stay.
//
// Peers are other daemons of the cluster: who they are was proven in their
// Hello. What they send is checked all the same; what does not fit is dropped
// and counted.
//
// Ownership: borrows transport and export pool. Threads: reactor-only. Errors:
// in completions (pool.h). Cost: Poll and Submit never block and do not
// allocate in the steady state but for messages; a put or get copies nothing
// unless its place is this node. Bounds: kOpsMax operations; of each peer
// kMovingBytesMax bytes under way, what is beyond waits. An operation ends by
// its deadline, or kPoolOpNs, and a Tick; but for bytes that are on their way,
// which take until kMoveNsMin, or their link, at most.
#ifndef AGENTMEM_MEMD_POOL_POOL_NODE_H_
#define AGENTMEM_MEMD_POOL_POOL_NODE_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "memd/pool/export_pool.h"
#include "memd/pool/lent_drain.h"
#include "memd/pool/piece_digest.h"
#include "memd/pool/pool.h"
#include "memd/pool/pool_peer.h"
#include "memd/pool/room_ahead.h"
#include "memd/pool/sealing.h"
#include "memd/pool/store_server.h"
#include "memd/pool/stored_blocks.h"
#include "proto/pool_messages.h"
#include "tiering/placement.h"

namespace agentmem {

class MessageBuilder;

struct PoolNodeOptions {
  std::string node;  // this one's name
  std::string rack;
  std::uint64_t instance = 0;
  // Of its own export extents, as Transport::Register answered; if there are.
  MemoryId export_memory;
  // ExpectMembers will be called: until all of them were met, what is not found
  // may be with one of them.
  bool expects_members = false;
  // Bytes a second that repair may write.
  std::uint64_t repair_bytes_per_second = 256ULL << 20;
};

class PoolNode final : public Pool {
 public:
  static constexpr std::size_t kOpsMax = 4096;

  // `exports` may be null: this node lends nothing.
  PoolNode(const PoolNodeOptions& options, Transport* transport,
           ExportPool* exports);
  ~PoolNode() override;

  // A peer showed its card. One of the same name and another instance takes the
  // older one's place.
  void AddPeer(const PoolPeer& peer, TimeNs now);
  // Who the members are now, this node among them.
  void ExpectMembers(std::vector<std::string> nodes);
  // It is no member any more.
  void RemovePeer(const std::string& node, TimeNs now);

  // Peers find what this node's store has, too. Before the first Poll.
  void UseStore(StoredBlocks* stored) { stored_ = stored; }
  // Peers without a disk may keep their blocks in it. After UseSealing, before
  // the first Poll.
  void ServeStore(ServedStore* store);
  // This node has no disk: kKeep goes to the store of one of these, placement
  // says of which; none named: of any member that serves. Before the first
  // Poll.
  void UseRemoteStore(std::vector<std::string> nodes);
  // Before this node ends: what it lends memory for goes into its `store`. Once
  // all of that is there, peers' puts and pings get no answer any more: as of a
  // node that has ended, so that they go elsewhere. Null: it lends nothing. Not
  // to be used after this.
  std::unique_ptr<LentDrain> DrainLent(ServedStore* store);
  // Blocks are sealed from here on, and only sealed ones are taken. Before the
  // first Poll.
  void UseSealing(Sealing* sealing) { sealing_ = sealing; }
  // The end of a StoredBlocks::Load.
  void OnLoaded(std::uint64_t generation, Code code);
  // The end of a ServedStore::Write.
  void OnStored(std::uint64_t generation, const StoreVerdict& verdict);

  absl::StatusOr<MemoryId> Register(std::span<char> memory) override;
  bool Submit(const PoolOp& op) override;
  bool usable() const override { return places_ != 0; }
  std::size_t places() const override { return places_; }
  std::size_t places_elsewhere() const override { return places_elsewhere_; }

  // Moves everything on; completions into `out`, their number. What is left is
  // for the next call. To be called before Tick: what a peer said while nobody
  // listened then counts.
  std::size_t Poll(TimeNs now, std::span<PoolCompletion> out);
  // Ends of operations on other nodes' stores; what is left is for the next
  // call.
  std::size_t TakeStoreDone(std::span<PoolStoreDone> out);
  // What time brings; every 10 ms while busy(), else every 100 ms.
  void Tick(TimeNs now);
  bool busy() const { return ops_used_ != 0 || repairing_ || connecting_; }
  // Nothing is left to repair, nor was any of it given up.
  bool whole() const {
    return !repairing_ && !repair_wanted_ && strays_.empty() &&
           repairs_in_flight_ == 0;
  }
  // Events of the network since the last call: is it worth to look again soon?
  std::size_t TakeActivity() { return std::exchange(activity_, 0); }
  // What lacked room since the last call. It may be garbage that takes it.
  struct Shortage {
    // Blocks that may not leave, in what this node lends.
    bool here = false;
    // Puts of this node's elsewhere; or a peer has hardly any left.
    bool elsewhere = false;
  };
  Shortage TakeShortage();
  // Blocks of ours that a peer dropped to make room.
  std::vector<ExportPool::Name> TakeRevoked() {
    return std::exchange(revoked_, {});
  }

  PoolSnapshot Snapshot(TimeNs now) const;
  // For tests: empty, or what is wrong.
  std::string CheckInvariants() const;

 private:
  static constexpr std::uint32_t kSelf = 0xfffffffe;
  static constexpr std::uint32_t kNobody = 0xffffffff;
  static constexpr std::size_t kLegs = 2;
  static constexpr std::size_t kOutboxes = 8;
  static constexpr std::size_t kCandidates = 6;

  struct Location {
    std::uint64_t offset = 0;
    std::uint64_t generation = 0;
    std::uint64_t checksum = 0;
    SealedHeader seal = {};
  };

  enum class Step : std::uint8_t { kIdle, kAsking, kQueued, kMoving, kDone };

  struct Leg {
    std::uint32_t peer = kNobody;
    Step step = Step::kIdle;
    PoolMessage asking = PoolMessage::kPing;
    Code code = Code::kUnavailable;
    Location at;
    std::uint8_t pieces = 0;
    std::uint8_t posted = 0;
    std::uint8_t moved = 0;
    bool hinted = false;    // `at` is what was remembered, not just looked up
    bool again = false;     // what was just looked up did not fit either, once
    TimeNs asked_at = 0;    // for the place that is written to
    bool ahead = false;     // a put: into room that was reserved ahead
    bool early = false;     // its commit is asked for while it moves
    bool answered = false;  // and `answer` came
    Code answer = Code::kUnavailable;

    // Nothing of it is on the network.
    bool still() const { return step != Step::kMoving || posted == moved; }
    // Of what was asked of the peer an answer is waited for.
    bool Awaits(PoolMessage type) const {
      return (step == Step::kAsking && asking == type) ||
             (type == PoolMessage::kCommit && step == Step::kMoving && early);
    }
  };

  struct Op {
    PoolOp op;
    std::uint32_t sequence = 0;  // of this use of the place; 0: free
    bool repair = false;
    bool leaves = false;  // a repair: the copy here goes when all have it
    std::uint64_t source_generation = 0;  // repair: of the copy here
    std::uint64_t changes = 0;            // of placement, before this repair
    std::uint8_t legs = 0;
    std::array<Leg, kLegs> leg;
    // Get, find and drop: who may have it, in the order of asking. Then, if so
    // wanted, all others that there are.
    std::array<std::uint32_t, kCandidates> candidates;
    std::uint8_t candidate_count = 0;
    std::uint8_t candidate_next = 0;
    bool everywhere = false;
    std::uint32_t everywhere_next = 0;
    bool twice = false;        // all of them were asked once
    bool unreachable = false;  // one of them did not answer
    bool corrupt = false;      // one of them had other bytes
    TimeNs deadline = 0;
    TimeNs failed_at = 0;  // a put: when a node first went away under it
    std::uint32_t kept_by = kNobody;  // kKeep: who was asked last
    PieceDigest digest;
    PoolFound found = {};
    // A put: what goes over the network, its hash, and its seal.
    const char* wire = nullptr;
    MemoryId wire_memory;
    char* buffer = nullptr;  // of the sealing, where `wire` lies in one
    bool hashed = false;
    std::uint64_t hash = 0;
    SealedHeader seal = {};
  };

  struct LegRef {
    std::uint32_t op = 0;
    std::uint32_t sequence = 0;
    std::uint8_t leg = 0;
  };

  struct Peer {
    PoolPeer card;
    std::uint64_t id = 0;  // of its name
    PoolPeerState state = PoolPeerState::kConnecting;
    LinkId link;
    bool linked = false;
    bool gone = false;  // no member any more; the place is kept
    bool met = false;   // it was up, once
    TimeNs connected_at = 0;
    // An answer of its: not only that it reaches us, but that we reach it.
    TimeNs heard_at = 0;
    TimeNs progress_at = 0;  // while something is under way to it
    TimeNs pinged_at = 0;
    TimeNs retry_at = 0;
    TimeNs lost_at = 0;  // when it was up last; 0: it is, or never was lost
    DurationNs backoff = 0;
    DurationNs round_trip_ns = 0;
    std::uint64_t room_bytes = 0;
    std::uint32_t moving = 0;
    std::uint64_t moving_bytes = 0;
    std::uint64_t asked = 0;  // requests without an answer yet
    std::array<std::vector<LegRef>, kOutboxes> outbox;  // by request type
    RoomAhead ahead;
    std::deque<LegRef> waiting;      // for credit to move
    std::deque<std::string> unsent;  // answers, revocations
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
    std::uint64_t losses = 0;
    // Of its store, which keeps this node's blocks.
    std::uint64_t keeps = 0;
    std::uint64_t bytes_kept = 0;
    std::uint64_t keeps_refused = 0;
    StoreRefusal refusal = StoreRefusal::kNone;  // the last, until it takes one
    std::uint64_t refusal_limit = 0;
    std::uint64_t refusal_used = 0;
    std::uint32_t refusals_told = 0;  // bits: the log has them
  };

  struct Request {
    std::uint32_t peer = 0;
    PoolMessage type = PoolMessage::kFind;
    TimeNs deadline = 0;
    bool prompt = true;  // no disk stands between it and its answer
    std::vector<LegRef> legs;
    // Instead of legs: room for blocks to come.
    RoomAhead::Wanted ahead;
    TimeNs asked_at = 0;
  };

  // An answer to finds, some of which this node's store is asked for.
  struct Deferred {
    std::uint32_t peer = 0;
    std::uint64_t instance = 0;
    PoolHeader header = {};
    std::vector<PoolFound> found;
    std::uint32_t left = 0;
  };
  struct StoredLoad {
    ExportPool::Block block;
    std::vector<std::pair<std::uint64_t, std::uint32_t>> waiters;  // id, entry
    char* buffer = nullptr;  // of the sealing, where it is read to
  };

  struct Stray {
    ExportPool::Name name;
    TimeNs at = 0;
  };

  // Where a block of this name was last: wrong at times, and then looked up.
  struct Hint {
    ExportPool::Name name;
    std::uint64_t node = 0;  // 0: none
    std::uint64_t instance = 0;
    Location at;
  };

  // pool_node.cc: operations.
  std::uint32_t NewOp(const PoolOp& op);
  void StartSubmitted();
  void Start(std::uint32_t index);
  void Finish(std::uint32_t index, Code code);
  bool IsCurrent(const LegRef& ref) const;
  void Ask(std::uint32_t index, std::uint8_t leg, PoolMessage type);
  void QueueMove(std::uint32_t index, std::uint8_t leg);
  void Pump(std::uint32_t peer);
  bool PostMove(const LegRef& ref);
  void OnMoved(std::uint64_t ticket, Code code);
  void FailLeg(std::uint32_t index, std::uint8_t leg, Code code);
  void ExpireOps();
  void Advance(TimeNs now);
  void NoteConnecting();

  // pool_node_get.cc
  bool HasMissingMembers() const;
  bool MayBeElsewhere() const;
  bool MayBeForgotten(const Op& op) const;
  void StartGet(std::uint32_t index);
  void NextCandidate(std::uint32_t index, std::uint8_t leg);
  std::uint32_t TakeCandidate(Op* op);
  void AddCandidate(Op* op, std::uint32_t peer);
  void AddPlaces(Op* op);
  void GetHere(std::uint32_t index, std::uint8_t leg);
  void OnFound(std::uint32_t index, std::uint8_t leg, const PoolFound& found);
  void FinishRead(std::uint32_t index, std::uint8_t leg);
  // What came is the block, and in the clear from here on.
  bool TakeBytes(Op* op, std::uint64_t hash, const Location& at);

  // pool_node_put.cc
  void StartPut(std::uint32_t index);
  bool SealPut(std::uint32_t index);
  std::uint64_t HashOf(Op* op);
  void HashAhead();
  void PutHere(std::uint32_t index, std::uint8_t leg);
  void PutThere(std::uint32_t index, std::uint8_t leg);
  void OnReserved(std::uint32_t index, std::uint8_t leg,
                  const PoolReserved& reserved);
  void FinishWrite(std::uint32_t index, std::uint8_t leg);
  void OnCommitted(std::uint32_t index, std::uint8_t leg, Code code);
  void FinishLeg(std::uint32_t index, std::uint8_t leg, Code code);
  bool PutAgain(std::uint32_t index);
  void RetryPuts();
  void StartDrop(std::uint32_t index);

  // pool_node_peers.cc
  Peer* FindPeer(std::uint32_t index) { return peers_[index].get(); }
  void Connect(std::uint32_t index);
  void Lose(std::uint32_t index);
  void Rebuild();
  void SendPing(std::uint32_t index);
  void FlushOutboxes();
  bool FlushType(std::uint32_t index, PoolMessage type);
  // What the leg asks for; computes the checksum of a commit, if need be.
  void AddEntry(MessageBuilder* message, PoolMessage type, const LegRef& ref);
  void FlushAhead(std::uint32_t index);
  void TakeRoom(const Request& request, std::span<const char> body);
  static StoreKeep KeepOf(const PoolName& name, const Leg& leg, bool durable);
  void OnMessage(std::span<const char> message);
  void Answer(std::uint32_t index, const PoolHeader& header,
              std::span<const char> body);
  void SendOrKeep(std::uint32_t index, std::string message);
  void OnAnswer(std::uint32_t index, const PoolHeader& header,
                std::span<const char> body);
  void TickPeers();
  void ExpireRequests();
  bool HasOtherCopy(std::uint32_t index) const;

  void TakePong(std::uint32_t index, const PoolHeader& header,
                std::span<const char> body);
  std::uint32_t EntriesMax(PoolMessage type) const;

  // pool_node_serve.cc
  PoolReserved ServeReserve(const Peer& peer, const PoolReserve& asked);
  PoolReserved ServeReserveAhead(const Peer& peer, const PoolReserve& asked);
  PoolDone ServeCommit(const Peer& peer, const PoolCommit& asked);
  void NoteStray(const ExportPool::Name& name);
  PoolDone ServeDrop(const PoolDrop& asked);
  void Revoke();
  void OnRevoke(std::uint32_t index, const PoolHeader& header,
                std::span<const char> body);

  // pool_node_stored.cc
  void ServeFinds(std::uint32_t index, const PoolHeader& header,
                  std::span<const char> body);
  PoolFound FindHere(const ExportPool::Name& name);
  StoredLoad* LoadStored(const ExportPool::Name& name, Code* code,
                         BlockClass* block_class);
  void SendFound(const Deferred& answer);

  // pool_node_keep.cc: other nodes' stores, and what they ask of this one's.
  bool IsNamedStore(const std::string& node) const;
  bool MayHaveKept(const Peer& peer) const;
  bool MayKeep(const Peer& peer) const;
  bool IsAStoreAway() const;
  void RebuildStores();
  std::uint32_t StoreOf(std::uint32_t group) const;
  void AddStores(Op* op);
  void StartKeep(std::uint32_t index);
  void StartErase(std::uint32_t index);
  void OnStaged(std::uint32_t index, std::uint8_t leg,
                const StoreStaged& staged);
  void OnKept(std::uint32_t index, std::uint8_t leg, const StoreKept& kept);
  void RefusedBy(std::uint32_t index, std::uint8_t leg,
                 const StoreVerdict& verdict);
  void FinishStore(const Op& op, Code code);
  void AnswerStore(std::uint32_t index, const PoolHeader& header,
                   std::span<const char> body);
  void SendKept();
  // pool_node_store_report.cc
  std::vector<RemoteStoreSnapshot> SnapshotStores() const;
  std::string TextOfStore(const Peer& peer) const;

  // pool_node_repair.cc
  void Repair();
  void WantRepair(DurationNs after);
  void EarnRepairCredit();
  bool MayRepair() const;
  void RepairStrays();
  void RepairWalk();
  static std::size_t CopiesOf(const ExportPool::Block& block) {
    return block.block_class == BlockClass::kState || block.copies > 1 ? kLegs
                                                                       : 1;
  }
  void StartRepair(const ExportPool::Block& block);
  void FinishRepair(const Op& op, Code code);

  // A node's number from its name: owner of what it put.
  static std::uint64_t NodeIdOf(const std::string& name);
  // Which of a peer's outboxes: requests in the order of their types.
  static std::size_t OutboxOf(PoolMessage type) {
    return (static_cast<std::size_t>(type) -
            static_cast<std::size_t>(PoolMessage::kReserve)) /
           2;
  }

  // Where a block belongs: indices of peers, or kSelf.
  std::size_t Places(std::uint32_t group, std::size_t copies,
                     std::array<std::uint32_t, kLegs>* out) const;
  void Remember(const PoolOp& op, const Leg& leg);
  const Hint* Recall(const PoolOp& op, std::uint32_t* peer) const;
  void Forget(const PoolOp& op);
  Hint& HintOf(const PoolOp& op);

  const PoolNodeOptions options_;
  const std::uint64_t id_;
  Transport* const transport_;
  ExportPool* const exports_;

  std::vector<std::unique_ptr<Peer>> peers_;
  absl::flat_hash_map<std::uint64_t, std::uint32_t> by_token_;
  absl::flat_hash_map<std::uint64_t, std::uint32_t> by_link_;
  absl::flat_hash_map<std::string, std::uint32_t> by_node_;
  tiering::Placement placement_;
  std::vector<std::uint32_t> placed_peers_;  // of its nodes, in their order
  std::size_t places_ = 0;
  std::size_t places_elsewhere_ = 0;
  TimeNs changed_at_ = 0;  // the placement
  std::uint64_t changes_ = 0;

  std::vector<Op> ops_;
  std::vector<std::uint32_t> free_ops_;
  std::vector<std::uint32_t> submitted_;  // for the next Poll
  std::size_t ops_used_ = 0;
  std::uint32_t next_sequence_ = 1;
  absl::btree_map<std::uint64_t, Request> requests_;  // by id: they expire
  std::uint64_t next_request_ = 1;
  std::vector<Hint> hints_;
  std::deque<PoolCompletion> done_;
  struct PutRetry {
    std::uint32_t op;
    std::uint32_t sequence;
    TimeNs at;
  };
  std::deque<PutRetry> put_retries_;  // in the order of time
  Sealing* sealing_ = nullptr;
  std::deque<std::pair<std::uint32_t, std::uint32_t>> seal_waiters_;  // op, use
  std::deque<std::pair<std::uint32_t, std::uint32_t>> to_hash_;       // op, use
  std::unique_ptr<StoreServer> server_;  // null: the store serves nobody
  bool remote_store_ = false;
  std::vector<std::string> store_names_;  // empty: any that serves
  tiering::Placement store_placement_;
  std::vector<std::uint32_t> store_peers_;  // of its nodes, in their order
  std::deque<PoolStoreDone> store_done_;
  StoredBlocks* stored_ = nullptr;
  absl::flat_hash_map<std::uint64_t, StoredLoad>
      stored_loads_;  // by generation
  absl::flat_hash_map<ExportPool::Name, std::uint64_t> loading_;
  absl::flat_hash_map<std::uint64_t, Deferred> deferred_;
  std::uint64_t next_deferred_ = 1;
  std::vector<ExportPool::Name> revoked_;
  bool short_elsewhere_ = false;
  std::uint64_t refused_taken_ = 0;     // of ExportPool::refused
  std::vector<TransportEvent> events_;  // scratch
  TimeNs now_ = 0;
  TimeNs started_at_ = 0;
  bool told_of_members_ = false;
  bool taking_ = true;  // what peers put here; see DrainLent
  std::vector<std::string> members_;
  std::size_t activity_ = 0;

  bool repair_wanted_ = false;
  TimeNs repair_wanted_at_ = 0;  // since
  TimeNs repair_at_ = 0;         // when it begins
  DurationNs repair_backoff_ = 0;
  bool connecting_ = false;  // to a peer that may be there soon
  bool repairing_ = false;
  bool repair_walked_ = false;  // but for what is in flight
  std::size_t repair_cursor_ = 0;
  std::uint64_t repair_failed_ = 0;  // in this walk
  std::size_t repairs_in_flight_ = 0;
  std::uint64_t repair_bytes_in_flight_ = 0;
  std::int64_t repair_credit_ = 0;  // bytes that may be written
  TimeNs repair_credited_at_ = 0;
  // Blocks that came to where they do not belong, or may be alone; by time.
  std::deque<Stray> strays_;

  std::uint32_t message_bytes_max_ = 0;
  PoolSnapshot counters_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_POOL_NODE_H_
