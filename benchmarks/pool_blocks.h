// Blocks of one size that one client puts into other nodes' memory and gets
// from there. Their bytes are made from a seed; all that is read is compared,
// after the time has been taken.
//
// Ownership: borrows the connection. Threads: thread-compatible. Errors: the
// library's; DATA_LOSS for wrong bytes; FAILED_PRECONDITION if blocks are not
// where they are to be measured.
// Cost: see each.
#ifndef AGENTMEM_BENCHMARKS_POOL_BLOCKS_H_
#define AGENTMEM_BENCHMARKS_POOL_BLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/connection.h"
#include "benchmarks/samples.h"
#include "benchmarks/stopwatch.h"

namespace agentmem::bench {

// `bursts` times `samples` samples, each of one call with `group` blocks.
// Between bursts the blocks are compared and released, and the next ones
// chosen; a burst's blocks are pinned together.
struct PoolRun {
  std::size_t group = 1;
  std::size_t samples = 1;
  std::size_t bursts = 1;

  std::size_t BurstBlocks() const { return group * samples; }
};

// Of all that was put: how many came from the pool, and how many not at all.
struct PoolCheck {
  std::size_t from_pool = 0;
  std::size_t lost = 0;
  absl::Status first_lost;
};

class PoolBlocks {
 public:
  // Two of one size on one node differ in `set`, 0 to 15.
  PoolBlocks(const Connection* connection, std::size_t size, std::uint64_t seed,
             std::uint32_t set = 0)
      : connection_(connection),
        set_(static_cast<std::uint32_t>(size) + set),
        size_(size),
        seed_(seed) {}

  // `count` more, each acknowledged by another node.
  absl::Status Fill(std::size_t count);
  // Nanoseconds a get, their mean: of blocks that are in the pool alone.
  absl::StatusOr<double> TimeGets(const PoolRun& run, Samples* samples);
  // Nanoseconds a put (AGENTMEM_REPLICATED), their mean; run.group is 1. The
  // bytes were made where they are put from (agentmem_reserve, which is not in
  // it); or they are elsewhere, and copying them is in it.
  absl::StatusOr<double> TimePuts(const PoolRun& run, Samples* samples);
  absl::StatusOr<double> TimeCopiedPuts(const PoolRun& run, Samples* samples);
  // How many of all that was put only other nodes' memory has.
  absl::StatusOr<std::size_t> CountInPool() const;
  // Gets all that was put and compares it.
  absl::StatusOr<PoolCheck> CheckAll() const;

  std::size_t count() const { return count_; }
  // Gets so far that another node's memory answered.
  std::size_t pool_hits() const { return pool_hits_; }

 private:
  agentmem_key Key(std::size_t number) const {
    return KeyOf(set_, static_cast<std::uint32_t>(number));
  }
  // The numbers of the next `count` blocks that only the pool has.
  absl::StatusOr<std::vector<std::size_t>> Choose(std::size_t count);
  absl::Status Matches(std::size_t number, const agentmem_span& span) const;
  absl::Status CheckFromPool(const std::vector<std::size_t>& numbers,
                             const std::vector<agentmem_span>& spans);

  const Connection* const connection_;
  const std::uint32_t set_;
  const std::size_t size_;
  const std::uint64_t seed_;
  const Stopwatch stopwatch_;
  std::size_t count_ = 0;
  std::size_t pool_hits_ = 0;
  std::vector<std::size_t> order_;  // a shuffle of all, walked round and round
  std::size_t next_ = 0;
  std::vector<char> source_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_POOL_BLOCKS_H_
