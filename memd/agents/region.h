// One mapping of a region by one process: which of its pages are in its memfd,
// what was written since the last version, and how pages come and go.
//
//   absent --fault, populate--> loading --blocks here--> resident
//     ^                                                     |
//     +------ let go (clean), or spilled (changed) ---------+
//
// A page's content is, in this order: its spilled copy (a private block, never
// part of a version unless a commit takes it over), the pieces that the version
// names for it, zeros. `changed` are the 4 KiB units written since the version;
// `writable` those that may be written without being reported now. A page that
// is let go is protected first: then no write is under way, and what is read
// from the memfd is what is spilled.
//
// Nobody but the session's thread moves pages, so a fault, a commit and an
// eviction never meet in the middle of one another. Waiting for blocks is by
// handlers; only nodes of the manifest, grants and spills are waited for in
// place.
//
// Ownership: owns the memfd; borrows the session's tools. Threads:
// thread-compatible: the session's thread. Errors: a page whose blocks are lost
// is poisoned (SIGBUS for who touches it) and named in the log; others go on.
// Cost: a fault of a resident block: one copy of 64 KiB, one or two ioctls.
#ifndef AGENTMEM_MEMD_AGENTS_REGION_H_
#define AGENTMEM_MEMD_AGENTS_REGION_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "memd/agents/block_port.h"
#include "memd/agents/lone_reads.h"
#include "memd/agents/manifest.h"
#include "memd/agents/node_loader.h"
#include "memd/agents/page_content.h"
#include "memd/agents/page_mapper.h"
#include "memd/agents/region_memory.h"
#include "memd/agents/working_set.h"
#include "proto/agent_messages.h"

namespace agentmem {

// What a session's regions share.
struct RegionTools {
  BlockPort* port = nullptr;
  RegionMemory* memory = nullptr;
  const Clock* clock = nullptr;
  NodeSource* nodes = nullptr;
  LoneReads* lone_reads = nullptr;
  // A name for a new block of this writer; null for readers.
  std::function<Key()> new_key;
  // Lets pages of any region of the session go, at least one; false: none can.
  std::function<bool()> make_room;
  // Serves faults and answers until `done` (or the deadline: false).
  std::function<bool(const std::function<bool()>& done, TimeNs deadline)> serve;
  // Several answers are being taken: what they finish is finished together.
  const bool* collects = nullptr;
  char* scratch = nullptr;                               // a page
  std::atomic<std::uint64_t>* resident_bytes = nullptr;  // of the whole agent
};

class Region {
 public:
  struct Options {
    std::string agent;
    std::string name;
    std::uint32_t id = 0;
    std::uint64_t bytes = 0;
    bool for_reading = false;
  };
  struct Captured {  // by Cut, a page as it was then
    std::uint32_t page = 0;
    std::uint16_t changed = 0;
    bool spilled = false;  // its content is the block `spill`
    Piece spill;
  };

  // `version` may be missing: all zeros.
  Region(Options options, RegionTools* tools, UniqueFd memfd,
         std::shared_ptr<const Manifest> version);
  ~Region();

  void SetMapper(std::unique_ptr<PageMapper> mapper, std::uint64_t address);
  bool mapped() const { return mapped_; }
  bool Covers(std::uint64_t address) const {
    return mapped_ && address - address_ < options_.bytes;
  }
  // `alone`: no other fault was there with it.
  void OnFault(const PageFault& fault, bool alone);
  // Brings [offset, offset + bytes) in; with `pin` it stays until Unpin.
  absl::Status Populate(std::uint64_t offset, std::uint64_t bytes, bool pin,
                        TimeNs deadline);
  void Unpin(std::uint64_t offset, std::uint64_t bytes);
  // An explicit region's word on what it wrote.
  absl::Status MarkWritten(std::uint64_t offset, std::uint64_t bytes);
  // Hints: pages are asked for, or let go as far as they are clean.
  void BringAhead(std::uint64_t offset, std::uint64_t bytes);
  void LetGoRange(std::uint64_t offset, std::uint64_t bytes);
  // The mapping ends: so do its private blocks (TakeDeadBlocks has them).
  void Abandon();
  // The oldest pages leave, up to `pages`; how many did.
  std::size_t LetGo(std::size_t pages);
  // Pages whose answers came while they were collected appear.
  void FinishCollected();
  // What waited for room or for the store is tried again.
  void Retry();
  bool waiting() const { return !retry_.empty(); }

  // Commit: from Cut on, writes to changed pages wait until Capture has taken
  // the page (or EndCut). What Cut returns is sorted by page.
  absl::StatusOr<std::vector<Captured>> Cut();
  // Reads `units` of the page as it was at the cut into `bytes` (a page).
  absl::Status ReadPage(std::uint32_t page, char* bytes) const;
  void EndCut(std::uint32_t page);
  // Pages whose writers wait, to be captured first.
  std::optional<std::uint32_t> TakeUrgent();
  // After a commit of what Cut returned. Without success, all of it is changed
  // still; if it may be in the store all the same (`unknown`), the private
  // blocks that it took stay until a restart tells.
  void Committed(const std::vector<Captured>& pages,
                 std::shared_ptr<const Manifest> version);
  void NotCommitted(const std::vector<Captured>& pages, bool unknown);

  // A reader moves to another version: these pages are dropped.
  void MoveTo(std::shared_ptr<const Manifest> version,
              const std::vector<RangeEntry>& changed);

  const Options& options() const { return options_; }
  const std::shared_ptr<const Manifest>& version() const { return version_; }
  absl::StatusOr<PageContent> ContentOf(std::uint32_t page);
  NodeLoader* loader() { return &loader_; }
  int memfd() const { return memfd_.get(); }
  std::uint64_t resident_bytes() const { return resident_bytes_; }
  std::uint64_t changed_bytes() const;
  // Names of private blocks that nothing refers to any more.
  std::vector<Key> TakeDeadBlocks() { return std::exchange(dead_, {}); }
  // Pages to be read ahead from the next fault on.
  void PlanWorkingSet(WorkingSet pages);
  // Asks for some of them; true: it did.
  bool ReadPlanned();
  // Touches are recorded from here on, as after a resume. A region that had a
  // version when it was opened does it from its start.
  void RecordTouches() { recording_ = true; }
  // The working set as it is now, if more was touched than was planned. What is
  // touched from here on is recorded anew.
  std::optional<WorkingSet> TakeWorkingSet();

 private:
  enum class State : std::uint8_t { kAbsent, kLoading, kResident, kLost };
  struct Page {
    State state = State::kAbsent;
    bool spilled = false;    // `spill` has its content
    bool cutting = false;    // to be captured before it may be written
    bool in_flight = false;  // part of a commit that is not done: stays here
    std::uint16_t changed = 0;
    std::uint16_t writable = 0;
    std::uint16_t wanted = 0;  // units whose writers wait
    std::uint16_t pins = 0;
    bool awaited = false;           // somebody waits for it ...
    std::uint8_t awaited_unit = 0;  // ... by a fault of this unit
    std::uint64_t arrival = 0;      // the one in arrivals_ that counts
    Piece spill;
    bool keep_spill = false;  // a version that may be in the store has it
  };
  struct Arrival {
    std::uint32_t page = 0;
    std::uint64_t number = 0;
  };
  struct Load {
    std::uint32_t page = 0;
    std::shared_ptr<const Manifest> version;  // that `pieces` are of
    std::vector<Piece> pieces;
    std::vector<BlockPort::Pinned> blocks;  // of `pieces`
    std::size_t missing = 0;
    std::optional<CompletionEntry> failure;
    bool planned = false;
  };

  std::uint64_t OffsetOf(std::uint32_t page) const {
    return static_cast<std::uint64_t>(page) * kPageBytes;
  }
  std::uint64_t LengthOf(std::uint32_t page) const;
  std::uint16_t UnitsOf(std::uint32_t page) const;
  enum class Why : std::uint8_t { kTouched, kTouchedAlone, kAhead, kPlanned };
  void StartLoad(std::uint32_t page, Why why);
  bool ReadAlone(const std::shared_ptr<Load>& load, std::size_t piece);
  static void Await(Page* page, std::uint64_t unit);
  void ReadAhead(std::uint32_t page);
  absl::Status AwaitPage(std::uint32_t page, TimeNs deadline,
                         std::uint64_t unmapped_before);
  void NoteFailure(std::uint32_t page, absl::Status why);
  void UnpinPages(std::uint32_t first, std::uint32_t end);
  void OnBlock(const std::shared_ptr<Load>& load, std::size_t piece,
               const CompletionEntry& answer);
  void FinishLoad(const std::shared_ptr<Load>& load);
  bool TakeRoom();
  const char* Assemble(const Load& load) const;
  void ReleaseBlocks(Load* load);
  // OK, or what a retry may mend.
  absl::Status Appear(const Load& load, const char* bytes, bool zeros);
  absl::Status Install(std::uint32_t page, const char* bytes,
                       std::uint32_t first_unit);
  void NoteArrival(std::uint32_t page);
  bool HasArrived(const Arrival& arrival) const;
  void Lose(std::uint32_t page, const absl::Status& why);
  absl::Status LostStatus(std::uint32_t page) const;
  void AllowWrites(std::uint32_t page, std::uint16_t units);
  void DropSpill(Page* page);
  bool Spill(const std::vector<std::uint32_t>& pages);
  void Punch(std::uint32_t page);

  const Options options_;
  RegionTools* const tools_;
  const UniqueFd memfd_;
  NodeLoader loader_;
  std::shared_ptr<const Manifest> version_;
  std::unique_ptr<PageMapper> mapper_;
  bool mapped_ = false;
  std::uint64_t address_ = 0;
  absl::flat_hash_map<std::uint32_t, Page> pages_;
  // Resident pages, oldest first; and pages that have left by another way.
  std::deque<Arrival> arrivals_;
  std::uint64_t last_arrival_ = 0;
  std::uint64_t unmapped_ = 0;  // pages that had nowhere to go
  std::vector<std::shared_ptr<Load>> retry_;
  std::vector<std::shared_ptr<Load>> collected_;
  // The page that AwaitPage waits for, and what failed it meanwhile.
  std::optional<std::uint32_t> awaited_page_;
  absl::Status awaited_failure_;
  std::deque<std::uint32_t> urgent_;
  std::vector<Key> dead_;
  std::vector<std::uint32_t> touched_;  // first touches, in their order
  bool recording_ = false;
  WorkingSet planned_;
  std::size_t planned_next_ = 0;
  std::size_t planned_loading_ = 0;
  std::uint32_t last_fault_ = 0;   // its page
  std::uint32_t ahead_end_ = 0;    // pages below it were asked for
  std::uint32_t ahead_pages_ = 0;  // of the next round
  std::uint64_t resident_bytes_ = 0;
  bool letting_go_ = false;
  std::uint64_t lost_pages_ = 0;
  absl::flat_hash_map<std::uint32_t, std::string> lost_;  // why; the first ones
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_REGION_H_
