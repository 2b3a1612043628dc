// Suite `region`: commits, forks, and what writing costs.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "benchmarks/region_bench.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kUnit = 4 << 10;

CommitOptions Acknowledged(Ack ack) {
  CommitOptions options;
  options.ack = ack;
  return options;
}

}  // namespace

// A page changed in a region that is otherwise committed.
absl::Status RegionBench::CommitOnePage(OpenMemory* memory, std::uint64_t at,
                                        std::uint64_t seed, Samples* samples) {
  FillWords(memory->region.data() + at, kUnit, seed);
  const TimeNs start = MonotonicNowNs();
  const auto version = memory->region.Commit(Acknowledged(Ack::kVisible));
  samples->Add(static_cast<double>(MonotonicNowNs() - start));
  return version ? absl::OkStatus() : ToAbsl(version.status());
}

absl::Status RegionBench::AddCommits() {
  AGENTMEM_ASSIGN_OR_RETURN(Client client, Connect());
  Samples small;
  Samples large;
  {
    AGENTMEM_ASSIGN_OR_RETURN(OpenMemory of_small,
                              Open(&client, "small", 0, true));
    AGENTMEM_ASSIGN_OR_RETURN(OpenMemory of_large,
                              Open(&client, "large", 0, true));
    // By turns: what else the machine does meets both.
    std::mt19937_64 random(8);
    for (int i = 0; i < scale_.samples; ++i) {
      const std::uint64_t word = random();
      AGENTMEM_RETURN_IF_ERROR(CommitOnePage(
          &of_small, word % (scale_.small / kUnit) * kUnit, word, &small));
      AGENTMEM_RETURN_IF_ERROR(CommitOnePage(
          &of_large, word % (scale_.large / kUnit) * kUnit, word, &large));
    }
  }
  const double small_p50 = small.Percentile(0.5);
  Add("commit_one_page/" + std::to_string(scale_.small), &small);
  CaseResult* const row =
      Add("commit_one_page/" + std::to_string(scale_.large), &large);
  row->baseline = "the small one";
  row->baseline_value = small_p50;

  // Durable, beside a file that the same bytes are appended to and synced.
  const std::string path = memd_->directory() + "/append";
  const UniqueFd file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file.valid()) return ErrnoStatus("making " + path);
  AGENTMEM_ASSIGN_OR_RETURN(OpenMemory memory,
                            Open(&client, "durable", 16 * kMiB, true));
  std::vector<std::byte> unit(kUnit);
  Samples ours;
  Samples raw;
  for (int i = 0; i < scale_.samples / 2; ++i) {
    FillWords(unit.data(), kUnit, static_cast<std::uint64_t>(i));
    TimeNs start = MonotonicNowNs();
    if (::write(file.get(), unit.data(), kUnit) != ssize_t{kUnit} ||
        ::fdatasync(file.get()) != 0) {
      return ErrnoStatus("appending to " + path);
    }
    raw.Add(static_cast<double>(MonotonicNowNs() - start));
    std::memcpy(
        memory.region.data() + static_cast<std::uint64_t>(i) % 4096 * kUnit,
        unit.data(), kUnit);
    start = MonotonicNowNs();
    const auto version = memory.region.Commit();
    ours.Add(static_cast<double>(MonotonicNowNs() - start));
    if (!version) return ToAbsl(version.status());
  }
  CaseResult* const durable = Add("commit_durable_4k", &ours);
  durable->baseline = "append and fdatasync of 4 KiB";
  durable->baseline_value = raw.Percentile(0.5);
  result_->notes.push_back(
      "commit_one_page: at most 1.2 x; commit_durable_4k: at most 2 x");
  return absl::OkStatus();
}

absl::Status RegionBench::AddForks() {
  AGENTMEM_ASSIGN_OR_RETURN(Client client, Connect());
  Samples samples;
  for (int i = 0; i < scale_.resumes; ++i) {
    const std::string name = "fork-" + std::to_string(i);
    const TimeNs start = MonotonicNowNs();
    const Status forked = client.Agents().Fork("whole", name);
    samples.Add(static_cast<double>(MonotonicNowNs() - start));
    if (!forked) return ToAbsl(forked);
  }
  Add("fork/" + std::to_string(scale_.whole), &samples);
  result_->notes.push_back("fork: at most 1 ms");
  return AddForkBytes();
}

// Random words written where all is dirty already: the steady state.
absl::Status RegionBench::AddWriteBarrier() {
  AGENTMEM_ASSIGN_OR_RETURN(Client client, Connect());
  AGENTMEM_ASSIGN_OR_RETURN(OpenMemory memory,
                            Open(&client, "barrier", scale_.small, true));
  const std::unique_ptr<std::byte[]> plain(new std::byte[scale_.small]);
  const auto write = [&](std::byte* bytes) {
    constexpr std::uint64_t kWrites = 4'000'000;
    std::mt19937_64 random(9);
    const std::uint64_t words = scale_.small / 8;
    const TimeNs start = MonotonicNowNs();
    for (std::uint64_t i = 0; i < kWrites; ++i) {
      const std::uint64_t word = random();
      std::memcpy(bytes + word % words * 8, &word, 8);
    }
    return static_cast<double>(MonotonicNowNs() - start) / kWrites;
  };
  FillWords(memory.region.data(), scale_.small, 1);
  FillWords(plain.get(), scale_.small, 1);
  std::vector<double> ours;
  std::vector<double> bare;
  for (int round = 0; round < 5; ++round) {
    ours.push_back(write(memory.region.data()));
    bare.push_back(write(plain.get()));
  }
  CaseResult* const row = Add("write_barrier", 1e9 / Median(ours), "writes/s");
  row->higher_is_better = true;
  row->baseline = "plain memory";
  row->baseline_value = 1e9 / Median(bare);
  result_->notes.push_back("write_barrier: at least 0.9");
  return absl::OkStatus();
}

// From the call of Commit to a reader of another connection that knows.
absl::Status RegionBench::AddWatch() {
  AGENTMEM_ASSIGN_OR_RETURN(Client writes, Connect());
  AGENTMEM_ASSIGN_OR_RETURN(Client reads, Connect());
  AGENTMEM_ASSIGN_OR_RETURN(OpenMemory writer,
                            Open(&writes, "watched", kMiB, true));
  if (const auto first = writer.region.Commit(Acknowledged(Ack::kVisible));
      !first) {
    return ToAbsl(first.status());
  }
  AGENTMEM_ASSIGN_OR_RETURN(OpenMemory reader,
                            Open(&reads, "watched", 0, false));
  std::vector<TimeNs> heard(static_cast<std::size_t>(scale_.samples));
  std::vector<TimeNs> said(heard.size());
  absl::Status outcome;
  std::atomic<std::uint64_t> watching = 0;  // how many times it began to
  std::thread listener([&] {
    for (std::size_t i = 0; i < heard.size(); ++i) {
      ++watching;
      watching.notify_one();
      const auto version = reader.region.Watch(i + 1, std::chrono::seconds(30));
      heard[i] = MonotonicNowNs();
      if (!version) {
        outcome = ToAbsl(version.status());
        return;
      }
    }
  });
  for (std::size_t i = 0; i < said.size(); ++i) {
    for (std::uint64_t n = watching; n <= i; n = watching) watching.wait(n);
    FillWords(writer.region.data(), 64, i);
    said[i] = MonotonicNowNs();
    if (!writer.region.Commit(Acknowledged(Ack::kVisible))) break;
  }
  listener.join();
  AGENTMEM_RETURN_IF_ERROR(outcome);
  Samples samples;
  for (std::size_t i = 0; i < said.size(); ++i) {
    samples.Add(static_cast<double>(heard[i] - said[i]));
  }
  Add("watch_latency", &samples);
  result_->notes.push_back(
      "watch_latency: from the call of Commit on; p99 at most 1 ms");
  return absl::OkStatus();
}

// Four times memd's DRAM, written and read back at random.
absl::Status RegionBench::AddPaging() {
  AGENTMEM_ASSIGN_OR_RETURN(Client client, Connect());
  const std::uint64_t self_before = PssBytes("self");
  const std::uint64_t bytes = 4 * scale_.dram;
  AGENTMEM_ASSIGN_OR_RETURN(OpenMemory memory,
                            Open(&client, "paged", bytes, true));
  const std::uint64_t pages = bytes / kRegionPage;
  std::vector<std::uint32_t> written(pages);
  std::mt19937_64 random(10);
  std::uint64_t peak = 0;
  std::uint64_t wrong = 0;
  const TimeNs start = MonotonicNowNs();
  for (std::uint64_t i = 0; i < scale_.paged; ++i) {
    const std::uint64_t page = random() % pages;
    std::byte* const at = memory.region.data() + page * kRegionPage;
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof(word));
    if (word != written[page]) ++wrong;
    word = ++written[page];
    std::memcpy(at, &word, sizeof(word));
    if (i % 1000 == 0) {
      peak = std::max(peak, PssBytes("self") + PssBytes(memd_->process()));
    }
  }
  const double seconds = static_cast<double>(MonotonicNowNs() - start) / 1e9;
  for (std::uint64_t page = 0; page < pages; ++page) {
    std::uint64_t word = 0;
    std::memcpy(&word, memory.region.data() + page * kRegionPage, sizeof(word));
    if (word != written[page]) ++wrong;
  }
  if (wrong != 0) {
    return DataLoss("paging: " + std::to_string(wrong) + " pages are wrong");
  }
  CaseResult* const row =
      Add("paging",
          static_cast<double>(peak - std::min(peak, self_before)) /
              static_cast<double>(kMiB),
          "MiB");
  row->baseline = "DRAM budget";
  row->baseline_value = static_cast<double>(scale_.dram / kMiB);
  result_->notes.push_back(
      "paging: peak of both processes' Pss, less this one's before; at most "
      "1.1 x; " +
      std::to_string(
          static_cast<long>(static_cast<double>(scale_.paged) / seconds)) +
      " pages/s touched, all words right");
  return absl::OkStatus();
}

}  // namespace agentmem::bench
