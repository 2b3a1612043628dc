// A region of an agent: mutable memory with versions.
//
//   auto region = agent->OpenRegion("heap", {.bytes = 1 << 30});
//   if (std::byte* bytes = region->data()) ...       // null: explicit
//   auto version = region->Commit({.message = "step 3"});
//
// Ownership: owns the region's handle and its memory; must end before its
//   Agent. Move only. Threads: thread-safe, but for the moves. Errors: those of
//   agents.h. Cost: a request to memd each; touching data() none, but where a
//   page is missing.
#ifndef AGENTMEM_REGION_HPP_
#define AGENTMEM_REGION_HPP_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agentmem/agents.h"
#include "agentmem/status.hpp"
#include "agentmem/types.hpp"

namespace agentmem {
inline namespace v0 {

using Labels = std::vector<std::pair<std::string, std::string>>;

// What was done with a hint.
enum class HintAnswer : agentmem_answer {
  kAccepted = AGENTMEM_ACCEPTED,
  kClipped = AGENTMEM_CLIPPED,
  kDeferred = AGENTMEM_DEFERRED,
  kRejected = AGENTMEM_REJECTED,
};

enum class RegionMode : agentmem_region_mode {
  kExplicit = AGENTMEM_REGION_EXPLICIT,
  kSync = AGENTMEM_REGION_SYNC,
};

struct RegionOptions {
  std::uint64_t bytes = 0;    // of one that is made; 0: it must exist
  std::uint64_t version = 0;  // 0: the newest; else that one, for reading
  bool force_explicit = false;
};

struct CommitOptions {
  std::string message = {};
  Labels labels = {};
  Ack ack = Ack::kDurable;
  std::array<std::uint8_t, 16> trace_id = {};
  Timeout timeout = std::chrono::seconds(60);
};

struct Range {
  std::uint64_t offset;
  std::uint64_t bytes;

  friend bool operator==(const Range&, const Range&) = default;
};

// The C ABI's labels; borrows the strings.
inline std::vector<agentmem_label> RawLabels(const Labels& labels) {
  std::vector<agentmem_label> raw;
  for (const auto& [key, value] : labels) {
    raw.push_back({key.c_str(), value.c_str()});
  }
  return raw;
}

// The C ABI's options; borrows message and labels.
class RawCommitOptions {
 public:
  explicit RawCommitOptions(const CommitOptions& options)
      : labels_(RawLabels(options.labels)) {
    raw_.size = sizeof(raw_);
    raw_.ack = static_cast<agentmem_ack>(options.ack);
    raw_.message = options.message.c_str();
    raw_.labels = labels_.data();
    raw_.label_count = static_cast<std::uint32_t>(labels_.size());
    for (std::size_t i = 0; i < options.trace_id.size(); ++i) {
      raw_.trace_id[i] = options.trace_id[i];
    }
  }
  const agentmem_commit_options* get() const { return &raw_; }

 private:
  std::vector<agentmem_label> labels_;
  agentmem_commit_options raw_ = {};
};

class Region {
 public:
  ~Region() { agentmem_region_close(region_); }
  Region(Region&& other) noexcept
      : region_(std::exchange(other.region_, nullptr)) {}
  Region& operator=(Region&& other) noexcept {
    if (this == &other) return *this;
    agentmem_region_close(region_);
    region_ = std::exchange(other.region_, nullptr);
    return *this;
  }

  // Null: it is explicit, read and written by Read and Write.
  std::byte* data() const {
    return static_cast<std::byte*>(agentmem_region_data(region_));
  }
  std::uint64_t size() const { return agentmem_region_size(region_); }
  std::uint64_t version() const { return agentmem_region_version(region_); }
  // How it is paged, whether memd is gone, why it is explicit.
  Result<agentmem_region_state> State() const {
    agentmem_region_state state = {};
    state.size = sizeof(state);
    agentmem_error error;
    const agentmem_code code = agentmem_region_status(region_, &state, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return state;
  }
  // For calls of the C ABI on it.
  agentmem_region* raw() const { return region_; }

  // A version of what it holds now: a consistent cut. Its number.
  Result<std::uint64_t> Commit(const CommitOptions& options = {}) {
    const RawCommitOptions raw(options);
    std::uint64_t version = 0;
    agentmem_error error;
    const agentmem_code code = agentmem_region_commit(
        region_, raw.get(), TimeoutNs(options.timeout), &version, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return version;
  }

  // Copies, in every mode.
  Status Read(std::uint64_t offset, std::span<std::byte> into,
              Timeout timeout = kDefaultTimeout) const {
    agentmem_error error;
    return Status::From(
        agentmem_region_read(region_, offset, into.data(), into.size(),
                             TimeoutNs(timeout), &error),
        error);
  }
  Status Write(std::uint64_t offset, Bytes bytes,
               Timeout timeout = kDefaultTimeout) {
    agentmem_error error;
    return Status::From(
        agentmem_region_write(region_, offset, bytes.data(), bytes.size(),
                              TimeoutNs(timeout), &error),
        error);
  }

  Status Populate(Range range, Timeout timeout = kDefaultTimeout) {
    agentmem_error error;
    return Status::From(
        agentmem_region_populate(region_, range.offset, range.bytes,
                                 TimeoutNs(timeout), &error),
        error);
  }
  // Keeps it in DRAM until Unpin: for what system calls or devices reach.
  Status Pin(Range range, Timeout timeout = kDefaultTimeout) {
    agentmem_error error;
    return Status::From(agentmem_region_pin(region_, range.offset, range.bytes,
                                            TimeoutNs(timeout), &error),
                        error);
  }
  Status Unpin(Range range, Timeout timeout = kDefaultTimeout) {
    agentmem_error error;
    return Status::From(
        agentmem_region_unpin(region_, range.offset, range.bytes,
                              TimeoutNs(timeout), &error),
        error);
  }
  // Its next use, from now; kForever: never.
  Result<HintAnswer> Hint(Range range, Timeout next_use,
                          Timeout timeout = kDefaultTimeout) {
    agentmem_answer answer = 0;
    agentmem_error error;
    const agentmem_code code = agentmem_region_hint(
        region_, range.offset, range.bytes, TimeoutNs(next_use),
        TimeoutNs(timeout), &answer, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return static_cast<HintAnswer>(answer);
  }

  // Moves one that is open for reading to `version` (0: the newest): what
  // changed.
  Result<std::vector<Range>> Refresh(std::uint64_t version = 0,
                                     Timeout timeout = kDefaultTimeout) {
    std::vector<Range> changed;
    const auto note = [](void* context, const agentmem_range* range) {
      static_cast<std::vector<Range>*>(context)->push_back(
          {range->offset, range->bytes});
    };
    agentmem_error error;
    const agentmem_code code = agentmem_region_refresh(
        region_, version, TimeoutNs(timeout), nullptr, note, &changed, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return changed;
  }
  // Sleeps until there is a version newer than this; the newest.
  Result<std::uint64_t> Watch(std::uint64_t after_version, Timeout timeout) {
    std::uint64_t version = 0;
    agentmem_error error;
    const agentmem_code code = agentmem_region_watch(
        region_, after_version, TimeoutNs(timeout), &version, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return version;
  }

 private:
  friend class Agent;

  explicit Region(agentmem_region* region) : region_(region) {}

  agentmem_region* region_;
};

}  // namespace v0
}  // namespace agentmem

#endif  // AGENTMEM_REGION_HPP_
