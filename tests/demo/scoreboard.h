// What agents count and measure, in memory that outlives them.
//
// Ownership: lies in a SharedRegion; zero bytes are an empty board. Threads:
// counters are atomic; a lane belongs to one agent process at a time. Errors:
// none. Cost: an atomic addition.
#ifndef AGENTMEM_TESTS_DEMO_SCOREBOARD_H_
#define AGENTMEM_TESTS_DEMO_SCOREBOARD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "tests/demo/latency_histogram.h"

namespace agentmem::demo {

enum class Counter : std::size_t {
  kHitsDram,
  kHitsStore,
  kHitsBehindGap,      // of the hits: behind a block that was missing
  kMissesNeverStored,  // nobody had put it
  kMissesDropped,      // put before, and dropped from every tier
  kMissesEvicted,      // matched, but gone when asked for
  kMissesDeadline,     // there, but not in time
  kBlocksVerified,
  kBytesVerified,
  kMismatches,  // blocks and objects with wrong bytes or length
  kStateBytes,  // distinct bytes put
  kStateBlocks,
  kPutsVisible,
  kPutsDurable,
  kPutsFailed,
  kGetsFailed,  // other codes than those of misses
  kObjectsPut,
  kObjectsVerified,
  kForkNotRefused,  // a forked child could use the client
  kCount,
};

enum class Operation : std::size_t {
  kMatch,
  kGetDram,        // one block
  kGetDramBatch,   // up to 32 blocks, all in DRAM
  kGetStore,       // one block
  kGetStoreBatch,  // up to 32 blocks, some below DRAM
  kPutVisible,
  kPutDurable,
  kObjectPut,
  kObjectGet,
  kCount,
};

enum class Stage : std::uint32_t {
  kStarting,
  kWaiting,
  kMatching,
  kReading,
  kPutting,
  kObject,
  kPosed,
};
inline constexpr const char* kStageNames[] = {
    "starting", "waiting",        "matching", "reading",
    "putting",  "with an object", "posed"};

inline constexpr std::size_t kOperations =
    static_cast<std::size_t>(Operation::kCount);
inline constexpr std::size_t kCounters =
    static_cast<std::size_t>(Counter::kCount);
inline constexpr std::size_t kLanesMax = 64;

struct Lane {
  std::atomic<Stage> stage;
  std::array<LatencyHistogram, kOperations> latencies;

  LatencyHistogram& Of(Operation operation) {
    return latencies[static_cast<std::size_t>(operation)];
  }
};

struct Scoreboard {
  std::array<std::atomic<std::uint64_t>, kCounters> counters;
  std::array<Lane, kLanesMax> lanes;

  void Count(Counter counter, std::uint64_t by = 1) {
    counters[static_cast<std::size_t>(counter)].fetch_add(
        by, std::memory_order_relaxed);
  }
  std::uint64_t Get(Counter counter) const {
    return counters[static_cast<std::size_t>(counter)].load(
        std::memory_order_relaxed);
  }
  LatencyHistogram Latencies(Operation operation) const {
    LatencyHistogram sum;
    for (const Lane& lane : lanes) {
      sum.Add(lane.latencies[static_cast<std::size_t>(operation)]);
    }
    return sum;
  }
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_SCOREBOARD_H_
