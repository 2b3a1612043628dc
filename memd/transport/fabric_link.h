// One peer: an endpoint, and the operations on it.
//
// An operation's way:
//
//   Start --> waiting --(the provider takes a piece)--> posted --> done
//               ^----------(there is another piece)-------/
//
// A piece is as much of a transfer as the provider takes at once; a transfer
// has one of them posted at a time. Operations wait in order, behind a link
// that is being set up or whose provider is full (FI_EAGAIN).
//
// RxM makes a new connection, silently, where one has ended, and takes nothing
// until it is there. So a message that was not taken at once waits until all
// writes that were posted before have completed: it might go over another
// connection than they did, and arrive though they failed. Once one has failed,
// nothing more is posted.
//
// Ownership: owns the endpoint, the operations (libfabric writes into their
// contexts until they complete) and the messages' bytes. Threads: one at a
// time. Errors: those of a posting end up as `broken`; the transport then
// Shuts the link. Cost: allocates when opened alone.
#ifndef AGENTMEM_MEMD_TRANSPORT_FABRIC_LINK_H_
#define AGENTMEM_MEMD_TRANSPORT_FABRIC_LINK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "memd/transport/fabric_endpoint.h"

namespace agentmem {

enum class FabricKind : std::uint8_t {
  kReceive,
  kReceiveTagged,
  kRead,
  kWrite,
  kSend
};

constexpr bool IsReceive(FabricKind kind) {
  return kind == FabricKind::kReceive || kind == FabricKind::kReceiveTagged;
}

// Which element of `all` libfabric's op_context points at; nothing: none. Peers
// can bring about others: of a write that carries data it is null, and of a
// rendezvous that failed a buffer of RxM's.
template <typename T>
std::optional<std::uint32_t> FindContext(const std::vector<T>& all,
                                         const void* context) {
  const auto at = reinterpret_cast<std::uintptr_t>(context) -
                  reinterpret_cast<std::uintptr_t>(all.data());
  if (at % sizeof(T) != 0 || at / sizeof(T) >= all.size()) return std::nullopt;
  return static_cast<std::uint32_t>(at / sizeof(T));
}

class FabricLink {
 public:
  static constexpr std::uint32_t kTransfersMax = 64;
  static constexpr std::uint32_t kSendsMax = 32;
  // Stays under RxM's eager limit of 16 KiB with its header.
  static constexpr std::uint64_t kMessageBytesMax = 8192;

  static absl::StatusOr<std::unique_ptr<FabricLink>> Open(
      FabricDomain* domain, LinkId id, const std::string& peer_name,
      std::uint64_t piece_bytes_max);

  // False: as many are in flight as may be.
  bool StartTransfer(FabricKind kind, const Transfer& transfer);
  bool StartSend(std::span<const char> message, std::uint64_t ticket,
                 TimeNs deadline);

  // Posts what waits. Until the peer has answered once, not more often than
  // every kRetryNs after the first kEagerTries.
  void PostWaiting(TimeNs now);

  // The operation whose context this is, if it is posted.
  std::optional<std::uint32_t> Find(const void* context) const;
  FabricKind KindOf(std::uint32_t index) const {
    return operations_[index].kind;
  }
  // A piece has completed. True: the operation has, and `event` says so.
  bool Complete(std::uint32_t index, TransportEvent* event);
  // A piece has failed: the link is broken, and has to be shut.
  void Fail(std::uint32_t index, const std::string& why);
  // Its completion queue tells nothing any more: the link is broken.
  void FailQueue(const absl::Status& why) {
    if (broken_.ok()) broken_ = why;
  }
  // An error of nothing that is posted. RxM makes one of each error of the
  // queue below it: after many the link is broken.
  void NoteStrayError();
  // Something was received by an endpoint that should get nothing.
  void DropMessage(std::uint32_t index);

  // The next waiting operation beyond its deadline is over, with
  // DEADLINE_EXCEEDED; `write`: it is one. False: there is none.
  bool ExpireWaiting(TimeNs now, TransportEvent* event, bool* write);
  // A posted operation is beyond its deadline.
  bool PostedExpired(TimeNs now) const;
  TimeNs NextDeadline() const;

  // The provider has reads that neither completed nor failed.
  bool reading() const;
  // From here on nothing is posted. True: what was will end (FabricEndpoint).
  bool Cut();
  // Closes the endpoint: from here on nothing touches the operations' memory.
  void Shut() { endpoint_->Shut(); }
  bool shut() const { return endpoint_->shut(); }
  bool ending() const { return ending_ || shut(); }
  // Also after Shut.
  fid_cq* completions() const { return endpoint_->completions(); }
  // After Shut, and after the completion queue was read to its end: the next
  // operation ends with UNAVAILABLE. False: there is none.
  bool Abandon(TransportEvent* event);

  LinkId id() const { return id_; }
  bool waiting() const { return waiting_first_ != kNone; }
  // The peer has answered at least once.
  bool answered() const { return answered_; }
  // Not OK: the provider refused an operation.
  const absl::Status& broken() const { return broken_; }

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  // For what nobody should send: posted all the same, since RxM keeps what has
  // no buffer in memory of its own, without a bound.
  static constexpr std::uint32_t kReceives = 2;
  static constexpr std::uint32_t kTaggedReceives = 1;
  static constexpr std::uint32_t kStrayErrorsMax = 32;
  static constexpr int kEagerTries = 64;
  static constexpr DurationNs kRetryNs = 10 * kMillisecondNs;
  // A peer that has answered before, and with nothing in flight takes nothing
  // for so long, is gone: its connection ended, and a new one (20 to 40 ms on
  // TCP) does not come about.
  static constexpr DurationNs kGoneNs = 100 * kMillisecondNs;

  struct Operation {
    fi_context2 context;  // first: libfabric hands it back, and writes there
    FabricKind kind = FabricKind::kReceive;
    // A failed one waits for Abandon.
    enum class State : std::uint8_t { kFree, kWaiting, kPosted, kFailed };
    State state = State::kFree;
    Transfer transfer;  // of a send: local and length are of its copy
    void* descriptor = nullptr;
    std::uint64_t done_bytes = 0;
    std::uint64_t piece_bytes = 0;  // posted
    std::uint32_t next = kNone;     // of the free ones, or of those that wait
  };

  FabricLink(FabricDomain* domain, LinkId id, std::uint64_t piece_bytes_max);
  absl::Status OpenEndpoint(const std::string& peer_name);
  std::uint32_t Take(std::uint32_t* free);
  void Release(std::uint32_t index, Code code, TransportEvent* event);
  void Start(std::uint32_t index);
  void Wait(std::uint32_t index);
  void NoteNotTaken(TimeNs now);
  // 0, -FI_EAGAIN, or the provider's refusal.
  ssize_t Post(Operation* operation);
  ssize_t PostPiece(Operation* operation);
  // One of them is over.
  void Unpost(const Operation& operation);
  ssize_t PostWrite(Operation* operation);

  FabricDomain* const domain_;
  const LinkId id_;
  const std::uint64_t piece_bytes_max_;
  FabricBuffer messages_;  // of sends, then of receives
  // Transfers, sends, receives, tagged ones; never resized.
  std::vector<Operation> operations_;
  std::unique_ptr<FabricEndpoint> endpoint_;
  fi_addr_t peer_ = FI_ADDR_UNSPEC;

  std::uint32_t free_transfer_ = kNone;
  std::uint32_t free_send_ = kNone;
  std::uint32_t waiting_first_ = kNone;
  std::uint32_t waiting_last_ = kNone;
  bool answered_ = false;
  int tries_ = 0;
  TimeNs next_try_ = 0;
  std::uint32_t posted_ = 0;            // operations, not receives
  std::uint32_t posted_writes_ = 0;     // of these
  bool messages_wait_ = false;          // for the posted writes
  TimeNs refused_since_ = kNoDeadline;  // with nothing posted
  std::uint32_t stray_errors_ = 0;
  absl::Status broken_;
  bool ending_ = false;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_FABRIC_LINK_H_
