// What an in-process cache does for a hit: a hash map under a reader-writer
// lock, of spans into memory of the process. It pins nothing and notes nothing.
//
// Ownership: borrows the memory that spans point at. Threads: thread-safe.
// Errors: none. Cost: a lock, a probe, an unlock.
#ifndef AGENTMEM_BENCHMARKS_MEMORY_BASELINE_H_
#define AGENTMEM_BENCHMARKS_MEMORY_BASELINE_H_

#include <cstddef>
#include <mutex>
#include <shared_mutex>
#include <span>

#include "absl/container/flat_hash_map.h"
#include "agentmem/agentmem.h"
#include "benchmarks/connection.h"
#include "proto/types.h"

namespace agentmem::bench {

class MemoryBaseline {
 public:
  static constexpr const char* kName = "flat_hash_map, shared_mutex";
  using Bytes = std::span<const char>;

  void Reserve(std::size_t count) { map_.reserve(count); }
  void Insert(const agentmem_key& key, Bytes bytes) {
    std::unique_lock lock(mutex_);
    map_.emplace(ToKey(key), bytes);
  }
  // Empty: not there.
  Bytes Find(const agentmem_key& key) const {
    std::shared_lock lock(mutex_);
    return FindLocked(key);
  }
  bool Contains(const agentmem_key& key) const {
    std::shared_lock lock(mutex_);
    return map_.contains(ToKey(key));
  }
  // All under one lock; how many are there.
  std::size_t FindAll(std::span<const agentmem_key> keys, Bytes* found) const {
    std::shared_lock lock(mutex_);
    std::size_t count = 0;
    for (const agentmem_key& key : keys) {
      found[count] = FindLocked(key);
      if (!found[count].empty()) ++count;
    }
    return count;
  }

 private:
  Bytes FindLocked(const agentmem_key& key) const {
    const auto it = map_.find(ToKey(key));
    return it == map_.end() ? Bytes() : it->second;
  }

  mutable std::shared_mutex mutex_;
  absl::flat_hash_map<Key, Bytes> map_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_MEMORY_BASELINE_H_
