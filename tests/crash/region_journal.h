// What the processes of region_crash_test share: the journal of what a writer
// does, and what memd is ordered to be killed at.
#ifndef AGENTMEM_TESTS_CRASH_REGION_JOURNAL_H_
#define AGENTMEM_TESTS_CRASH_REGION_JOURNAL_H_

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace agentmem {

inline constexpr int kForks = 3;

enum class Doing : std::uint32_t {
  kNothing,
  kCommit,
  kFork,
  kHibernate,
  kResume,
  kCollect,  // in the background of everything
};
inline constexpr const char* kDoingNames[] = {
    "nothing", "commit", "fork", "hibernate", "resume", "collection"};

enum class Point : std::uint32_t {
  kRefBefore,  // a ref is about to change
  kRefAfter,   // and has changed
  kPutTaken,   // the store has accepted a block
  kPutDone,    // and says that it has it
  kGetDone,
  kDeleteTaken,
  kDeleteDone,
  kAnswerLost,  // a ref has changed, and memd hears that this is not known
  kChangeLost,  // it has not changed, and memd hears the same
  kReadFails,   // the store does not answer a read
};
// Nobody is killed there: the writer goes on, or ends with an error.
inline bool IsTrouble(Point point) {
  return point == Point::kAnswerLost || point == Point::kChangeLost ||
         point == Point::kReadFails;
}
inline constexpr const char* kPointNames[] = {
    "before the ref", "after the ref", "put taken",   "put done",
    "get done",       "delete taken",  "delete done", "answer lost",
    "change lost",    "read fails"};

enum class ForkState : std::uint32_t { kNone, kForking, kThere, kDeleting };

// Shared by all processes of a round; outlives them.
struct Journal {
  std::atomic<std::uint32_t> doing;  // Doing
  std::atomic<std::int32_t> writer;  // pid
  std::atomic<std::uint64_t> begun;  // the step whose commit was asked for
  std::atomic<std::uint64_t> acknowledged;
  std::atomic<std::uint64_t> durable;
  struct Fork {
    std::atomic<std::uint32_t> state;  // ForkState
    std::atomic<std::uint64_t> step;
  } forks[kForks];
  std::atomic<std::uint32_t> fired;  // the point was passed as it was ordered
};

// What the parent orders.
struct Order {
  Doing doing = Doing::kNothing;
  Point point = Point::kRefBefore;
  std::uint32_t passing = 0;  // 0: never
  bool kill_writer = false;
};

inline std::vector<std::string> WordsOf(const Order& order) {
  return {std::to_string(static_cast<std::uint32_t>(order.doing)),
          std::to_string(static_cast<std::uint32_t>(order.point)),
          std::to_string(order.passing), order.kill_writer ? "1" : "0"};
}

inline Order OrderOf(char** words) {
  Order order;
  order.doing = static_cast<Doing>(std::stoi(words[0]));
  order.point = static_cast<Point>(std::stoi(words[1]));
  order.passing = static_cast<std::uint32_t>(std::stoi(words[2]));
  order.kill_writer = words[3][0] == '1';
  return order;
}

inline Journal* OpenJournal(const std::string& directory) {
  const UniqueFd file(::open((directory + "/journal").c_str(),
                             O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (::ftruncate(file.get(), sizeof(Journal)) != 0) ::abort();
  void* const memory = ::mmap(nullptr, sizeof(Journal), PROT_READ | PROT_WRITE,
                              MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) ::abort();
  return static_cast<Journal*>(memory);
}

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_CRASH_REGION_JOURNAL_H_
