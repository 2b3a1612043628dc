#include "client/region.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "client/messages.h"
#include "proto/agent_fields.h"

namespace agentmem::client {
namespace {

// The longest sleep of a watcher without a look at whether memd still lives.
constexpr DurationNs kWatchSleepMax = 100 * kMillisecondNs;
// The board is a hint, which any process of the tenant can spoil: memd is asked
// this often without it.
constexpr std::uint64_t kWatchAskNs = 500 * kMillisecondNs;

bool IsRegionSize(std::uint64_t bytes) {
  return bytes >= kUnitBytes && bytes <= kRegionBytesMax &&
         bytes % kUnitBytes == 0;
}

Outcome CheckSize(const std::string& name, std::uint64_t bytes) {
  if (bytes == 0 || IsRegionSize(bytes)) return {};
  return Fail(Code::kInvalidArgument,
              "region " + name + ": bytes is " + std::to_string(bytes) +
                  "; a multiple of " + std::to_string(kUnitBytes) + " from " +
                  HumanBytes(kUnitBytes) + " to " +
                  HumanBytes(kRegionBytesMax) +
                  " is allowed, or 0 for a region that exists");
}

Outcome BadAnswer(const std::string& what) {
  return Fail(Code::kInternal, "memd answers with " + what);
}

Outcome CheckMemory(const UniqueFd& memory, std::uint64_t bytes) {
  struct stat info;
  if (!memory.valid() || fstat(memory.get(), &info) != 0 ||
      static_cast<std::uint64_t>(info.st_size) < bytes) {
    return BadAnswer("no memory of " + HumanBytes(bytes) + " for a region");
  }
  return {};
}

void FillCommit(const Region::Commit& commit, Exchange* exchange) {
  exchange->request.arg[0] = static_cast<std::uint64_t>(commit.ack);
  std::copy(std::begin(commit.trace), std::end(commit.trace),
            exchange->request.trace);
  exchange->tail = commit.tail;
}

}  // namespace

Outcome Region::Open(std::shared_ptr<Agent> agent, const char* name,
                     const Options& options, const Deadline& deadline,
                     std::unique_ptr<Region>* out) {
  if (Outcome named = CheckName("region's name", name, kRegionNameBytes);
      !named.ok()) {
    return named;
  }
  if (Outcome sized = CheckSize(name, options.bytes); !sized.ok()) {
    return sized;
  }
  std::unique_ptr<Region> region(new Region(std::move(agent), name));
  UniqueFd memory;
  if (Outcome opened = region->OpenAtMemd(options, deadline, &memory);
      !opened.ok()) {
    return opened;
  }
  if (Outcome mapped = region->MapOrNot(options, deadline, std::move(memory));
      !mapped.ok()) {
    return mapped;
  }
  *out = std::move(region);
  return {};
}

Outcome Region::OpenAtMemd(const Options& options, const Deadline& deadline,
                           UniqueFd* memory) {
  Exchange exchange(AgentOp::kRegionOpen);
  exchange.request.handle = agent_->handle();
  exchange.request.length = options.bytes;
  exchange.request.region_version = options.version;
  name_.copy(exchange.request.region, kRegionNameBytes - 1);
  if (Outcome called = connection().Call(&exchange, deadline); !called.ok()) {
    return called;
  }
  const AgentReply& reply = exchange.reply;
  handle_ = static_cast<std::uint32_t>(reply.value[0]);
  bytes_ = reply.value[1];
  version_.store(reply.value[2], std::memory_order_relaxed);
  read_only_ = reply.value[4] != 0 || !agent_->writes() || options.version != 0;
  if (handle_ == 0 || !IsRegionSize(bytes_)) {
    return BadAnswer("a region of " + std::to_string(bytes_) + " bytes");
  }
  *memory = std::move(exchange.reply_fd);
  return CheckMemory(*memory, bytes_);
}

Outcome Region::MapOrNot(const Options& options, const Deadline& deadline,
                         UniqueFd memory) {
  Faults faults;
  if (options.force_explicit) {
    faults.reason = "it was opened so";
  } else if (Outcome obtained = connection().ObtainFaults(deadline, &faults);
             !obtained.ok()) {
    return obtained;
  }
  if (faults.mode != TrackingMode::kNone) {
    Outcome mapped = mapping_.Map(&connection(), memory.get(), bytes_,
                                  read_only_, agent_->fault_timeout_ns());
    if (mapped.ok()) {
      Exchange exchange(AgentOp::kRegionMapped);
      exchange.request.region_handle = handle_;
      exchange.request.arg[0] =
          reinterpret_cast<std::uintptr_t>(mapping_.data());
      mode_ = faults.mode;
      return connection().Call(&exchange, deadline);
    }
    mapping_.Reset();
    faults.reason = std::move(mapped.message);
  }
  reason_ = std::move(faults.reason);
  memory_ = std::move(memory);
  return {};
}

Region::~Region() {
  // In a forked child there is no mapping, and the socket is the parent's.
  AgentConnection& owner = connection();
  if (handle_ != 0 && !owner.Lost()) {
    SetBoardWord(0);
    const Deadline deadline = Deadline::After(kCloseTimeoutNs);
    Exchange exchange(AgentOp::kRegionClose);
    exchange.request.region_handle = handle_;
    // Without an answer it ends with the connection.
    [[maybe_unused]] const Outcome ignored = owner.Call(&exchange, deadline);
  }
}

Outcome Region::CheckRange(std::uint64_t offset, std::uint64_t bytes) const {
  if (offset <= bytes_ && bytes <= bytes_ - offset) return {};
  return Fail(Code::kOutOfRange, std::to_string(bytes) + " bytes at offset " +
                                     std::to_string(offset) + " of region " +
                                     name_ + ", which has " +
                                     std::to_string(bytes_));
}

// memd speaks of whole units: those that the range touches.
void Region::FillRange(std::uint64_t offset, std::uint64_t bytes,
                       Exchange* exchange) const {
  const std::uint64_t begin = offset & ~(kUnitBytes - 1);
  const std::uint64_t end =
      (offset + bytes + kUnitBytes - 1) & ~(kUnitBytes - 1);
  exchange->request.region_handle = handle_;
  exchange->request.offset = begin;
  exchange->request.length = end - begin;
}

Outcome Region::RangeRequest(AgentOp op, std::uint32_t flags,
                             std::uint64_t offset, std::uint64_t bytes,
                             const Deadline& deadline) {
  Exchange exchange(op);
  exchange.request.flags = flags;
  FillRange(offset, bytes, &exchange);
  return connection().Call(&exchange, deadline);
}

Outcome Region::Populate(std::uint64_t offset, std::uint64_t bytes, Keep keep,
                         const Deadline& deadline) {
  if (Outcome checked = CheckRange(offset, bytes); !checked.ok()) {
    return checked;
  }
  return RangeRequest(AgentOp::kPopulate,
                      keep == Keep::kPinned ? kPopulatePin : 0, offset, bytes,
                      deadline);
}

Outcome Region::Unpin(std::uint64_t offset, std::uint64_t bytes,
                      const Deadline& deadline) {
  if (Outcome checked = CheckRange(offset, bytes); !checked.ok()) {
    return checked;
  }
  return RangeRequest(AgentOp::kUnpin, 0, offset, bytes, deadline);
}

Outcome Region::Hint(std::uint64_t offset, std::uint64_t bytes,
                     std::uint64_t next_use_ns, const Deadline& deadline,
                     std::uint8_t* answer) {
  if (Outcome checked = CheckRange(offset, bytes); !checked.ok()) {
    return checked;
  }
  Exchange exchange(AgentOp::kHint);
  FillRange(offset, bytes, &exchange);
  exchange.request.arg[0] = next_use_ns;
  Outcome outcome = connection().Call(&exchange, deadline);
  if (outcome.ok()) {
    *answer = static_cast<std::uint8_t>(exchange.reply.value[0]);
  }
  return outcome;
}

Outcome Region::MakeVersion(const Commit& commit, const Deadline& deadline,
                            std::uint64_t* version) {
  if (read_only_) {
    return Fail(Code::kFailedPrecondition,
                "region " + name_ + " is open for reading");
  }
  Exchange exchange(AgentOp::kCommit);
  exchange.request.handle = agent_->handle();
  exchange.request.region_handle = handle_;
  FillCommit(commit, &exchange);
  Outcome outcome = connection().Call(&exchange, deadline);
  if (outcome.ok()) {
    *version = exchange.reply.value[0];
    version_.store(*version, std::memory_order_relaxed);
  }
  return outcome;
}

Outcome Region::Refresh(std::uint64_t version, const Deadline& deadline,
                        const RangeCallback& changed, std::uint64_t* moved_to) {
  if (!read_only_) {
    return Fail(Code::kFailedPrecondition,
                "region " + name_ +
                    " is open for writing; only a reader can move to another "
                    "version");
  }
  Exchange exchange(AgentOp::kRefresh);
  exchange.request.region_handle = handle_;
  exchange.request.region_version = version;
  if (!moving_.Lock(deadline)) {
    return Fail(
        Code::kDeadlineExceeded,
        "region " + name_ + " was being read or refreshed until the deadline");
  }
  moves_.fetch_add(1, std::memory_order_acq_rel);
  const Outcome called = connection().Call(&exchange, deadline);
  moves_.fetch_add(1, std::memory_order_acq_rel);
  moving_.Unlock();
  if (!called.ok()) return called;
  *moved_to = exchange.reply.value[0];
  version_.store(*moved_to, std::memory_order_relaxed);
  if (!changed) return {};
  if (exchange.reply.value[1] != 0) {
    changed({0, bytes_});
    return {};
  }
  FieldReader fields(exchange.reply_tail);
  RangeEntry range;
  while (fields.NextStruct(&range)) {
    if (CheckRange(range.offset, range.bytes).ok()) changed(range);
  }
  if (!fields.ok()) return BadAnswer("ranges that cannot be read");
  return {};
}

Outcome Region::AskVersion(const Deadline& deadline, std::uint64_t* version) {
  Exchange exchange(AgentOp::kWatch);
  agent_->name().copy(exchange.request.agent, kAgentNameBytes - 1);
  name_.copy(exchange.request.region, kRegionNameBytes - 1);
  if (Outcome called = connection().Call(&exchange, deadline); !called.ok()) {
    return called;
  }
  const std::uint64_t word = exchange.reply.value[0];
  if (connection().BoardWord(word) == nullptr) {
    return BadAnswer("word " + std::to_string(word) + " of a board of " +
                     std::to_string(kBoardWords));
  }
  SetBoardWord(static_cast<std::uint32_t>(word) + 1);
  *version = exchange.reply.value[1];
  return {};
}

void Region::SetBoardWord(std::uint32_t next) {
  const std::uint32_t before =
      board_word_.exchange(next, std::memory_order_relaxed);
  if (before == next) return;
  if (next != 0) connection().AddWatcher(next - 1);
  if (before == 0 || !connection().RemoveWatcher(before - 1)) return;
  Exchange exchange(AgentOp::kUnwatch);
  exchange.request.arg[0] = before - 1;
  // Without an answer it ends with the connection.
  [[maybe_unused]] const Outcome ignored =
      connection().Call(&exchange, Deadline::After(kCloseTimeoutNs));
}

Outcome Region::Watch(std::uint64_t after_version, const Deadline& deadline,
                      std::uint64_t* version) {
  if (board_word_.load(std::memory_order_relaxed) == 0) {
    if (Outcome asked = AskVersion(deadline, version); !asked.ok()) {
      return asked;
    }
    if (*version > after_version) return {};
  }
  for (;;) {
    // The word is read before memd is asked: what comes after moves it on.
    std::atomic<std::uint32_t>* word =
        connection().BoardWord(board_word_.load(std::memory_order_relaxed) - 1);
    const std::uint32_t seen = word->load(std::memory_order_acquire);
    if (Outcome asked = AskVersion(deadline, version); !asked.ok()) {
      return asked;
    }
    if (*version > after_version) return {};
    const Deadline ask_again = Deadline::After(kWatchAskNs);
    while (word->load(std::memory_order_acquire) == seen &&
           !ask_again.Passed()) {
      if (connection().Lost()) return connection().LostOutcome();
      if (deadline.Passed()) {
        return Fail(Code::kDeadlineExceeded, "region " + name_ +
                                                 " has no version after " +
                                                 std::to_string(after_version));
      }
      FutexWait(word, seen, deadline.Remaining(kWatchSleepMax));
    }
  }
}

Outcome CommitAgent(Agent* agent, const Region::Commit& commit,
                    const Deadline& deadline) {
  if (!agent->writes()) {
    return Fail(Code::kFailedPrecondition,
                "agent " + agent->name() + " is open for reading");
  }
  Exchange exchange(AgentOp::kCommit);
  exchange.request.handle = agent->handle();
  FillCommit(commit, &exchange);
  return agent->connection().Call(&exchange, deadline);
}

}  // namespace agentmem::client
