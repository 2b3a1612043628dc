// Transport: how bytes get from one node's memory into another's.
//
// Eight verbs: Register, address, Connect, Read, Write, Send, Poll, Close. Over
// libfabric (fabric_transport.h), or a simulated network (sim_transport.h) that
// tests drive in one thread.
//
// A link leads to one peer, by the address that the peer's own transport gave.
// Its failures are its own: a request that kills it leaves the others alone.
//
//   Connect --> up --(error, or an operation beyond its deadline)--> lost
//    \---------- Close <--------------------------------------------/
//
// What is posted on a link completes exactly once, in no order, with one of:
//
//   OK                 done: a read's bytes are here, a write's in the peer's
//                      memory; of a message, that the network has it
//   DEADLINE_EXCEEDED  the network took nothing of it by its deadline: nothing
//                      was done. Of a write, or on a link whose peer has never
//                      answered, the link is lost with it; else it stays up
//   UNAVAILABLE        the link was lost or closed: done, in part, or not
//
// A link is lost by any operation that the peer or the network refuses (a wrong
// key, a range that is not in the peer's memory or wraps around), by one that
// it has taken and that is not done by its deadline, and by its peer's end.
// Then kLost comes, after the last completion.
//
// A message arrives once, or not at all if its link is lost; where the limits
// say so, after the bytes of all writes that were posted on its link before it
// and not at all if one of these failed, else in no order with them. Who sent
// it, it must say itself.
//
// An operation that is posted cannot be called back: the peer, or the NIC, may
// touch its memory until it completes. So one that is late takes its link with
// it, and its completion comes only when nothing can touch its memory any more.
//
// Ownership: registered memory outlives the transport, and what is posted its
// completion; a message's bytes are copied. Threads: one thread at a time, but
// for wait_fd. Errors: as Status, or as Code in the event. Cost: nothing
// blocks but Register and Connect (a local set-up; the handshake goes on within
// Poll); no allocation in the steady state.
#ifndef AGENTMEM_MEMD_TRANSPORT_TRANSPORT_H_
#define AGENTMEM_MEMD_TRANSPORT_TRANSPORT_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/strong_id.h"
#include "proto/types.h"

namespace agentmem {

// Of this transport; never used twice.
using LinkId = StrongId<struct LinkIdTag, std::uint64_t>;
using MemoryId = StrongId<struct MemoryIdTag, std::uint32_t>;

enum class RemoteAccess : std::uint8_t {
  kNone,       // peers cannot name it: for what this node reads into
  kRead,       // peers may read
  kReadWrite,  // peers may read and write
};

// Memory as peers name it: `address` is of its first byte.
struct RemoteMemory {
  std::uint64_t address = 0;
  std::uint64_t key = 0;  // hard to guess; a secret between daemons
  std::uint64_t bytes = 0;
};

struct Registered {
  MemoryId id;
  RemoteMemory remote;  // bytes 0 with RemoteAccess::kNone
};

// One block's way: `local` bytes of the registered `memory`, and as many from
// `remote_address` of what the peer registered under `remote_key`.
struct Transfer {
  LinkId link;
  MemoryId memory;
  char* local = nullptr;
  std::uint64_t length = 0;
  std::uint64_t remote_address = 0;
  std::uint64_t remote_key = 0;
  std::uint64_t ticket = 0;
  TimeNs deadline = kNoDeadline;
};

struct TransportEvent {
  enum class Kind : std::uint8_t {
    kDone,     // of a Read, Write or Send: ticket, code
    kMessage,  // message: its bytes, until the next Poll
    kLost,     // the link is of no use any more: Close it, Connect again
  };
  Kind kind = Kind::kDone;
  Code code = Code::kOk;
  LinkId link;  // kDone, kLost
  std::uint64_t ticket = 0;
  std::span<const char> message;
};

struct TransportLimits {
  std::string provider;                   // libfabric's name, or "sim"
  std::uint64_t message_bytes_max = 0;    // of Send
  std::uint64_t transfers_in_flight = 0;  // posted and not completed, a link
  // A message does not arrive before what was written before it on its link,
  // nor without it, whatever becomes of the link.
  bool messages_follow_writes = false;
  // What is registered stays on the pages that it had then: pages that are
  // given back to the system, and put there anew, are other ones than it moves.
  bool pins_memory = false;
};

class Transport {
 public:
  virtual ~Transport() = default;

  virtual const TransportLimits& limits() const = 0;

  // Makes memory known to the network. RESOURCE_EXHAUSTED: the limit of locked
  // memory (the message says how to raise it).
  virtual absl::StatusOr<Registered> Register(std::span<char> memory,
                                              RemoteAccess access) = 0;

  // What peers Connect to: opaque bytes, for this run alone. Poll may change
  // it; who has another one cannot reach this node any more.
  virtual const std::string& address() const = 0;

  // INVALID_ARGUMENT: not an address of this provider.
  virtual absl::StatusOr<LinkId> Connect(const std::string& address) = 0;

  // False: as many are in flight as may be, or the link is lost or unknown; ask
  // again after an event. Of any length; split as the provider wants it.
  virtual bool Read(const Transfer& transfer) = 0;
  virtual bool Write(const Transfer& transfer) = 0;
  // At most limits().message_bytes_max. OK says that it was handed to the
  // network, no more.
  virtual bool Send(LinkId link, std::span<const char> message,
                    std::uint64_t ticket, TimeNs deadline) = 0;

  // Moves the network on; fills `out`, returns how many.
  virtual std::size_t Poll(TimeNs now, std::span<TransportEvent> out) = 0;

  // Ends a link: what is in flight on it completes with UNAVAILABLE.
  virtual void Close(LinkId link) = 0;

  // Readable when Poll may have something, if ReadyToWait said true just
  // before (false: Poll again). -1: this transport has none. Deadlines need a
  // Poll now and then all the same.
  virtual int wait_fd() const = 0;
  virtual bool ReadyToWait() = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_TRANSPORT_H_
