// The pool's times and bounds, in one place, and how they hang together.
//
// Ownership, Threads, Errors, Cost: none; constants.
#ifndef AGENTMEM_MEMD_POOL_POOL_TIMING_H_
#define AGENTMEM_MEMD_POOL_POOL_TIMING_H_

#include <cstddef>
#include <cstdint>

#include "base/clock.h"
#include "proto/pool_messages.h"

namespace agentmem {

// An operation that has no nearer deadline ends by then.
inline constexpr DurationNs kPoolOpNs = 5 * kSecondNs;
// As long as a disk may take to write a block down, whose node lives: its link
// tells when it does not.
inline constexpr DurationNs kStoreOpNs = 30 * kSecondNs;
// A find that the store of a node that serves it may have to answer.
inline constexpr DurationNs kStoreFindNs = 4 * kSecondNs;
static_assert(kStoreFindNs < kPoolOpNs);
// A transfer that takes longer costs its link. Far below kReservationNs: who
// reserved cannot write any more when the reservation comes back.
inline constexpr DurationNs kMoveNs = 2 * kSecondNs;
static_assert(2 * kMoveNs < kReservationNs);
// It may take so long, however near its operation's deadline is: the link that
// it would cost carries what others want, too.
inline constexpr DurationNs kMoveNsMin = 100 * kMillisecondNs;
// Room that was reserved ahead at a peer is used for so long after it was asked
// for: whoever takes it last has ended before it comes back there.
inline constexpr DurationNs kAheadNs = kSecondNs;
static_assert(kAheadNs + kPoolOpNs + kMoveNs < kReservationNs);
// A write into a place that was asked for longer ago is not begun any more.
inline constexpr DurationNs kPlaceNs = kReservationNs - kMoveNs - kSecondNs;
static_assert(kAheadNs + kPoolOpNs < kPlaceNs);
// So much of it at each peer for each size of block: as much as may be under
// way; and of small ones not more than so many.
inline constexpr std::uint64_t kAheadBytesMax = 8 << 20;
inline constexpr std::uint32_t kAheadCountMax = 32;
inline constexpr std::uint32_t kAheadCountMin = 4;
// A put that a node did not take because it went away is tried where placement
// names others, for so long in all: until silence has told of the last of them.
inline constexpr DurationNs kPutAgainNs = 20 * kMillisecondNs;
inline constexpr DurationNs kPutPatienceNs = 900 * kMillisecondNs;
// A copy for which there is no room is tried again while nodes collect what
// nobody needs (memd/agents/collection_pace.h), for kPutPatienceNs in all.
inline constexpr DurationNs kRoomAgainNs = 50 * kMillisecondNs;
static_assert(kRoomAgainNs < kPutPatienceNs);
// A peer that has less left than one in so many bytes will refuse `state` soon,
// or does (tenant_shares.h): before that, nodes collect.
inline constexpr std::uint64_t kNearlyFullPart = 16;
// An answer that does not come.
inline constexpr DurationNs kAskNs = 500 * kMillisecondNs;
// Peers are pinged this often, and faster while they connect.
inline constexpr DurationNs kPingNs = 200 * kMillisecondNs;
inline constexpr DurationNs kConnectPingNs = 20 * kMillisecondNs;
// Not heard for so long: down. With the next line, "bypassed within a second".
inline constexpr DurationNs kSilentNs = 750 * kMillisecondNs;
// Two pings without an answer: what it owes besides may never come.
inline constexpr DurationNs kDoubtNs = 2 * kPingNs;
static_assert(kDoubtNs < kAskNs && kSilentNs - kAskNs < kPutPatienceNs);
// A node that has just started meets the others by then. Cache blocks are not
// called missing before; state blocks not before it has met them all.
inline constexpr DurationNs kMeetNs = 5 * kSecondNs;
// This node itself was away for so long: that is no peer's silence.
inline constexpr DurationNs kAwayNs = 250 * kMillisecondNs;
// Something is under way to it, nothing comes, and another node has a copy.
inline constexpr DurationNs kStallNs = 30 * kMillisecondNs;
// Before that, who is only asked something is pinged: a find may wait for the
// peer's disk, and a peer that lives answers the ping.
inline constexpr DurationNs kProbeNs = 10 * kMillisecondNs;
// A link that does not come up is tried again after.
inline constexpr DurationNs kBackoffNsMin = 10 * kMillisecondNs;
inline constexpr DurationNs kBackoffNsMax = kSecondNs;
// After a change of placement repair waits for the next one so long, but no
// longer than the other one in all.
inline constexpr DurationNs kRepairSettleNs = kSecondNs;
inline constexpr DurationNs kRepairSettleNsMax = 3 * kSecondNs;
// A walk that left something to do comes again after that; twice as long each
// time, until placement changes.
inline constexpr DurationNs kRepairAgainNsMax = 30 * kSecondNs;
// Blocks are looked for everywhere while they may not be where they belong.
inline constexpr DurationNs kWanderNs = 60 * kSecondNs;

// To one peer: two of the largest blocks each way keep a link of 3 GB/s busy
// over a wake-up of 1 ms.
inline constexpr std::uint64_t kMovingBytesMax = 8 << 20;
// Of the transport's operations in flight these are left for messages.
inline constexpr std::uint64_t kMessagesInFlight = 16;
// A Poll takes so many times what the transport has, then others have a turn.
inline constexpr int kRoundsPerPoll = 16;
// Repair beside clients' own work: most of it compares, and writes nothing.
inline constexpr std::size_t kRepairsInFlightMax = 64;
inline constexpr std::uint64_t kRepairBytesInFlightMax = kMovingBytesMax;
inline constexpr std::size_t kRepairWalk = 256;  // records a turn
inline constexpr std::size_t kStraysMax = 1 << 16;
// Blocks on their way from this node's store to peers that asked: as many as
// its queue leaves beside the tenants'.
inline constexpr std::size_t kStoredLoadsMax = 256;
// What was revoked and nobody has asked for yet.
inline constexpr std::size_t kRevokedMax = 1 << 16;
// Answers that a slow link does not take; those beyond are lost, and asked for
// again by who waits for them.
inline constexpr std::size_t kUnsentMax = 256;

// Of messages: nobody waits for their completion.
inline constexpr std::uint64_t kNoTicket = ~0ULL;

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_POOL_TIMING_H_
