// Transport over libfabric: RDMA where there is a NIC, TCP elsewhere.
//
// One endpoint is what peers connect to: it receives messages, and serves the
// reads and writes of peers without this node's doing more than Poll. Each link
// has an endpoint of its own (fabric_link.h), with a completion queue.
//
// An error of an operation is the end of its link: on verbs nothing passes
// through the connection afterwards. So is an error of its completion queue
// (one that was overrun), which tells of no operation then. A link that is lost
// closes its endpoint first, reads the completion queue to its end, and only
// then says UNAVAILABLE: nothing touches the operations' memory any more. On
// TCP, a connection with reads on it is cut, and its end awaited, before the
// endpoint is closed: ShutAndDrain says why.
//
// A provider tells of a dead peer only who posts something to it, and of one
// that stands still never: hence the deadlines. An operation that could not
// even be posted by its deadline ends with DEADLINE_EXCEEDED; its link is lost
// too, unless it is a read or a message and the peer has answered before (then
// the provider is full).
//
// An inbox that has failed is opened anew, at most once a second, under another
// address. Peers that ask the old one hear nothing, take this node for away,
// and get the new one by their next Hello.
//
// Ownership: owns everything of libfabric's. Threads: one at a time; libfabric
// must not be used before a fork. Errors: Open: INVALID_ARGUMENT,
// FAILED_PRECONDITION (fabric_provider.h), RESOURCE_EXHAUSTED, UNAVAILABLE.
// Cost: Poll of nothing 1 us or less, and more with the number of links.
#ifndef AGENTMEM_MEMD_TRANSPORT_FABRIC_TRANSPORT_H_
#define AGENTMEM_MEMD_TRANSPORT_FABRIC_TRANSPORT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "memd/transport/fabric_provider.h"
#include "memd/transport/transport.h"

struct fi_cq_msg_entry;

namespace agentmem {

class FabricDomain;
class FabricInbox;
class FabricLink;

// A link takes so many at most: sockets, and what they are waited on by.
inline constexpr std::uint64_t kDescriptorsOfLink = 24;

class FabricTransport final : public Transport {
 public:
  static absl::StatusOr<std::unique_ptr<FabricTransport>> Open(
      const FabricOptions& options);
  ~FabricTransport() override;

  const TransportLimits& limits() const override { return limits_; }
  absl::StatusOr<Registered> Register(std::span<char> memory,
                                      RemoteAccess access) override;
  const std::string& address() const override { return address_; }
  absl::StatusOr<LinkId> Connect(const std::string& address) override;
  bool Read(const Transfer& transfer) override;
  bool Write(const Transfer& transfer) override;
  bool Send(LinkId link, std::span<const char> message, std::uint64_t ticket,
            TimeNs deadline) override;
  std::size_t Poll(TimeNs now, std::span<TransportEvent> out) override;
  void Close(LinkId link) override;
  int wait_fd() const override;
  bool ReadyToWait() override;

  // What carries the traffic, and what else was looked at.
  const FabricChoice& choice() const { return choice_; }
  const FabricCounters& counters() const { return counters_; }
  // The end of its work as peers see it; empty: there is none.
  const std::string& failure() const { return failure_; }
  // Connections that peers made to this node: one of each member, or nobody
  // knows of whom. 0 where it cannot be told (not TCP). Cost: reads of /proc.
  std::size_t CountInbound() const;
  // What else an operator should know, and the failure.
  std::vector<std::string> Warnings() const;

 private:
  static constexpr std::size_t kCompletionsAtOnce = 16;

  FabricTransport();
  absl::Status OpenObjects(const FabricOptions& options);
  absl::Status OpenProvider(const FabricOffer& offer, bool by_name);
  FabricLink* Find(LinkId link);  // null: not there, or lost
  bool StartTransfer(bool read, const Transfer& transfer);

  // fabric_completions.cc. A null link is the inbox.
  // Reads at most as many completions as `max`; how many there were.
  std::size_t ReadCompletions(FabricLink* link, std::size_t max);
  // Of all queues, at most kCompletionsAtOnce of each; those that `max` leaves
  // out come first the next time.
  std::size_t ReadAll(std::size_t max);
  void OnCompletion(FabricLink* link, const fi_cq_msg_entry& entry);
  void OnReceived(const fi_cq_msg_entry& entry);
  bool OnError(FabricLink* link);  // false: there was none to go on after
  void OnQueueFailed(FabricLink* link, ssize_t error);
  void OnReceiveError(const void* context);

  void MarkLost(FabricLink* link, const std::string& reason);
  // After all that may have posted something on it.
  void NoteBroken(FabricLink* link);
  void ReopenInbox(TimeNs now);
  void ExpireOperations(TimeNs now);
  void PostWaiting(TimeNs now);
  // Shuts those that were marked, and tells of their operations.
  void SettleLost();
  void ShutAndDrain(FabricLink* link);
  std::size_t Deliver(std::span<TransportEvent> out);

  // Constant after Open.
  FabricChoice choice_;
  TransportLimits limits_;
  std::uint64_t piece_bytes_max_ = 0;

  std::string address_;  // of the inbox
  TimeNs reopen_inbox_at_ = 0;

  // In this order: links and the inbox go before the domain.
  std::unique_ptr<FabricDomain> domain_;
  std::unique_ptr<FabricInbox> inbox_;
  absl::flat_hash_map<LinkId, std::unique_ptr<FabricLink>> links_;

  // Whose queues are read, in turns: null, the inbox, and then the links.
  std::vector<FabricLink*> readers_ = {nullptr};
  std::size_t next_reader_ = 0;

  std::uint64_t last_link_ = 0;
  std::vector<FabricLink*> lost_;  // marked, not settled yet
  // Told from next_event_ on; bounded by the operations and the inbox.
  std::vector<TransportEvent> events_;
  std::size_t next_event_ = 0;
  TimeNs next_deadline_ = kNoDeadline;  // no operation has one before it
  FabricCounters counters_;
  std::string failure_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_FABRIC_TRANSPORT_H_
