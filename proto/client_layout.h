// The clients memfd: what one client and memd share for writing. Version 1.
//
// Each client has a memfd of its own ("client file"), so that no process can
// touch another's pins, rings or grants. memd makes and maps it, copies what it
// reads from it once, and validates the copy; what memd relies on is in its
// private memory.
//
//   offset 0               ClientHeader (4 KiB)
//   kSubmissionOffset      SubmissionEntry[kSubmissionEntries]   client -> memd
//   kCompletionOffset      CompletionEntry[kCompletionEntries]   memd -> client
//   kGrantOffset           GrantEntry[kGrantEntries]
//   kThreadTableOffset     ThreadTable[kThreadTables]
//
// Rings: head and tail are free-running counters; an entry's place is counter %
// size. The producer writes entries, then the tail with release; the consumer
// reads the tail with acquire, entries, then writes the head with release.
// Threads of a client serialise submissions among themselves.
//
// Waking memd: memd sets memd_sleeping = 1 (seq_cst), looks at the tail once
// more, and leaves the ring to epoll. A client that moved the tail (seq_cst)
// and then exchanges memd_sleeping from 1 to 0 writes 1 to the doorbell
// eventfd.
//
// Waking the client: memd adds 1 to completion_signal after it moved the
// completion tail or granted slots, and calls FUTEX_WAKE if waiters is not 0.
// A waiter reads completion_signal, looks for what it waits for, adds 1 to
// waiters, and waits on the value that it read.
//
// Pins: a thread owns one ThreadTable (its bit in thread_table_mask, set
// seq_cst before its first pin). Pin: pins[i].exchange(slot + 1, seq_cst), then
// look at the slot's generation again (seq_cst); if it changed, store 0.
// Unpin: store 0 (release). memd unpublishes (seq_cst), then reads all tables
// (seq_cst); a slot that stands in one is in limbo.
//
// Access notes: notes[note_tail % kThreadNotes] = slot | (low 32 bits of the
// generation) << 32, then note_tail + 1 (release). Lossy: memd counts what it
// was too late for.
//
// Grants: memd fills an entry and stores state {sequence, kGranted} (release).
// The client takes it with a CAS to {sequence, kWriting}; memd may take it back
// with a CAS from {sequence, kGranted} to {sequence + 1, kFree}. A publish or
// abandon message names entry and sequence; memd then frees the entry with
// {sequence + 1, kFree}. Bytes go to data_offset of the data memfd.
//
// Extent holds: a client that registers the data memfd with a device holds the
// extents first (kHoldExtents), and ends that after the registration is gone
// (kReleaseExtents). memd gives no page of a held extent back to the system. It
// may ask for one (kExtentRetire); the hold ends with the answer
// (kExtentReleased, same token). A token that was answered, or whose hold ended
// another way, says nothing. The answers to holds and the requests for them
// come in order: after an OK of a hold, a retire of it may stand in the ring.
#ifndef AGENTMEM_PROTO_CLIENT_LAYOUT_H_
#define AGENTMEM_PROTO_CLIENT_LAYOUT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "proto/types.h"

namespace agentmem {

inline constexpr std::uint64_t kClientMagic =
    0x314c4349'4d454741ULL;  // AGEMICL1
inline constexpr std::uint32_t kClientVersion = 1;

inline constexpr std::uint32_t kSubmissionEntries = 1024;
// Each submission completes at most once, and memd takes no submission for
// whose completion there is no room; twice the size lets both sides run ahead.
inline constexpr std::uint32_t kCompletionEntries = 2048;
inline constexpr std::uint32_t kGrantEntries = 256;
inline constexpr std::uint32_t kThreadTables = 64;
inline constexpr std::uint32_t kThreadPins = 128;
inline constexpr std::uint32_t kThreadNotes = 256;

struct ClientHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_bytes;  // sizeof(ClientHeader)
  std::uint64_t client_id;
  std::uint64_t instance;    // as in the index: which run of memd
  std::uint64_t start_time;  // of the process: field 22 of /proc/PID/stat
  std::int32_t pid;
  std::uint32_t reserved0;
  std::uint8_t pad0[64 - 48];

  alignas(64) std::atomic<std::uint64_t> submission_tail;    // client
  alignas(64) std::atomic<std::uint64_t> submission_head;    // memd
  alignas(64) std::atomic<std::uint64_t> completion_tail;    // memd
  alignas(64) std::atomic<std::uint64_t> completion_head;    // client
  alignas(64) std::atomic<std::uint32_t> completion_signal;  // futex word
  std::atomic<std::uint32_t> waiters;                        // client
  alignas(64) std::atomic<std::uint32_t> memd_sleeping;
  alignas(64) std::atomic<std::uint64_t> thread_table_mask;  // client
  std::uint8_t pad1[4096 - 448 - 8];
};
static_assert(sizeof(ClientHeader) == 4096);
static_assert(offsetof(ClientHeader, submission_tail) == 64);
static_assert(offsetof(ClientHeader, completion_signal) == 320);
static_assert(offsetof(ClientHeader, thread_table_mask) == 448);

enum class Op : std::uint8_t {
  kNone = 0,
  kPublish = 1,         // grant, grant_sequence, key, length, class, ack
  kFetch = 2,           // key: promote if needed, hold, answer slot+generation
  kPrefetch = 3,        // key: promote if it is below; answered at once
  kHold = 4,            // slot, generation (pinned now): becomes a hold
  kRelease = 5,         // slot, generation: ends one hold; not answered
  kWantGrants = 6,      // length = bytes of a slot, count: answered when one is
  kAbandon = 7,         // grant, grant_sequence; not answered
  kExtentReleased = 8,  // token of an extent-retire message; not answered
  kClose = 9,           // the client ends: pins, holds and grants are void from
                        // here on; not answered. (Socket EOF means nothing.)
  kMakeDurable = 10,    // key: answered when the block is on stable storage
  // sequence: data offset of the first extent, slot: count. OK: all of them are
  // held, by the client as a whole (twice is once); else none more than before.
  // A memd before extent holds answers as it does any op that it does not know:
  // INVALID_ARGUMENT, kBadField, the offset of `op`.
  kHoldExtents = 12,
  kReleaseExtents = 13,  // as kHoldExtents: those are not held; not answered
  // key: which tier has it, here or on another node; nothing is brought. OK:
  // tier, length. Only of a memd whose Welcome has kWelcomeFindsTiers.
  kFindTier = 14,

  // Of memd's own ports (regions); from others: INVALID_ARGUMENT.
  kAddStored = 32,  // key, length, class: the store has this block
  kDrop = 33,       // key: gone from every tier. UNAVAILABLE: in use now
  kDemote = 34,     // key: out of DRAM as soon as a copy is below; answered at
                    // once
};

// SubmissionEntry.flags of a port's kPublish: the store has the block already.
inline constexpr std::uint8_t kPublishStored = 1;
// Of kAbandon: the pages of the slot's extent were given back to the system.
inline constexpr std::uint8_t kAbandonEmptied = 2;
// Of a port's kWantGrants: whole extents, whose pages it gives back to the
// system. Of those that no client holds.
inline constexpr std::uint8_t kWantToEmpty = 4;

// One kHoldExtents is for this many at most: 256 MiB. A request is never a long
// piece of the reactor's time.
inline constexpr std::uint32_t kExtentsPerHoldMax = 64;

struct SubmissionEntry {
  std::uint64_t op_id;  // the client's; comes back in the completion
  Op op;
  BlockClass block_class;
  Ack ack;
  std::uint8_t flags;  // kPublish...; 0 of clients
  std::uint32_t grant;
  std::uint64_t sequence;  // of the grant, or generation, token, data offset
  Key key;
  std::int64_t deadline_ns;  // CLOCK_MONOTONIC
  std::uint32_t length;
  std::uint32_t slot;   // or count
  std::uint64_t trace;  // the caller's trace id, or 0
};
static_assert(sizeof(SubmissionEntry) == 64);
static_assert(offsetof(SubmissionEntry, key) == 24);
static_assert(offsetof(SubmissionEntry, trace) == 56);

enum class CompletionKind : std::uint16_t {
  kOp = 1,            // of the submission `op_id`
  kExtentRetire = 2,  // detail: offset, bytes, token. Answer kExtentReleased
                      // after the last device registration of it is gone
};

// Why a completion is not OK; libagentmem makes the sentence from it.
enum class Reason : std::uint16_t {
  kNone = 0,
  kNoSuchBlock = 1,
  kPoolFull = 2,     // detail: pool bytes, pinned+held bytes, owner's pid
  kHoldQuota = 3,    // detail: quota bytes, held bytes, pid
  kGrantQuota = 4,   // detail: quota bytes, granted bytes, pid
  kIndexFull = 5,    // detail: slots, 0, 0
  kBadLength = 6,    // detail: length, limit, 0
  kBadGrant = 7,     // detail: grant, sequence, 0
  kBadField = 8,     // detail: offset of the field, its value, 0
  kStoreFailed = 9,  // RESOURCE_EXHAUSTED: no space left
  kCorrupt = 10,     // the only copy failed its checksum
  kNoReplica = 11,   // no other node can take a copy now; detail: a Code, of
                     // RESOURCE_EXHAUSTED: their memory for it is full
  kDeadline = 12,
  kShutdown = 13,     // memd is draining
  kStaleSlot = 14,    // kHold: the generation has passed
  kStoreQuota = 15,   // detail: quota bytes, stored bytes, 0
  kPoolFailed = 16,   // no node that may have it answers
  kRemoteStore = 17,  // another node's store; detail: its name, NUL-padded, cut
  kExtentLent = 18,   // to regions, or about to be; detail: data offset of the
                      // first such extent, bytes, 0
};

struct CompletionEntry {
  std::uint64_t op_id;
  CompletionKind kind;
  Code code;
  Reason reason;
  std::uint8_t tier;  // kFetch, kFindTier: where it was found (Tier)
  std::uint8_t reserved0;
  std::uint32_t slot;
  std::uint32_t length;
  std::uint64_t generation;
  std::uint64_t detail[3];
  std::uint64_t reserved1;
};
static_assert(sizeof(CompletionEntry) == 64);

enum class GrantState : std::uint8_t { kFree = 0, kGranted = 1, kWriting = 2 };

struct GrantEntry {
  std::atomic<std::uint64_t> state;  // GrantState | sequence << 8
  std::uint64_t data_offset;
  std::uint32_t slot_bytes;
  std::uint32_t reserved0;
  std::uint64_t reserved1;
};
static_assert(sizeof(GrantEntry) == 32);

inline std::uint64_t PackGrant(std::uint64_t sequence, GrantState state) {
  return (sequence << 8) | static_cast<std::uint64_t>(state);
}
inline GrantState GrantStateOf(std::uint64_t packed) {
  return static_cast<GrantState>(packed & 0xff);
}
inline std::uint64_t GrantSequenceOf(std::uint64_t packed) {
  return packed >> 8;
}

struct alignas(64) ThreadTable {
  std::atomic<std::uint64_t> note_tail;
  std::uint8_t pad0[56];
  std::atomic<std::uint64_t> pins[kThreadPins];  // slot + 1, or 0
  std::atomic<std::uint64_t> notes[kThreadNotes];
  std::uint8_t pad1[4096 - 64 - 8 * (kThreadPins + kThreadNotes)];
};
static_assert(sizeof(ThreadTable) == 4096);

inline constexpr std::uint64_t kSubmissionOffset = sizeof(ClientHeader);
inline constexpr std::uint64_t kCompletionOffset =
    kSubmissionOffset + kSubmissionEntries * sizeof(SubmissionEntry);
inline constexpr std::uint64_t kGrantOffset =
    kCompletionOffset + kCompletionEntries * sizeof(CompletionEntry);
inline constexpr std::uint64_t kThreadTableOffset =
    kGrantOffset + kGrantEntries * sizeof(GrantEntry);
inline constexpr std::uint64_t kClientFileBytes =
    kThreadTableOffset + kThreadTables * sizeof(ThreadTable);
static_assert(kThreadTableOffset % 4096 == 0);
static_assert(kClientFileBytes == 471040);

// The parts of a mapped client file.
struct ClientFile {
  explicit ClientFile(void* base = nullptr) : base_(static_cast<char*>(base)) {}
  ClientHeader& header() const {
    return *reinterpret_cast<ClientHeader*>(base_);
  }
  SubmissionEntry* submissions() const {
    return reinterpret_cast<SubmissionEntry*>(base_ + kSubmissionOffset);
  }
  CompletionEntry* completions() const {
    return reinterpret_cast<CompletionEntry*>(base_ + kCompletionOffset);
  }
  GrantEntry* grants() const {
    return reinterpret_cast<GrantEntry*>(base_ + kGrantOffset);
  }
  ThreadTable* thread_tables() const {
    return reinterpret_cast<ThreadTable*>(base_ + kThreadTableOffset);
  }
  char* base() const { return base_; }

 private:
  char* base_;
};

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_CLIENT_LAYOUT_H_
