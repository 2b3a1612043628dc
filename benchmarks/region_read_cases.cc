// Suite `region`: pages that come in.
#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "benchmarks/connection.h"
#include "benchmarks/page_cache.h"
#include "benchmarks/raw_faults.h"
#include "benchmarks/raw_segments.h"
#include "benchmarks/region_bench.h"

namespace agentmem::bench {
namespace {

std::vector<std::uint64_t> ShuffledPages(std::uint64_t bytes) {
  std::vector<std::uint64_t> pages(bytes / kRegionPage);
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), std::mt19937_64(5));
  return pages;
}

void Touch(const Region& region, std::uint64_t page) {
  Keep(*static_cast<volatile const std::byte*>(region.data() +
                                               page * kRegionPage));
}

// Between two touches there is work, if little: nobody touches pages for the
// touch alone.
void Think() {
  const TimeNs until = MonotonicNowNs() + 50 * kMicrosecondNs;
  while (MonotonicNowNs() < until) {
  }
}

}  // namespace

// A reader's first touch of a page, in DRAM and in the store alone; the store's
// own read is a get of a block of the same size.
absl::Status RegionBench::AddFaults() {
  constexpr std::uint32_t kBlockSet = 7;
  const std::vector<std::uint64_t> pages = ShuffledPages(scale_.small);
  {
    AGENTMEM_ASSIGN_OR_RETURN(Client client, Connect());
    AGENTMEM_RETURN_IF_ERROR(MakeFilled(&client, "faults", scale_.small));
    Samples samples;
    AGENTMEM_ASSIGN_OR_RETURN(const OpenMemory memory,
                              Open(&client, "faults", 0, false));
    for (const std::uint64_t page : pages) {
      Think();
      stopwatch_.TimeSingles(1, &samples,
                             [&](std::size_t) { Touch(memory.region, page); });
    }
    Samples bare;
    AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<RawFaults> raw,
                              RawFaults::Make(scale_.small));
    for (const std::uint64_t page : pages) {
      Think();
      stopwatch_.TimeSingles(1, &bare, [&](std::size_t) {
        Keep(*static_cast<volatile const std::byte*>(raw->data() +
                                                     page * kRegionPage));
      });
    }
    CaseResult* const dram = Add("fault/65536/dram", &samples);
    dram->baseline = "a bare userfaultfd, copying 64 KiB";
    dram->baseline_value = bare.Percentile(0.5);
    AGENTMEM_ASSIGN_OR_RETURN(const Connection blocks,
                              Connection::Open(memd_->socket_path()));
    std::vector<char> block(kRegionPage);
    for (std::size_t i = 0; i < pages.size(); ++i) {
      FillWords(reinterpret_cast<std::byte*>(block.data()), kRegionPage, i);
      AGENTMEM_RETURN_IF_ERROR(
          blocks.Put(KeyOf(kBlockSet, static_cast<std::uint32_t>(i)), block,
                     kRegionPage, AGENTMEM_STATE, AGENTMEM_DURABLE));
    }
  }
  AGENTMEM_RETURN_IF_ERROR(memd_->Restart());
  DropPageCache(memd_->state_directory());
  AGENTMEM_ASSIGN_OR_RETURN(const RawSegments raw,
                            RawSegments::Open(memd_->state_directory()));
  AGENTMEM_ASSIGN_OR_RETURN(Client client, Connect());
  AGENTMEM_ASSIGN_OR_RETURN(const Connection blocks,
                            Connection::Open(memd_->socket_path()));
  AGENTMEM_ASSIGN_OR_RETURN(const OpenMemory memory,
                            Open(&client, "faults", 0, false));
  const AlignedBuffer buffer(kRegionPage);
  absl::Status outcome;
  Samples ours;
  Samples gets;
  Samples disk;
  for (std::size_t i = 0; i < pages.size() && outcome.ok(); ++i) {
    stopwatch_.TimeSingles(
        1, &ours, [&](std::size_t) { Touch(memory.region, pages[i]); });
    const agentmem_key key = KeyOf(kBlockSet, static_cast<std::uint32_t>(i));
    agentmem_span span = {};
    agentmem_error error = {};
    stopwatch_.TimeSingles(1, &gets, [&](std::size_t) {
      outcome = ToStatus(
          agentmem_get(blocks.get(), &key, 1, kTimeoutNs, &span, &error),
          error);
    });
    if (outcome.ok()) agentmem_release(blocks.get(), &span, 1);
    const std::uint64_t place = pages[i] * kRegionPage;
    stopwatch_.TimeSingles(1, &disk, [&](std::size_t) {
      const absl::Status read = raw.Read(place, kRegionPage, buffer.data());
      if (!read.ok()) outcome = read;
    });
  }
  AGENTMEM_RETURN_IF_ERROR(outcome);
  CaseResult* const row = Add("fault/65536/store", &ours);
  row->baseline = "get of 64 KiB from the store";
  row->baseline_value = gets.Percentile(0.5);
  const auto over = [&](Samples* other) {
    return std::to_string(
        static_cast<long>(row->value - other->Percentile(0.5)));
  };
  result_->notes.push_back(
      "fault/65536: p50 from DRAM at most 25000 ns; from the store at most "
      "25000 ns over the get: it is " +
      over(&gets) + " ns over it, and " + over(&disk) +
      " ns over a pread of 64 KiB by direct I/O");
  return absl::OkStatus();
}

// Open the agent and its region, touch one page: each with everything below.
absl::Status RegionBench::FirstPages(const std::string& name,
                                     std::uint64_t bytes, Samples* samples) {
  const std::vector<std::uint64_t> pages = ShuffledPages(bytes);
  for (int i = 0; i < scale_.resumes; ++i) {
    AGENTMEM_ASSIGN_OR_RETURN(Client client, Connect());
    AGENTMEM_RETURN_IF_ERROR(Hibernate(&client, name));
    const TimeNs start = MonotonicNowNs();
    AGENTMEM_ASSIGN_OR_RETURN(const OpenMemory memory,
                              Open(&client, name, 0, false));
    Touch(memory.region, pages[static_cast<std::size_t>(i) % pages.size()]);
    samples->Add(static_cast<double>(MonotonicNowNs() - start));
  }
  return absl::OkStatus();
}

absl::Status RegionBench::AddResumes() {
  Samples small;
  Samples large;
  AGENTMEM_RETURN_IF_ERROR(FirstPages("small", scale_.small, &small));
  AGENTMEM_RETURN_IF_ERROR(FirstPages("large", scale_.large, &large));
  const std::string prefix = "resume_first_page/";
  Add(prefix + std::to_string(scale_.small), &small);
  CaseResult* const row = Add(prefix + std::to_string(scale_.large), &large);
  row->baseline = "the small one";
  row->baseline_value = small.Percentile(0.5);
  result_->notes.push_back(
      "resume_first_page: p99 at most 5 ms and at most 5 x p50; the two sizes "
      "within 1.5 x");
  return absl::OkStatus();
}

// Every page, in order, by one thread that touches.
absl::Status RegionBench::AddResumeAll() {
  std::vector<double> ours;
  std::vector<double> disk;
  for (int round = 0; round < 3; ++round) {
    AGENTMEM_ASSIGN_OR_RETURN(Client client, Connect());
    AGENTMEM_RETURN_IF_ERROR(Hibernate(&client, "whole"));
    AGENTMEM_ASSIGN_OR_RETURN(const RawSegments raw,
                              RawSegments::Open(memd_->state_directory()));
    AGENTMEM_ASSIGN_OR_RETURN(const double read_ns,
                              raw.TimeSequential(scale_.whole));
    disk.push_back(read_ns);
    DropPageCache(memd_->state_directory());
    const TimeNs start = MonotonicNowNs();
    AGENTMEM_ASSIGN_OR_RETURN(const OpenMemory memory,
                              Open(&client, "whole", 0, false));
    for (std::uint64_t page = 0; page < scale_.whole / kRegionPage; ++page) {
      Touch(memory.region, page);
    }
    ours.push_back(static_cast<double>(MonotonicNowNs() - start));
  }
  const double bytes_per_us = static_cast<double>(scale_.whole) * 1e3;
  CaseResult* const row = Add("resume_all/" + std::to_string(scale_.whole),
                              bytes_per_us / Median(ours), "MB/s");
  row->higher_is_better = true;
  row->baseline = "sequential pread, direct";
  row->baseline_value = bytes_per_us / Median(disk);
  result_->notes.push_back("resume_all: at least 0.65 of the read");
  return AddWorkingSet(Median(ours));
}

// A tenth of the pages, in an order that is the agent's own: recorded once, and
// read ahead after the resumes that follow.
absl::Status RegionBench::AddWorkingSet(double whole_ns) {
  std::vector<std::uint64_t> pages = ShuffledPages(scale_.whole);
  pages.resize(pages.size() / 10);
  std::vector<double> recorded;
  std::vector<double> cold;
  for (int round = 0; round < 4; ++round) {
    AGENTMEM_ASSIGN_OR_RETURN(Client client, Connect());
    AGENTMEM_RETURN_IF_ERROR(Hibernate(&client, "whole"));
    const TimeNs start = MonotonicNowNs();
    AGENTMEM_ASSIGN_OR_RETURN(const OpenMemory memory,
                              Open(&client, "whole", scale_.whole, true));
    for (const std::uint64_t page : pages) Touch(memory.region, page);
    (round == 0 ? cold : recorded)
        .push_back(static_cast<double>(MonotonicNowNs() - start));
  }
  CaseResult* const row =
      Add("resume_working_set/" + std::to_string(pages.size() * kRegionPage),
          Median(recorded), "ns");
  row->baseline = "resume_all";
  row->baseline_value = whole_ns;
  result_->notes.push_back(
      "resume_working_set: at most 0.2 of resume_all; not recorded it took " +
      std::to_string(static_cast<std::uint64_t>(cold[0] / 1e6)) + " ms");
  return absl::OkStatus();
}

}  // namespace agentmem::bench
