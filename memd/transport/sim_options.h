// What the simulated network does to those who use it: one struct and a seed.
//
// The defaults are a quiet network: it takes its time, which differs from one
// operation to the next, and nothing goes wrong. Rates are from 0 to 1, for
// each operation or packet; they may be changed while the network runs.
#ifndef AGENTMEM_MEMD_TRANSPORT_SIM_OPTIONS_H_
#define AGENTMEM_MEMD_TRANSPORT_SIM_OPTIONS_H_

#include <cstdint>

#include "base/clock.h"

namespace agentmem {

struct SimOptions {
  std::uint64_t seed = 1;

  // One way, between any two nodes; drawn for each packet, so that whatever is
  // in flight together may arrive in any order.
  DurationNs latency_min = 2 * kMicrosecondNs;
  DurationNs latency_max = 10 * kMicrosecondNs;
  // What leaves a node goes out one after another. 0: unlimited.
  std::uint64_t bandwidth_bytes_per_s = 0;

  // A packet is lost. As reliable transports have it, that is a delay, and
  // beyond `retransmits_max` in a row the link's end. A cut does the same.
  double loss_rate = 0;
  DurationNs retransmit_delay = kMillisecondNs;
  std::uint32_t retransmits_max = 7;
  // A lost packet is missed late: a link over verbs stands still for seconds
  // until its retransmission timer ends. Of the losses, so many.
  double loss_stall_rate = 0;
  DurationNs loss_stall = 2 * kSecondNs;

  // A packet takes up to `reorder_delay_max` longer, and others overtake it.
  double reorder_rate = 0;
  DurationNs reorder_delay_max = 200 * kMicrosecondNs;
  // Messages of one link in the order in which they were sent. The contract
  // does not promise it. Not to be changed while the network runs.
  bool messages_in_order = false;

  // What was written before a message on its link is there when it arrives. Not
  // to be changed while the network runs.
  bool messages_follow_writes = true;

  // The operation fails, done not at all or in part, and its link is lost.
  double completion_error_rate = 0;
  // The operation is done, and says that it failed: its link is lost. Whoever
  // sends the message again makes a duplicate of it.
  double completion_lost_rate = 0;

  // A read or write is copied in two pieces at two times, in any order.
  double torn_rate = 0;
  DurationNs torn_gap_max = 20 * kMicrosecondNs;
  // Bytes of a write that did not complete, because its link was lost or closed
  // or its node died, reach the peer's memory all the same, afterwards.
  double late_write_rate = 0;
  DurationNs late_write_delay_max = 50 * kMicrosecondNs;

  std::uint64_t message_bytes_max = 4096;
  std::uint64_t transfers_in_flight = 64;  // of one link

  // A network on which a good deal goes wrong: which faults, and how often, is
  // drawn from the seed.
  static SimOptions Rough(std::uint64_t seed);
};

// What went wrong so far, to be sure that something did.
struct SimCounters {
  std::uint64_t operations = 0;  // posted
  std::uint64_t messages_delivered = 0;
  std::uint64_t retransmits = 0;
  std::uint64_t stalls = 0;  // of these, late ones
  std::uint64_t links_lost = 0;
  std::uint64_t refused = 0;  // wrong key, bounds or access
  std::uint64_t completion_errors = 0;
  std::uint64_t completions_lost = 0;
  std::uint64_t torn = 0;
  std::uint64_t late_writes = 0;
};

// One thing that happened, for tests that want to see or to interfere.
struct SimTrace {
  enum class Kind : std::uint8_t {
    kPost = 1,    // a: ticket, b: bytes
    kCopy,        // a: ticket, b: bytes
    kDeliver,     // a message; a: sender, b: bytes
    kRetransmit,  // a: receiver, b: attempts
    kComplete,    // a: ticket, b: code
    kLinkLost,    // a: link
    kLateWrite,   // a: receiver, b: bytes
    kStart,       // of a node
    kDeath,       // of a node
  };
  Kind kind = Kind::kPost;
  TimeNs at = 0;
  std::uint64_t node = 0;  // the number of its run, in the order of Add
  std::uint64_t a = 0;
  std::uint64_t b = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_SIM_OPTIONS_H_
