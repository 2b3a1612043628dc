// A small memd for tests of libagentmem: one tenant, an index and a data memfd,
// the handshake, and a thread that answers rings. What it does not have (a
// policy, a store, quotas) tests put into its mouth.
//
// Ownership: owns its memory, socket and thread; the destructor is its death.
// Threads: thread-safe. Errors: a failed system call ends the test.
// Cost: one thread, asleep when nothing comes.
#ifndef AGENTMEM_TESTS_UNIT_CLIENT_FAKE_MEMD_H_
#define AGENTMEM_TESTS_UNIT_CLIENT_FAKE_MEMD_H_

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "proto/client_layout.h"
#include "proto/handshake.h"
#include "proto/index_layout.h"

namespace agentmem {

class FakeMemd {
 public:
  struct Options {
    std::uint64_t slots = 256;
    std::uint64_t data_bytes = 64ULL << 20;
    std::uint32_t wire_version = kWireVersion;
    std::uint32_t client_layout_version = kClientVersion;
    std::uint32_t index_version = kIndexVersion;
    std::uint32_t welcome_flags = 0;
    std::string refusal;  // not empty: PERMISSION_DENIED with this text
    // Room that no block has any more goes to later ones, and a grant that was
    // used is followed by another. For blocks that fill theirs: of a size of a
    // power of two.
    bool reuses_room = false;
    std::uint32_t grants_max = UINT32_MAX;  // of all clients together
    std::uint64_t holds_max = UINT64_MAX;
    // Takes connections for agents, behind their Hello. Empty: this memd is too
    // old to know of agents, and welcomes them as it does others.
    std::function<void(UniqueFd)> agents = nullptr;
  };

  FakeMemd(std::string socket_path, const Options& options);
  explicit FakeMemd(std::string socket_path)
      : FakeMemd(std::move(socket_path), Options()) {}
  ~FakeMemd();

  // Content.
  std::uint32_t AddResident(const Key& key, const std::string& bytes);
  // As AddResident, but the bytes are those that are there: for many blocks.
  std::uint32_t AddResidentAt(const Key& key, std::uint64_t offset,
                              std::uint32_t length);
  void AddBelow(const Key& key, const std::string& bytes);
  // Another node has it: memd says so when it is asked, and not the index.
  void AddElsewhere(const Key& key);
  // Unpublishes; the slot's bytes stay as they are.
  void Evict(const Key& key);
  // As memd reuses a slot: unpublishes it, and if then no pin stands on it,
  // fills its bytes with `fill`. Publishes it again. True if it was filled.
  bool Rewrite(const Key& key, char fill);
  // All of the data becomes so: when nothing is resident.
  void FillData(char fill);
  bool IsResident(const Key& key);
  std::string BytesOf(const Key& key);
  // Of slot `slot`: how often it stands in pins now.
  int PinsOn(std::uint32_t slot);
  int Pins();

  // Rings are left alone until Resume.
  void Pause();
  void Resume();
  // Operations of this kind are answered so until ClearAnswer.
  void SetAnswer(Op op, const CompletionEntry& answer);
  void ClearAnswer(Op op);
  // The next one of this kind for this key.
  void AnswerOnce(Op op, const Key& key, const CompletionEntry& answer);
  // The next one of this kind for this key is not answered until LetGo.
  void Withhold(Op op, const Key& key);
  // What was withheld is answered, and nothing is withheld any more.
  void LetGo();
  // How many of this kind were taken off the rings.
  int Count(Op op);
  // Waits until `op` was taken at least `count` times.
  void AwaitCount(Op op, int count);
  // The one of this kind that was taken last.
  SubmissionEntry Last(Op op);
  std::uint64_t holds();
  int connections();
  // The client file of the client that came last.
  ClientFile file();
  // Grants one slot of `bytes` bytes to the client that came last.
  void Grant(std::uint32_t bytes);
  // Asks it for an extent.
  void Retire(std::uint64_t data_offset, std::uint64_t token);
  // How many grants of it are taken or offered.
  int GrantsIn(GrantState state);

  const std::array<std::uint8_t, 32>& tenant_key() const { return tenant_key_; }

 private:
  struct Attached {
    UniqueFd socket;
    UniqueFd doorbell;
    UniqueFd memory;
    void* base = nullptr;
    bool closed = false;  // sent kClose: its pins are void
    std::uint64_t submission_head = 0;
    std::uint64_t completion_tail = 0;
    std::array<std::uint64_t, kGrantEntries> sequences = {};
  };

  void Run();
  void Accept();
  void SendWelcome(Attached* client);
  bool Serve(Attached* client);
  void Handle(Attached* client, const SubmissionEntry& entry);
  void HandlePublish(Attached* client, const SubmissionEntry& entry,
                     CompletionEntry* answer);
  void HandleFetch(const SubmissionEntry& entry, CompletionEntry* answer);
  void Complete(Attached* client, const CompletionEntry& answer);
  void Signal(Attached* client);
  // False: none more may be.
  bool GrantLocked(Attached* client, std::uint32_t bytes);
  std::uint64_t Allocate(std::uint64_t bytes);
  void FreeRoom(std::uint64_t offset, std::uint64_t bytes);
  std::uint64_t RoomOf(std::uint64_t bytes) const {
    return (bytes + 511) / 512 * 512;
  }
  std::uint32_t PublishLocked(const Key& key, std::uint64_t offset,
                              std::uint32_t length);
  void SetEntry(const Key& key, std::uint64_t entry);
  std::atomic<std::uint64_t>* FindEntry(const Key& key);
  int PinsOnLocked(std::uint32_t slot_index);
  void Wake();
  Slot& slot(std::uint32_t index);

  const std::string socket_path_;
  const Options options_;
  std::array<std::uint8_t, 32> tenant_key_;
  UniqueFd index_fd_;
  UniqueFd data_fd_;
  UniqueFd listener_;
  UniqueFd wake_;
  char* index_ = nullptr;
  std::uint64_t index_bytes_ = 0;
  char* data_ = nullptr;
  std::uint64_t buckets_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool paused_ = false;
  std::uint64_t allocated_ = 0;
  std::uint32_t slots_used_ = 0;
  std::uint32_t granted_ = 0;
  std::vector<std::uint32_t> free_slots_;
  // Offsets by length: those that were free longest first.
  std::map<std::uint64_t, std::deque<std::uint64_t>> free_room_;
  std::map<Key, std::uint32_t> resident_;
  std::map<Key, std::string> below_;
  std::set<Key> elsewhere_;
  std::map<Op, CompletionEntry> answers_;
  std::map<std::pair<Op, Key>, CompletionEntry> answers_once_;
  std::set<std::pair<Op, Key>> withheld_;
  std::vector<std::pair<Attached*, SubmissionEntry>> unanswered_;
  std::map<Op, int> counts_;
  std::map<Op, SubmissionEntry> last_;
  std::uint64_t holds_ = 0;
  std::vector<std::unique_ptr<Attached>> clients_;
  std::thread thread_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_CLIENT_FAKE_MEMD_H_
