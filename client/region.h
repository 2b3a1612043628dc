// An open region: mapped and paged by faults, or explicit.
//
// Mapped: memd resolves faults of the mapping; Read and Write load a range and
// copy. Explicit: the memfd stays open, and Read and Write go by chunks: memd
// loads and keeps a chunk, it is read or written by pread and pwrite, marked
// dirty, let go.
//
// Ownership: owns its memory; keeps agent and connection alive. Threads:
// thread-safe; the caller's buffers are touched with no lock held, so that they
// may lie in a region themselves. Errors: as agents.h. Cost: a request each;
// Watch sleeps on a futex of the board and asks when it moved.
#ifndef AGENTMEM_CLIENT_REGION_H_
#define AGENTMEM_CLIENT_REGION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "client/agent.h"
#include "client/deadline.h"
#include "client/region_mapping.h"
#include "client/timed_mutex.h"
#include "proto/agent_messages.h"
#include "proto/outcome.h"

namespace agentmem::client {

class Region {
 public:
  struct Options {
    bool force_explicit = false;
    std::uint64_t bytes = 0;
    std::uint64_t version = 0;
  };
  struct Commit {
    Ack ack = Ack::kDurable;
    std::string tail;  // packed: message, labels
    std::uint8_t trace[16] = {};
  };
  using RangeCallback = std::function<void(const RangeEntry&)>;

  static Outcome Open(std::shared_ptr<Agent> agent, const char* name,
                      const Options& options, const Deadline& deadline,
                      std::unique_ptr<Region>* out);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  AgentConnection& connection() const { return agent_->connection(); }
  char* data() const { return mapping_.data(); }
  std::uint64_t bytes() const { return bytes_; }
  std::uint64_t version() const {
    return version_.load(std::memory_order_relaxed);
  }
  bool read_only() const { return read_only_; }
  TrackingMode mode() const { return mode_; }
  const std::string& explicit_reason() const { return reason_; }

  Outcome MakeVersion(const Commit& commit, const Deadline& deadline,
                      std::uint64_t* version);
  enum class Keep { kNo, kPinned };
  Outcome Populate(std::uint64_t offset, std::uint64_t bytes, Keep keep,
                   const Deadline& deadline);
  Outcome Unpin(std::uint64_t offset, std::uint64_t bytes,
                const Deadline& deadline);
  Outcome Hint(std::uint64_t offset, std::uint64_t bytes,
               std::uint64_t next_use_ns, const Deadline& deadline,
               std::uint8_t* answer);
  Outcome Read(std::uint64_t offset, char* buffer, std::uint64_t bytes,
               const Deadline& deadline);
  Outcome Write(std::uint64_t offset, const char* buffer, std::uint64_t bytes,
                const Deadline& deadline);
  Outcome Refresh(std::uint64_t version, const Deadline& deadline,
                  const RangeCallback& changed, std::uint64_t* moved_to);
  Outcome Watch(std::uint64_t after_version, const Deadline& deadline,
                std::uint64_t* version);

 private:
  Region(std::shared_ptr<Agent> agent, std::string name)
      : agent_(std::move(agent)), name_(std::move(name)) {}

  Outcome OpenAtMemd(const Options& options, const Deadline& deadline,
                     UniqueFd* memory);
  Outcome MapOrNot(const Options& options, const Deadline& deadline,
                   UniqueFd memory);
  Outcome CheckRange(std::uint64_t offset, std::uint64_t bytes) const;
  void FillRange(std::uint64_t offset, std::uint64_t bytes,
                 Exchange* exchange) const;
  Outcome RangeRequest(AgentOp op, std::uint32_t flags, std::uint64_t offset,
                       std::uint64_t bytes, const Deadline& deadline);
  Outcome ReadChunks(std::uint64_t offset, char* buffer, std::uint64_t bytes,
                     const Deadline& deadline);
  Outcome ReadChunk(std::uint64_t offset, char* buffer, std::uint64_t bytes,
                    const Deadline& deadline);
  Outcome WriteChunk(std::uint64_t offset, const char* buffer,
                     std::uint64_t bytes, const Deadline& deadline);
  Outcome LetGo(std::uint64_t offset, std::uint64_t bytes, Outcome outcome);
  // 0: watches no more. Tells memd when nobody watches a word any more.
  void SetBoardWord(std::uint32_t next);
  Outcome AskVersion(const Deadline& deadline, std::uint64_t* version);

  const std::shared_ptr<Agent> agent_;
  const std::string name_;
  std::uint32_t handle_ = 0;
  std::uint64_t bytes_ = 0;
  bool read_only_ = false;
  TrackingMode mode_ = TrackingMode::kNone;
  std::string reason_;
  UniqueFd memory_;  // of an explicit region
  RegionMapping mapping_;
  std::atomic<std::uint64_t> version_ = 0;
  // Its word of the board, plus one; 0: nobody watched yet.
  std::atomic<std::uint32_t> board_word_ = 0;
  // A Refresh, and a Read that one came in between of, exclude each other.
  TimedMutex moving_;
  // Odd while a Refresh moves the pages.
  std::atomic<std::uint32_t> moves_ = 0;
};

// All regions of an agent in one instant.
Outcome CommitAgent(Agent* agent, const Region::Commit& commit,
                    const Deadline& deadline);

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_REGION_H_
