// The durable store alone, through Submit and Poll, beside the bare disk: the
// same bytes by direct I/O in the same run.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "benchmarks/comparison.h"
#include "benchmarks/page_cache.h"
#include "benchmarks/stopwatch.h"
#include "benchmarks/suites.h"
#include "memd/store/aligned_buffer.h"
#include "memd/store/rocks_store.h"

namespace agentmem::bench {
namespace {

constexpr std::size_t kPageBytes = 64 << 10;  // of a region
constexpr std::size_t kRawReadBytes = 1 << 20;
constexpr std::size_t kInFlight = 128;
constexpr std::uint64_t kPagesGroup = 1;
constexpr std::uint64_t kBulkGroup = 2;
constexpr std::uint64_t kSinglesGroup = 3;
constexpr std::size_t kPutBytes[] = {4 << 10, 64 << 10, 256 << 10, 1 << 20};

struct Scale {
  std::size_t pages;       // that are read in their order
  std::size_t lone_gets;   // a round
  std::size_t lone_puts;   // a round
  std::size_t bulk_bytes;  // written for what memory it takes
  int rounds;
};

Scale ScaleOf(const SuiteOptions& options) {
  if (options.quick) return {512, 64, 16, 64 << 20, 2};
  return {16 << 10, 1000, 200, std::size_t{4} << 30, 6};
}

std::size_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t all = 0;
  std::size_t resident = 0;
  file >> all >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

class SegmentBench {
 public:
  SegmentBench(const Scale& scale, SuiteResult* result)
      : scale_(scale), result_(result), memory_(kInFlight * kPageBytes) {
    std::mt19937_64 random(3);
    auto* const words = reinterpret_cast<std::uint64_t*>(memory_.data());
    std::generate_n(words, kInFlight * kPageBytes / sizeof(*words), random);
  }
  ~SegmentBench() {
    store_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  absl::Status SetUp();
  absl::Status AddReads();
  absl::Status AddPuts(std::size_t bytes);
  absl::Status AddBulk();

 private:
  StoreOp Op(StoreOp::Kind kind, std::uint64_t group, std::uint64_t number,
             std::size_t slot, std::size_t bytes) const;
  // All of [0, count) with kInFlight of them under way.
  absl::Status Stream(StoreOp::Kind kind, std::uint64_t group,
                      std::size_t count);
  absl::Status One(const StoreOp& op);
  absl::Status OpenRawFiles();
  absl::Status ReadRaw(std::size_t threads) const;
  absl::Status ReadRawShare(std::size_t first, std::size_t threads) const;
  char* Slot(std::size_t slot) const {
    return memory_.data() + slot * kPageBytes;
  }

  const Scale scale_;
  SuiteResult* const result_;
  const Stopwatch stopwatch_;
  const AlignedBuffer memory_;
  std::string directory_;
  std::unique_ptr<RocksStore> store_;
  std::vector<std::pair<UniqueFd, std::size_t>> raw_;  // segments, their bytes
};

absl::Status SegmentBench::SetUp() {
  std::error_code ignored;
  std::filesystem::create_directories("build/bench", ignored);
  directory_ = "build/bench/store_XXXXXX";
  if (::mkdtemp(directory_.data()) == nullptr) {
    return ErrnoStatus("making " + directory_);
  }
  RocksStoreOptions options;
  options.path = directory_ + "/store";
  options.read_threads = 2;
  AGENTMEM_ASSIGN_OR_RETURN(store_, RocksStore::Open(options));
  AGENTMEM_RETURN_IF_ERROR(
      Stream(StoreOp::Kind::kPut, kPagesGroup, scale_.pages));
  store_.reset();
  AGENTMEM_ASSIGN_OR_RETURN(store_, RocksStore::Open(options));
  return OpenRawFiles();
}

absl::Status SegmentBench::OpenRawFiles() {
  std::vector<std::string> paths;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory_ + "/store/segments")) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (!fd.valid()) return ErrnoStatus("opening " + path);
    raw_.emplace_back(std::move(fd), std::filesystem::file_size(path));
  }
  return absl::OkStatus();
}

StoreOp SegmentBench::Op(StoreOp::Kind kind, std::uint64_t group,
                         std::uint64_t number, std::size_t slot,
                         std::size_t bytes) const {
  StoreOp op;
  op.kind = kind;
  op.block_class = BlockClass::kState;
  op.tenant = TenantId(1);
  op.key = Key::FromWords(group, number);
  op.ticket = slot;
  op.bytes[0] = {Slot(slot), bytes};
  return op;
}

absl::Status SegmentBench::Stream(StoreOp::Kind kind, std::uint64_t group,
                                  std::size_t count) {
  std::vector<std::size_t> free;
  for (std::size_t i = 0; i < std::min(count, kInFlight); ++i) {
    free.push_back(i);
  }
  std::vector<StoreOp> ops;
  std::size_t next = 0;
  for (std::size_t done = 0; done < count;) {
    ops.clear();
    while (next < count && !free.empty()) {
      ops.push_back(Op(kind, group, next++, free.back(), kPageBytes));
      free.pop_back();
    }
    if (store_->blocks().Submit(ops) != ops.size()) {
      return Internal("the store's queue is full");
    }
    pollfd waits = {store_->blocks().completion_fd(), POLLIN, 0};
    ::poll(&waits, 1, -1);
    StoreCompletion taken[kInFlight];
    const std::size_t polled = store_->blocks().Poll(taken);
    for (std::size_t i = 0; i < polled; ++i) {
      if (taken[i].code != Code::kOk) return Internal("an operation failed");
      free.push_back(taken[i].ticket);
    }
    done += polled;
  }
  return absl::OkStatus();
}

absl::Status SegmentBench::One(const StoreOp& op) {
  if (store_->blocks().Submit({&op, 1}) != 1) return Internal("queue full");
  pollfd waits = {store_->blocks().completion_fd(), POLLIN, 0};
  ::poll(&waits, 1, -1);
  StoreCompletion done;
  if (store_->blocks().Poll({&done, 1}) != 1 || done.code != Code::kOk) {
    return Internal("an operation failed");
  }
  return absl::OkStatus();
}

// Every `threads`-th read of kRawReadBytes, from `first` on.
absl::Status SegmentBench::ReadRawShare(std::size_t first,
                                        std::size_t threads) const {
  std::size_t number = 0;
  for (const auto& [fd, bytes] : raw_) {
    for (std::size_t at = 0; at < bytes; at += kRawReadBytes) {
      if (number++ % threads != first) continue;
      if (::pread(fd.get(), memory_.data() + first * kRawReadBytes,
                  kRawReadBytes, static_cast<off_t>(at)) <= 0) {
        return ErrnoStatus("reading a segment");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status SegmentBench::ReadRaw(std::size_t threads) const {
  std::vector<absl::Status> done(threads);
  std::vector<std::thread> readers;
  for (std::size_t i = 0; i < threads; ++i) {
    readers.emplace_back([&, i] { done[i] = ReadRawShare(i, threads); });
  }
  for (std::thread& reader : readers) reader.join();
  for (const absl::Status& one : done) AGENTMEM_RETURN_IF_ERROR(one);
  return absl::OkStatus();
}

absl::Status SegmentBench::AddReads() {
  const auto timed = [&](auto read) -> absl::StatusOr<double> {
    DropPageCache(directory_);
    const TimeNs start = MonotonicNowNs();
    AGENTMEM_RETURN_IF_ERROR(read());
    return static_cast<double>(MonotonicNowNs() - start) /
           static_cast<double>(scale_.pages);
  };
  AGENTMEM_ASSIGN_OR_RETURN(
      CaseResult in_order,
      Compare(
          "store_get_in_order/64KiB",
          Unit::MegabytesPerSecond(static_cast<double>(kPageBytes)),
          scale_.rounds,
          {{"agentmem",
            [&](int, Samples*) {
              return timed([&] {
                return Stream(StoreOp::Kind::kGet, kPagesGroup, scale_.pages);
              });
            }},
           {"disk, 1 MiB reads",
            [&](int, Samples*) { return timed([&] { return ReadRaw(1); }); }},
           {"disk, 1 MiB reads, two at a time", [&](int, Samples*) {
              return timed([&] { return ReadRaw(2); });
            }}}));
  result_->cases.push_back(in_order);

  std::mt19937_64 random(5);
  absl::Status failed = absl::OkStatus();
  const auto lone = [&](auto read) {
    return [&, read](int, Samples* samples) -> absl::StatusOr<double> {
      DropPageCache(directory_);
      const double ns =
          stopwatch_.TimeSingles(scale_.lone_gets, samples, [&](std::size_t) {
            const absl::Status done = read();
            if (!done.ok()) failed = done;
          });
      if (!failed.ok()) return failed;
      return ns;
    };
  };
  const auto ours = [&] {
    return One(Op(StoreOp::Kind::kGet, kPagesGroup, random() % scale_.pages, 0,
                  kPageBytes));
  };
  const auto raw = [&] {
    const auto& [fd, bytes] = raw_[random() % raw_.size()];
    const std::size_t at = random() % (bytes / kPageBytes - 1) * kPageBytes;
    if (::pread(fd.get(), memory_.data(), kPageBytes, static_cast<off_t>(at)) <=
        0) {
      return ErrnoStatus("reading a segment");
    }
    return absl::OkStatus();
  };
  AGENTMEM_ASSIGN_OR_RETURN(
      CaseResult single,
      Compare("store_get_alone/64KiB", Unit::Nanoseconds(), scale_.rounds,
              {{"agentmem", lone(ours)}, {"disk, pread", lone(raw)}}));
  result_->cases.push_back(single);
  return absl::OkStatus();
}

absl::Status SegmentBench::AddPuts(std::size_t bytes) {
  const std::string path = directory_ + "/raw";
  const UniqueFd fd(
      ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600));
  const std::size_t all =
      scale_.lone_puts * bytes * static_cast<std::size_t>(scale_.rounds);
  if (!fd.valid() ||
      ::fallocate(fd.get(), 0, 0, static_cast<off_t>(all)) != 0) {
    return ErrnoStatus("making " + path);
  }
  std::uint64_t number = bytes;  // no other size has these
  std::size_t at = 0;
  absl::Status failed = absl::OkStatus();
  const auto singles = [&](auto put) {
    return [&, put](int, Samples* samples) -> absl::StatusOr<double> {
      const double ns =
          stopwatch_.TimeSingles(scale_.lone_puts, samples, [&](std::size_t) {
            const absl::Status done = put();
            if (!done.ok()) failed = done;
          });
      if (!failed.ok()) return failed;
      return ns;
    };
  };
  const auto ours = [&] {
    StoreOp op = Op(StoreOp::Kind::kPut, kSinglesGroup, number++, 0, bytes);
    op.durable = true;
    return One(op);
  };
  const auto raw = [&] {
    const ssize_t done =
        ::pwrite(fd.get(), memory_.data(), bytes, static_cast<off_t>(at));
    at += bytes;
    if (done != static_cast<ssize_t>(bytes) || ::fdatasync(fd.get()) != 0) {
      return ErrnoStatus("writing " + path);
    }
    return absl::OkStatus();
  };
  AGENTMEM_ASSIGN_OR_RETURN(
      CaseResult puts,
      Compare("store_put_alone/" + std::to_string(bytes >> 10) + "KiB",
              Unit::Nanoseconds(), scale_.rounds,
              {{"agentmem", singles(ours)},
               {"disk, pwrite and fdatasync", singles(raw)}}));
  result_->cases.push_back(puts);
  return absl::OkStatus();
}

absl::Status SegmentBench::AddBulk() {
  const std::size_t count = scale_.bulk_bytes / kPageBytes;
  const std::size_t before = ResidentBytes();
  const TimeNs start = MonotonicNowNs();
  AGENTMEM_RETURN_IF_ERROR(Stream(StoreOp::Kind::kPut, kBulkGroup, count));
  AGENTMEM_RETURN_IF_ERROR(store_->blocks().Flush());
  const double ns = static_cast<double>(MonotonicNowNs() - start);
  const std::size_t after = ResidentBytes();
  CaseResult bulk;
  bulk.name = "store_put_bulk/64KiB";
  bulk.unit = "MB/s";
  bulk.higher_is_better = true;
  bulk.value = static_cast<double>(scale_.bulk_bytes) / ns * 1e3;
  result_->cases.push_back(bulk);
  char text[200];
  std::snprintf(text, sizeof(text),
                "store_put_bulk: %zu MiB, flush included; resident memory %zu "
                "MiB before, %zu MiB after",
                scale_.bulk_bytes >> 20, before >> 20, after >> 20);
  result_->notes.push_back(text);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SuiteResult> RunStoreSuite(const SuiteOptions& options) {
  SuiteResult result;
  result.suite = "store";
  result.machine = DescribeMachine();
  SegmentBench bench(ScaleOf(options), &result);
  AGENTMEM_RETURN_IF_ERROR(bench.SetUp());
  AGENTMEM_RETURN_IF_ERROR(bench.AddReads());
  for (const std::size_t bytes : kPutBytes) {
    AGENTMEM_RETURN_IF_ERROR(bench.AddPuts(bytes));
  }
  AGENTMEM_RETURN_IF_ERROR(bench.AddBulk());
  result.notes.push_back(
      "store_get_in_order: 128 gets under way, page cache dropped; alone: one "
      "at a time, any block; put_alone: durable, one at a time");
  return result;
}

}  // namespace agentmem::bench
