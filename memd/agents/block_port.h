// A thread's port into the blocks of a tenant.
//
// A resident block is pinned without the reactor, by the protocol that clients
// use (docs/data-path.md). Everything else is posted to the reactor, and its
// handler is called from Poll. Submit never waits: what the ring has no room
// for goes out with a later Poll.
//
//   poll(wake_fd) <- PrepareSleep() said that nothing is here
//
// Ownership: owns the handle; what is pinned or held ends with the port.
// Threads: thread-compatible: one thread at a time. Handlers run in Poll, and
// may Submit. Errors: the completions' codes; StatusOf makes words of them.
// Cost: TryPin and Unpin: no system call. Submit: one if the reactor sleeps.
#ifndef AGENTMEM_MEMD_AGENTS_BLOCK_PORT_H_
#define AGENTMEM_MEMD_AGENTS_BLOCK_PORT_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "memd/agents/port_source.h"
#include "proto/index_reader.h"

namespace agentmem {

class BlockPort {
 public:
  using Handler = std::function<void(const CompletionEntry&)>;

  // Bytes that stay while it is pinned or held.
  static constexpr std::int32_t kNotPinned = -2;
  struct Pinned {
    const char* data = nullptr;
    std::uint32_t length = 0;
    // -1: held; kNotPinned: somebody else's, with nothing to release
    std::int32_t pin = -1;
    std::uint32_t slot = 0;
    std::uint64_t generation = 0;
  };
  // A slot to write into, until it is published or abandoned.
  struct Grant {
    char* data = nullptr;
    std::uint32_t slot_bytes = 0;
    std::uint32_t entry = 0;
    std::uint64_t sequence = 0;
    std::uint64_t data_offset = 0;
  };

  explicit BlockPort(PortHandle handle);
  ~BlockPort();
  BlockPort(const BlockPort&) = delete;
  BlockPort& operator=(const BlockPort&) = delete;

  // False: it is not in DRAM, or all pins are taken.
  bool TryPin(const Key& key, Pinned* pinned);
  // In DRAM, as it seems.
  bool IsResident(const Key& key) const {
    return index_.Find(key).kind == EntryKind::kResident;
  }
  // What a kFetch answered.
  Pinned Held(const CompletionEntry& answer) const;
  void Release(const Pinned& pinned);

  // A grant that is here already.
  bool TakeGrant(std::uint32_t length, Grant* grant);
  void Abandon(const Grant& grant) { Abandon(grant, 0); }
  // One of a whole extent, whose pages were given back to the system.
  void AbandonEmptied(const Grant& grant) { Abandon(grant, kAbandonEmptied); }

  // Fills in the op id. Without a handler the answer is dropped.
  void Submit(SubmissionEntry entry, Handler handler);
  void Fetch(const Key& key, TimeNs deadline, Handler handler);
  void Prefetch(const Key& key);
  void Publish(const Grant& grant, const Key& key, std::uint32_t length,
               Ack ack, std::uint8_t flags, Handler handler);
  void Ask(Op op, const Key& key, TimeNs deadline, Handler handler);

  // Calls the handlers of what was answered; how many.
  std::size_t Poll();
  // True: nothing is there, and from now on wake_fd() becomes readable when
  // there is. Poll again after it was.
  bool PrepareSleep();
  void Awake();
  int wake_fd() const { return handle_.wake.get(); }
  // Runs Poll until `done` or the deadline, waiting; false: the deadline.
  bool PollUntil(const std::function<bool()>& done, TimeNs deadline,
                 const Clock& clock);

  std::size_t unanswered() const { return handlers_.size(); }
  int data_fd() const { return handle_.data_fd; }

 private:
  void Abandon(const Grant& grant, std::uint8_t flags);
  void Flush();
  bool RingHasRoom() const;
  void Ring();

  PortHandle handle_;
  IndexReader index_;
  absl::flat_hash_map<std::uint64_t, Handler> handlers_;
  std::deque<SubmissionEntry> waiting_;  // for room in the ring
  std::uint64_t next_id_ = 0;
  std::uint64_t submission_tail_ = 0;
  std::uint64_t completion_head_ = 0;
  std::uint32_t pin_hint_ = 0;
  std::uint32_t grant_hint_ = 0;
};

// A grant for `length` bytes, waited for until the deadline; false: none.
bool GrantFor(BlockPort* port, std::uint32_t length, TimeNs deadline,
              const Clock& clock, BlockPort::Grant* grant);
// A whole extent whose pages the caller may give back to the system: no client
// holds it, and none can until the grant ends. The port asks for nothing else.
bool GrantToEmpty(BlockPort* port, TimeNs deadline, const Clock& clock,
                  BlockPort::Grant* grant);

// "`what`: ..." for a completion that is not OK.
absl::Status StatusOf(const CompletionEntry& answer, const std::string& what);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_BLOCK_PORT_H_
