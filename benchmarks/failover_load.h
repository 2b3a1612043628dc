// Readers and writers that go on while a node dies: `state` blocks of 64 KiB,
// acknowledged when two nodes have them, and read at random. Every read is
// compared, after its time has been taken.
//
// A writer puts a block until it is acknowledged, then waits for its next turn,
// and takes the next one: so what is acknowledged is all numbers below a count.
//
// Ownership: owns threads and connections; the destructor ends them. Threads:
// thread-compatible; counts are as of now. Errors: what a connection or a timer
// says; a put that fails is tried again and told in Outage. Cost: a block of
// memory a thread.
#ifndef AGENTMEM_BENCHMARKS_FAILOVER_LOAD_H_
#define AGENTMEM_BENCHMARKS_FAILOVER_LOAD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "benchmarks/connection.h"
#include "benchmarks/samples.h"

namespace agentmem::bench {

// What readers saw, and writers.
struct LoadReport {
  Samples reads;  // that ended while they were counted
  std::size_t reads_all = 0;
  std::size_t from_pool = 0;  // of all
  // Of all: `state` is written to its node's disk, too, where it is found when
  // no other node's memory has it.
  std::size_t from_store = 0;
  std::size_t wrong = 0;
  std::size_t failed = 0;  // reads
  std::size_t puts_failed = 0;
  std::string first_failure;
  double put_ns_max = 0;  // from a block's first try to its acknowledgement

  void Add(const LoadReport& other);
};

class FailoverLoad {
 public:
  static constexpr std::size_t kReaders = 2;
  static constexpr std::size_t kWriters = 2;

  // `blocks` are there when it returns; nothing goes on yet.
  static absl::StatusOr<std::unique_ptr<FailoverLoad>> Make(
      const std::string& socket_path, std::uint64_t seed, std::size_t blocks);
  ~FailoverLoad();
  FailoverLoad(const FailoverLoad&) = delete;
  FailoverLoad& operator=(const FailoverLoad&) = delete;

  void Start();
  // Reads that end from now on are samples, or no longer.
  void Count(bool on) { counting_.store(on); }
  // No put is under way when it returns, and none begins until Resume.
  void PauseWrites();
  void ResumeWrites();
  // Ends the threads.
  LoadReport Stop();
  // Reads all that was acknowledged, once; what cannot be read is `failed`.
  LoadReport ReadAll();

  std::size_t acknowledged() const;

 private:
  static constexpr std::size_t kBlockBytes = 64 << 10;

  struct Writer {
    std::atomic<std::size_t> count = 0;  // acknowledged
    UniqueFd turns;                      // a timer
    LoadReport report;
    std::thread thread;
  };
  struct Reader {
    LoadReport report;
    std::thread thread;
  };

  FailoverLoad(Connection connection, std::uint64_t seed)
      : connection_(std::move(connection)), seed_(seed) {}
  absl::Status Put(std::size_t writer, std::size_t number,
                   std::vector<char>* bytes) const;
  void Write(std::size_t index);
  void PutUntilAcknowledged(std::size_t index, std::vector<char>* bytes);
  void Read(std::size_t index);
  void ReadOne(std::size_t writer, std::size_t number,
               LoadReport* report) const;
  // Of a block's bytes, and of its key.
  static agentmem_key KeyIn(std::size_t writer, std::size_t number);
  std::uint64_t SeedOf(std::size_t writer) const { return seed_ + writer; }

  const Connection connection_;
  const std::uint64_t seed_;
  std::array<Writer, kWriters> writers_;
  std::array<Reader, kReaders> readers_;
  std::atomic<bool> counting_ = false;
  std::atomic<bool> stopping_ = false;

  Mutex mutex_;
  CondVar changed_;
  bool paused_ AGENTMEM_GUARDED_BY(mutex_) = false;
  std::size_t writing_ AGENTMEM_GUARDED_BY(mutex_) = 0;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_FAILOVER_LOAD_H_
