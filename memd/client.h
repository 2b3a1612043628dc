// What memd knows of one attached client, in memory that the client cannot
// write: the truth about its grants and holds, and memd's ends of its rings.
//
// Life: made by Tenant::AddClient after the handshake; ended by
// Tenant::RemoveClient when the pidfd says that the process is dead, or when
// the client itself sent Op::kClose. A closed socket ends nothing.
//
// The client file is hostile input: every value read from it is copied once and
// checked. A client that breaks its rings is `broken`: nothing more is taken
// from it, and it keeps what it has until it dies.
//
// Ownership: owns the books, borrows the mapping of the client file.
// Threads: reactor-only. Errors: none of its own. Cost: no system calls.
#ifndef AGENTMEM_MEMD_CLIENT_H_
#define AGENTMEM_MEMD_CLIENT_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "proto/client_layout.h"
#include "proto/size_class.h"
#include "proto/types.h"

namespace agentmem {

struct ClientIdentity {
  ClientId id;
  std::string name;
  std::int32_t pid = 0;
  std::uint32_t uid = 0;
  std::uint64_t start_time = 0;
  bool is_port = false;  // a thread of memd: no quotas, and ops of its own
};

class Client {
 public:
  static constexpr std::uint32_t kNoSlot = 0xffffffff;

  struct Grant {
    std::uint32_t slot = kNoSlot;  // kNoSlot: the entry is free
    std::uint64_t sequence = 0;
    std::uint8_t size_class = 0;
    TimeNs offered_at = 0;
  };
  struct Hold {
    std::uint32_t count = 0;
    TimeNs since = 0;
  };

  // `signalled` receives the id whenever there is something to tell the client.
  Client(ClientIdentity identity, void* file_base, std::uint64_t instance,
         std::vector<ClientId>* signalled, TimeNs now);

  // Copies the next submission into `entry`; false when there is none, when
  // there would be no room for its completion, or when the client is broken.
  bool NextSubmission(SubmissionEntry* entry);
  bool HasSubmissions();
  // Has submissions, and no room for what they would be answered.
  bool IsStuck();

  // Posts a completion. Room for it was made sure of by NextSubmission.
  void Complete(const CompletionEntry& entry);
  // A submission that will get no completion.
  void Dismiss() { --unanswered_; }
  // Is there room for a message that answers nothing? Not with a client that
  // has let half of its completions stand unread: the rest is for answers.
  bool MayNotify() const;
  // If there is.
  void Notify(const CompletionEntry& entry);

  // Offers the client a slot; false when all entries are taken.
  bool Offer(std::uint32_t slot, std::uint64_t data_offset,
             std::uint8_t size_class, TimeNs now);
  // Has it an offer of the class that it has not begun to use?
  bool HasOffer(std::uint8_t size_class) const;
  bool HasFreeGrantEntry() const;
  // Takes back an offer that the client has not begun to use.
  bool Revoke(std::uint32_t entry);
  // Ends a grant by the client's word. kNoSlot: it never had this one.
  std::uint32_t Settle(std::uint32_t entry, std::uint64_t sequence);

  // Calls visit(pin word) for every pin that stands in the client's tables.
  template <typename Visit>
  void ForEachPin(Visit visit) const;
  // Calls visit(note) for the access notes since the last call; returns how
  // many there were, adds the overwritten ones to *lost. Of the tables that
  // were ever seen in use; after the client's end of all, since a thread gives
  // its table back when it ends.
  template <typename Visit>
  std::uint64_t DrainNotes(Visit visit, std::uint64_t* lost);

  // Before the last DrainNotes.
  void SeeAllTables() { tables_seen_ = ~0ULL; }

  // Moves the futex word; true when somebody sleeps on it.
  bool TakeSignal();
  const ClientIdentity& identity() const { return identity_; }
  const ClientFile& file() const { return file_; }
  TimeNs connected_at() const { return connected_at_; }
  bool broken() const { return broken_; }

  // Books that Tenant keeps here.
  std::array<Grant, kGrantEntries> grants;
  absl::flat_hash_map<std::uint32_t, Hold> holds;  // by slot
  std::uint64_t held_bytes = 0;
  std::uint64_t granted_bytes = 0;
  std::uint64_t limbo_bytes = 0;
  std::uint64_t pinned_bytes = 0;  // of slots that it pinned first; last scan
  TimeNs last_put = 0;
  bool closed = false;         // sent Op::kClose
  bool socket_closed = false;  // hung up; says nothing about the process

 private:
  // How many completions stand unread: as the client says.
  std::uint64_t Unreaped() const;
  void Write(const CompletionEntry& entry);
  void Signal();

  const ClientIdentity identity_;
  std::vector<ClientId>* const signalled_;
  const ClientFile file_;
  const TimeNs connected_at_;
  std::uint64_t submission_head_ = 0;
  std::uint64_t completion_tail_ = 0;
  std::uint64_t unanswered_ = 0;  // taken, and not yet completed or dismissed
  std::uint32_t free_grant_hint_ = 0;
  bool signal_ = false;
  bool broken_ = false;
  std::uint64_t tables_seen_ = 0;
  std::array<std::uint64_t, kThreadTables> note_heads_ = {};
};

template <typename Visit>
void Client::ForEachPin(Visit visit) const {
  std::uint64_t mask =
      file_.header().thread_table_mask.load(std::memory_order_seq_cst);
  while (mask != 0) {
    const int table = __builtin_ctzll(mask);
    mask &= mask - 1;
    for (const auto& pin : file_.thread_tables()[table].pins) {
      const std::uint64_t word = pin.load(std::memory_order_seq_cst);
      if (word != 0) visit(word);
    }
  }
}

template <typename Visit>
std::uint64_t Client::DrainNotes(Visit visit, std::uint64_t* lost) {
  tables_seen_ |=
      file_.header().thread_table_mask.load(std::memory_order_relaxed);
  std::uint64_t mask = tables_seen_;
  std::uint64_t total = 0;
  while (mask != 0) {
    const int index = __builtin_ctzll(mask);
    mask &= mask - 1;
    const ThreadTable& table = file_.thread_tables()[index];
    const std::uint64_t tail = table.note_tail.load(std::memory_order_acquire);
    std::uint64_t& head = note_heads_[index];
    const std::uint64_t count = tail - head;
    // A tail that went back (a lying client) reads as a huge count: all that
    // is believed of it is one ring's worth.
    total += count > (1ULL << 32) ? 0 : count;
    if (count > kThreadNotes) {
      *lost += count > (1ULL << 32) ? 0 : count - kThreadNotes;
      head = tail - kThreadNotes;
    }
    for (; head != tail; ++head) {
      visit(table.notes[head % kThreadNotes].load(std::memory_order_relaxed));
    }
  }
  return total;
}

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLIENT_H_
