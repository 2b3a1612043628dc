// SimTransport: one run of a node on a simulated network (SimNetwork::Add).
//
// An operation's way, each step an event of the network:
//
//   post --request--> peer: bytes are copied --answer--> completes
//     \------- link lost or closed: within a latency, UNAVAILABLE
//
// Between the loss and the completion the bytes may still be copied, as a NIC
// may; afterwards only those of a late write, out of a copy of them.
// A message completes on its own, before or after it arrives.
//
// Ownership: borrows the network. Threads: the network's. Errors: as
// Transport; memory that was not registered is an invariant (CHECK). Cost: it
// allocates.
#ifndef AGENTMEM_MEMD_TRANSPORT_SIM_TRANSPORT_H_
#define AGENTMEM_MEMD_TRANSPORT_SIM_TRANSPORT_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "memd/transport/sim_network.h"
#include "memd/transport/transport.h"

namespace agentmem {

class SimTransport final : public Transport {
 public:
  ~SimTransport() override;

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
  int wait_fd() const override { return -1; }
  bool ReadyToWait() override;

 private:
  friend class SimNetwork;

  // Registered memories lie as far apart as peers name them.
  static constexpr std::uint64_t kMemoryStride = 1ULL << 40;

  enum class Verb : std::uint8_t { kRead, kWrite, kSend };
  enum class Fate : std::uint8_t { kGood, kFails, kDoneButFails };
  // Are a write's bytes in the peer's memory, all of them?
  using Landed = std::shared_ptr<bool>;
  struct Operation {
    Verb verb = Verb::kRead;
    Landed landed;  // of a write
    Fate fate = Fate::kGood;
    std::uint64_t peer = 0;
    bool copied = false;
    Transfer transfer;
  };
  struct Link {
    std::uint64_t peer = 0;
    bool up = true;
    bool closed = false;
    std::uint64_t in_flight = 0;  // posted, and not given out by Poll
    TimeNs ready_at = 0;          // connected
    std::uint64_t messages = 0;   // posted
    std::set<std::uint64_t> operations;
  };
  struct Memory {
    std::span<char> bytes;
    RemoteAccess access = RemoteAccess::kNone;
    RemoteMemory remote;
  };
  // Messages of a peer's link, where they are to be in order.
  struct Arrivals {
    std::uint64_t next = 0;
    std::map<std::uint64_t, std::vector<char>> early;
  };
  struct Happened {
    TransportEvent event;
    std::vector<char> message;
  };

  SimTransport(SimNetwork* network, std::uint64_t run,
               const std::string& address);

  // Calls the method, if this run lives by then.
  template <typename T>
  std::function<void()> Call(void (SimTransport::*method)(T), T argument) {
    return [network = network_, run = run_, method, argument] {
      SimTransport* const self = network->Find(run);
      if (self != nullptr) (self->*method)(argument);
    };
  }
  bool Post(Verb verb, const Transfer& transfer, std::vector<char> message);
  void StartMessage(std::uint64_t number, Link* link,
                    std::vector<char> message);
  void StartTransfer(std::uint64_t number, const Link& link);
  // What was written before on the link, as far as it is still on its way.
  std::vector<Landed> WritesBefore(const Link& link) const;
  // The request is at the peer.
  void CopyAtPeer(std::uint64_t number);
  void CopyPartAndFail(std::uint64_t number);
  // False: not allowed, or the peer is gone; the link is lost.
  bool CopyPiece(std::uint64_t number, std::uint64_t offset,
                 std::uint64_t length);
  void Answer(std::uint64_t number);
  void Complete(std::uint64_t number);
  void Finish(std::uint64_t number, Code code);
  void LoseLink(LinkId id);
  void LoseLinkOf(std::uint64_t number);
  void LosePeer(std::uint64_t peer);
  void Flush(LinkId id);
  void ArriveAfter(const std::vector<Landed>& writes, std::uint64_t from,
                   LinkId link, std::uint64_t sequence,
                   const std::vector<char>& message);
  void Arrive(std::uint64_t from, LinkId link, std::uint64_t sequence,
              const std::vector<char>& message);
  void Deliver(std::uint64_t from, const std::vector<char>& message);
  // Null: nobody may do that there.
  char* Resolve(std::uint64_t key, std::uint64_t address, std::uint64_t length,
                bool write) const;

  SimNetwork* const network_;
  const std::uint64_t run_;
  const std::string address_;
  TransportLimits limits_;
  std::vector<Memory> memories_;  // MemoryId is the index + 1
  std::map<std::uint64_t, Link> links_;
  std::map<std::uint64_t, Operation> operations_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Arrivals> arrivals_;
  std::uint64_t next_link_ = 1;
  std::uint64_t next_operation_ = 1;
  std::deque<Happened> happened_;
  std::deque<std::vector<char>> given_;  // messages of the last Poll
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_SIM_TRANSPORT_H_
