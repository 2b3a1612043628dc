// Touches the next extents of a data memfd before anybody needs them, so that
// no put pays for page faults and the pages are charged to memd.
//
// What is lent to be emptied is left alone: its pages would be memory that
// nobody uses.
//
// Ownership: borrows the memory. Threads: a thread of its own; all but Add are
// thread-safe. Errors: none: an extent that could not be touched is
// touched by its first writer. Cost: about 320 us a MiB, off the reactor.
#ifndef AGENTMEM_MEMD_POPULATOR_H_
#define AGENTMEM_MEMD_POPULATOR_H_

#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "memd/dram/shared_memory.h"

namespace agentmem {

class Populator {
 public:
  // How far ahead of use: eight extents are 32 MiB, some 10 ms of touching.
  static constexpr std::uint32_t kExtentsAhead = 8;

  Populator();
  ~Populator();

  // An index for Ahead. Before the first Ahead.
  std::size_t Add(const SharedMemory* data);
  // The first `extents` of this data have been used.
  void Ahead(std::size_t index, std::uint32_t extents);
  // This one has been used, then given back to the system, and is used again.
  void Again(std::size_t index, std::uint32_t extent);
  // From now on nothing of it is touched (but for a step that is under way,
  // 64 KiB), until it is back. What was asked for it meanwhile is forgotten.
  void Lend(std::size_t index, std::uint32_t extent);
  void TakeBack(std::size_t index, std::uint32_t extent);

 private:
  struct Target {
    const SharedMemory* data = nullptr;
    std::uint32_t wanted = 0;
    std::uint32_t touched = 0;
    std::vector<std::uint32_t> again;
    std::vector<bool> lent;  // by extent
  };
  struct Work {
    std::size_t index;
    std::uint32_t extent;
  };

  void Run() AGENTMEM_EXCLUDES(mutex_);
  std::optional<Work> NextWork() AGENTMEM_REQUIRES(mutex_);
  // It may still be touched.
  bool IsWanted(const Work& work) AGENTMEM_EXCLUDES(mutex_);

  Mutex mutex_;
  CondVar changed_;
  std::vector<Target> targets_ AGENTMEM_GUARDED_BY(mutex_);
  bool stop_ AGENTMEM_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POPULATOR_H_
