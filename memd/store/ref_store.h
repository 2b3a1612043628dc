// RefStore: the only mutable names: name -> value, changed by compare-and-swap
// under a fence.
//
// A ref has a version (starts at 1, adds one a change; 0 means "absent") and a
// fence. A writer takes the fence with AcquireFence, which adds one to it and
// makes every older holder's changes fail with ABORTED, for ever.
//
// Commit changes several at once, with the blocks that they speak of, and may
// depend on others that it leaves as they are.
//
// Ownership: what Open made owns it; callers borrow.
// Threads: thread-safe. Errors: NOT_FOUND (Get), ABORTED (another version or
// fence than expected; the message names both), INVALID_ARGUMENT (name empty or
// over 1 KiB, value over 64 KiB), UNAVAILABLE (the device failed).
// Cost: blocks for one synced write on a change; never call it on the reactor
// once clients are served. Every change that returned OK is durable.
#ifndef AGENTMEM_MEMD_STORE_REF_STORE_H_
#define AGENTMEM_MEMD_STORE_REF_STORE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/types.h"

namespace agentmem {

struct Ref {
  std::string value;
  std::uint64_t version = 0;
  Fence fence;
};

struct NamedRef {
  std::string name;
  Ref ref;
};

// One of the changes of a Commit.
struct RefChange {
  std::string name;
  std::uint64_t expected_version = 0;  // 0: it has no value
  Fence fence;                         // as Read says
  std::string value = {};
  bool remove = false;  // it has no value from here on; its fence stays
  // It is as expected, and stays so: the others depend on it.
  bool only_check = false;
  bool new_fence = false;  // its fence rises by one, as by AcquireFence
};

// A block that becomes durable with a Commit; class state.
struct RefBlock {
  TenantId tenant;
  Key key;
  std::span<const char> bytes;
};

class RefStore {
 public:
  static constexpr std::size_t kNameBytesMax = 1024;
  static constexpr std::size_t kValueBytesMax = 64 << 10;
  static constexpr std::size_t kCommitBytesMax = 128 << 10;

  virtual ~RefStore() = default;

  virtual absl::StatusOr<Ref> Get(const std::string& name) = 0;

  // As Get, also of a name without a value: version 0, and its fence (0: none
  // was ever taken).
  virtual absl::StatusOr<Ref> Read(const std::string& name) = 0;

  // A new fence on `name` (which need not exist yet). Older fences are void.
  virtual absl::StatusOr<Fence> AcquireFence(const std::string& name) = 0;

  // Sets `name` to `value` if its version is `expected_version` (0: absent) and
  // its fence is `fence`; returns the new version.
  virtual absl::StatusOr<std::uint64_t> CompareAndSwap(
      const std::string& name, std::uint64_t expected_version, Fence fence,
      const std::string& value) = 0;

  // All changes and blocks, or none, in one synced write. ABORTED as
  // CompareAndSwap. At most kCommitBytesMax bytes of blocks.
  virtual absl::Status Commit(std::span<const RefChange> changes,
                              std::span<const RefBlock> blocks) = 0;

  // The names that begin with `prefix`, in byte order.
  virtual absl::StatusOr<std::vector<std::string>> List(
      const std::string& prefix) = 0;

  // All that have a value and whose names begin with one of `prefixes`, as they
  // were at one moment; in no order. UNAVAILABLE too if it took too long.
  virtual absl::StatusOr<std::vector<NamedRef>> ReadAll(
      std::span<const std::string> prefixes) = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_REF_STORE_H_
