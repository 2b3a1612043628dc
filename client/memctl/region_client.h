// memctl's side of regions: their versions, and the bytes of one.
//
// Ownership: what ConnectRegions, OpenToRead and OpenToWrite return is the
//   caller's; what was opened ends before its client. Results are copies.
// Threads: thread-compatible.
// Errors: those of agents.h, as absl::Status; UNAVAILABLE: no memd.
// Cost: a few requests a call, each waits at most the timeout given at
//   connecting. Nothing is mapped: reads and writes are calls, so that a memd
//   that ends is an answer.
#ifndef AGENTMEM_CLIENT_MEMCTL_REGION_CLIENT_H_
#define AGENTMEM_CLIENT_MEMCTL_REGION_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"

namespace agentmem::memctl {

struct RegionName {
  std::string agent;
  std::string region;
};

using Labels = std::vector<std::pair<std::string, std::string>>;

struct VersionFacts {
  std::uint64_t number = 0;
  std::uint64_t parent = 0;     // 0: none
  std::uint64_t revert_of = 0;  // equal to that version; 0: it is none
  std::uint64_t fork_of = 0;    // of the agent forked; 0: it is none
  std::uint64_t unix_ns = 0;
  std::uint64_t region_bytes = 0;
  std::uint64_t changed_bytes = 0;
  std::uint32_t changed_pages = 0;
  std::string message;
  Labels labels;
  std::string trace_id;  // 32 hex digits; empty: none
};

struct ByteSpan {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// One version, which stays readable until this ends.
class RegionReader {
 public:
  virtual ~RegionReader() = default;
  // 0: nothing was committed yet.
  virtual std::uint64_t version() const = 0;
  virtual std::uint64_t bytes() const = 0;
  virtual absl::Status Read(std::uint64_t offset, char* into,
                            std::uint64_t bytes) = 0;
};

// The agent's one writer. What was not committed at its end is gone.
class RegionWriter {
 public:
  virtual ~RegionWriter() = default;
  // It begins with; 0: there is none yet, and the region is all zeros.
  virtual std::uint64_t version() const = 0;
  virtual std::uint64_t bytes() const = 0;
  virtual absl::Status Write(std::uint64_t offset, const char* from,
                             std::uint64_t bytes) = 0;
  // Durable; the number of the new version.
  virtual absl::StatusOr<std::uint64_t> Commit(const std::string& message,
                                               const Labels& labels) = 0;
};

struct WriterOptions {
  std::uint64_t create_bytes = 0;  // make what is not there; 0: it must be
  bool take_over = false;          // fence off a writer that lives
};

class RegionClient {
 public:
  virtual ~RegionClient() = default;
  // The newest `count` versions (0: all), newest first.
  virtual absl::StatusOr<std::vector<VersionFacts>> History(
      const RegionName& name, std::uint64_t count) = 0;
  // Where two versions differ, ascending. `from` 0: a region of zeros.
  virtual absl::StatusOr<std::vector<ByteSpan>> Diff(const RegionName& name,
                                                     std::uint64_t from,
                                                     std::uint64_t to) = 0;
  // The number of the new version, which is equal to `version`.
  virtual absl::StatusOr<std::uint64_t> Revert(const RegionName& name,
                                               std::uint64_t version) = 0;
  // `version`: 0: the newest.
  virtual absl::StatusOr<std::unique_ptr<RegionReader>> OpenToRead(
      const RegionName& name, std::uint64_t version) = 0;
  virtual absl::StatusOr<std::unique_ptr<RegionWriter>> OpenToWrite(
      const RegionName& name, const WriterOptions& options) = 0;
};

// An empty tenant is the user's default one.
absl::StatusOr<std::unique_ptr<RegionClient>> ConnectRegions(
    const std::string& socket_path, const std::string& tenant,
    DurationNs timeout);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_REGION_CLIENT_H_
