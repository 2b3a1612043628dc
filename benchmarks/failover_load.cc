#include "benchmarks/failover_load.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <utility>

#include "base/clock.h"
#include "base/status.h"
#include "benchmarks/pool_bytes.h"

namespace agentmem::bench {
namespace {

constexpr std::uint32_t kFirstSet = 1;  // of keys, one a writer
constexpr long kTurnNs = 20'000'000;    // a put each

absl::StatusOr<UniqueFd> Timer(long period_ns) {
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  const itimerspec period = {{0, period_ns}, {0, period_ns}};
  if (::timerfd_settime(timer.get(), 0, &period, nullptr) != 0) {
    return ErrnoStatus("a timer");
  }
  return timer;
}

}  // namespace

void LoadReport::Add(const LoadReport& other) {
  reads.Add(other.reads);
  reads_all += other.reads_all;
  from_pool += other.from_pool;
  from_store += other.from_store;
  wrong += other.wrong;
  failed += other.failed;
  puts_failed += other.puts_failed;
  if (first_failure.empty()) first_failure = other.first_failure;
  put_ns_max = std::max(put_ns_max, other.put_ns_max);
}

absl::StatusOr<std::unique_ptr<FailoverLoad>> FailoverLoad::Make(
    const std::string& socket_path, std::uint64_t seed, std::size_t blocks) {
  AGENTMEM_ASSIGN_OR_RETURN(Connection connection,
                            Connection::Open(socket_path));
  std::unique_ptr<FailoverLoad> load(
      new FailoverLoad(std::move(connection), seed));
  std::vector<char> bytes(kBlockBytes);
  for (std::size_t writer = 0; writer < kWriters; ++writer) {
    AGENTMEM_ASSIGN_OR_RETURN(load->writers_[writer].turns, Timer(kTurnNs));
    for (std::size_t number = 0; number < blocks / kWriters; ++number) {
      AGENTMEM_RETURN_IF_ERROR(load->Put(writer, number, &bytes));
      load->writers_[writer].count.store(number + 1);
    }
  }
  return load;
}

FailoverLoad::~FailoverLoad() { (void)Stop(); }

void FailoverLoad::Start() {
  for (std::size_t i = 0; i < kWriters; ++i) {
    writers_[i].thread = std::thread([this, i] { Write(i); });
  }
  for (std::size_t i = 0; i < kReaders; ++i) {
    readers_[i].thread = std::thread([this, i] { Read(i); });
  }
}

LoadReport FailoverLoad::Stop() {
  stopping_.store(true);
  ResumeWrites();
  LoadReport all;
  for (Writer& writer : writers_) {
    if (writer.thread.joinable()) writer.thread.join();
    all.Add(writer.report);
  }
  for (Reader& reader : readers_) {
    if (reader.thread.joinable()) reader.thread.join();
    all.Add(reader.report);
  }
  return all;
}

void FailoverLoad::PauseWrites() {
  MutexLock lock(&mutex_);
  paused_ = true;
  while (writing_ != 0) changed_.Wait(&mutex_);
}

void FailoverLoad::ResumeWrites() {
  MutexLock lock(&mutex_);
  paused_ = false;
  changed_.NotifyAll();
}

std::size_t FailoverLoad::acknowledged() const {
  std::size_t all = 0;
  for (const Writer& writer : writers_) all += writer.count.load();
  return all;
}

agentmem_key FailoverLoad::KeyIn(std::size_t writer, std::size_t number) {
  return KeyOf(kFirstSet + static_cast<std::uint32_t>(writer),
               static_cast<std::uint32_t>(number));
}

absl::Status FailoverLoad::Put(std::size_t writer, std::size_t number,
                               std::vector<char>* bytes) const {
  ByteStream(SeedOf(writer), number).Fill(bytes->data(), kBlockBytes);
  return connection_.Put(KeyIn(writer, number), *bytes, kBlockBytes,
                         AGENTMEM_STATE, AGENTMEM_REPLICATED);
}

void FailoverLoad::Write(std::size_t index) {
  std::vector<char> bytes(kBlockBytes);
  std::uint64_t turns = 0;
  while (!stopping_.load()) {
    if (::read(writers_[index].turns.get(), &turns, sizeof(turns)) < 0) return;
    {
      MutexLock lock(&mutex_);
      while (paused_) changed_.Wait(&mutex_);
      ++writing_;
    }
    PutUntilAcknowledged(index, &bytes);
    MutexLock lock(&mutex_);
    --writing_;
    changed_.NotifyAll();
  }
}

void FailoverLoad::PutUntilAcknowledged(std::size_t index,
                                        std::vector<char>* bytes) {
  Writer& writer = writers_[index];
  const std::size_t number = writer.count.load();
  const TimeNs start = MonotonicNowNs();
  // One that was already acknowledged to an earlier try is there.
  for (;;) {
    const absl::Status put = Put(index, number, bytes);
    if (put.ok() || absl::IsAlreadyExists(put)) break;
    if (writer.report.puts_failed++ == 0) {
      writer.report.first_failure = "a put: " + StatusMessage(put);
    }
    if (stopping_.load()) return;
  }
  const auto took = static_cast<double>(MonotonicNowNs() - start);
  writer.report.put_ns_max = std::max(writer.report.put_ns_max, took);
  writer.count.store(number + 1);
}

void FailoverLoad::Read(std::size_t index) {
  LoadReport* const report = &readers_[index].report;
  std::mt19937_64 random(seed_ + kWriters + index);
  while (!stopping_.load()) {
    const std::size_t writer = random() % kWriters;
    ReadOne(writer, random() % writers_[writer].count.load(), report);
  }
}

void FailoverLoad::ReadOne(std::size_t writer, std::size_t number,
                           LoadReport* report) const {
  const agentmem_key key = KeyIn(writer, number);
  agentmem_span span = {};
  agentmem_error error = {};
  const TimeNs start = MonotonicNowNs();
  const agentmem_code code =
      agentmem_get(connection_.get(), &key, 1, kTimeoutNs, &span, &error);
  const auto took = static_cast<double>(MonotonicNowNs() - start);
  if (counting_.load()) report->reads.Add(took);
  ++report->reads_all;
  if (code != AGENTMEM_OK) {
    if (report->failed++ == 0) {
      report->first_failure =
          "block " + std::to_string(number) + ": " + error.message;
    }
    return;
  }
  if (span.tier == AGENTMEM_TIER_POOL) ++report->from_pool;
  if (span.tier == AGENTMEM_TIER_STORE) ++report->from_store;
  if (span.length != kBlockBytes ||
      !ByteStream(SeedOf(writer), number)
           .Matches(static_cast<const char*>(span.data), kBlockBytes)) {
    ++report->wrong;
  }
  agentmem_release(connection_.get(), &span, 1);
}

LoadReport FailoverLoad::ReadAll() {
  LoadReport report;
  for (std::size_t writer = 0; writer < kWriters; ++writer) {
    const std::size_t count = writers_[writer].count.load();
    for (std::size_t number = 0; number < count; ++number) {
      ReadOne(writer, number, &report);
    }
  }
  return report;
}

}  // namespace agentmem::bench
