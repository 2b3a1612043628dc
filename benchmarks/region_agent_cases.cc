// Suite `region`: many agents that sleep, and what it takes to wake them.
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdio>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "benchmarks/region_bench.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kUnit = 4 << 10;
constexpr int kAlone = 100;  // woken one after the other
constexpr int kStormMax = 1000;

std::string NameOf(int agent) { return "idle-" + std::to_string(agent); }

// What processes of a storm share.
struct Storm {
  std::atomic<int> ready = 0;
  std::atomic<std::uint32_t> woken = 0;
  std::atomic<std::uint32_t> open = 0;       // a futex; 1: wake up, 2: end
  std::atomic<TimeNs> done[kStormMax] = {};  // 0: it failed
};

// A process that is connected, waits, and then wakes its agent.
class Sleeper {
 public:
  Sleeper(Storm* storm, int index, const std::function<absl::Status()>& connect,
          const std::function<absl::Status()>& wake)
      : pid_(::fork()) {
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    absl::Status status = connect();
    storm->ready.fetch_add(1);
    while (status.ok() && storm->open.load() == 0) {
      ::syscall(SYS_futex, &storm->open, FUTEX_WAIT, 0, nullptr, nullptr, 0);
    }
    if (status.ok()) status = wake();
    if (status.ok()) {
      storm->done[index].store(MonotonicNowNs());
    } else {
      std::fprintf(stderr, "a process of the storm: %s\n",
                   StatusMessage(status).c_str());
    }
    // Awake, for as long as others are still waking.
    storm->woken.fetch_add(1);
    while (storm->open.load() != 2) {
      ::syscall(SYS_futex, &storm->open, FUTEX_WAIT, 1, nullptr, nullptr, 0);
    }
    ::_exit(0);
  }
  ~Sleeper() {
    int status = 0;
    if (pid_ > 0) ::waitpid(pid_, &status, 0);
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

 private:
  const pid_t pid_;
};

}  // namespace

// Each has 4 KiB of its own, committed.
absl::Status RegionBench::MakeAgents(Client* client, int count) {
  for (; agents_made_ < count; ++agents_made_) {
    AGENTMEM_ASSIGN_OR_RETURN(OpenMemory memory,
                              Open(client, NameOf(agents_made_), kMiB, true));
    FillWords(memory.region.data(), kUnit,
              static_cast<std::uint64_t>(agents_made_));
    const auto version = memory.region.Commit();
    if (!version) return ToAbsl(version.status());
  }
  return absl::OkStatus();
}

// From nothing to its first bytes, compared.
absl::StatusOr<double> RegionBench::Wake(Client* client, int agent) {
  std::vector<std::byte> expected(kUnit);
  FillWords(expected.data(), kUnit, static_cast<std::uint64_t>(agent));
  const TimeNs start = MonotonicNowNs();
  AGENTMEM_ASSIGN_OR_RETURN(const OpenMemory memory,
                            Open(client, NameOf(agent), 0, false));
  if (!std::equal(expected.begin(), expected.end(), memory.region.data())) {
    return DataLoss(NameOf(agent) + " woke with other bytes than its own");
  }
  return static_cast<double>(MonotonicNowNs() - start);
}

absl::Status RegionBench::AddIdleAgents() {
  AGENTMEM_ASSIGN_OR_RETURN(Client client, Connect());
  const std::uint64_t before = PssBytes(memd_->process());
  AGENTMEM_RETURN_IF_ERROR(MakeAgents(&client, scale_.agents));
  const std::uint64_t after = PssBytes(memd_->process());
  Samples samples;
  std::mt19937_64 random(11);
  for (int i = 0; i < scale_.resumes; ++i) {
    const auto agent =
        static_cast<int>(random() % static_cast<std::uint64_t>(scale_.agents));
    AGENTMEM_ASSIGN_OR_RETURN(const double took, Wake(&client, agent));
    samples.Add(took);
  }
  Add("idle_agents/open", &samples);
  Add("idle_agents/bytes",
      static_cast<double>(after > before ? after - before : 0) / scale_.agents,
      "bytes");
  result_->notes.push_back(
      "idle_agents: " + std::to_string(scale_.agents) +
      " with 4 KiB each, open p99 at most 5 ms, at most 1024 bytes of memd's "
      "memory each");
  return absl::OkStatus();
}

// How long after the start each of `count` processes has woken its agent, of
// `from` on; sorted.
absl::StatusOr<std::vector<double>> RegionBench::WakeTogether(int from,
                                                              int count) const {
  void* const memory = ::mmap(nullptr, sizeof(Storm), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ErrnoStatus("memory for a storm");
  auto* const storm = new (memory) Storm;
  std::vector<double> done;
  {
    std::vector<std::unique_ptr<Sleeper>> sleepers;
    for (int i = 0; i < count; ++i) {
      std::optional<Client> client;
      sleepers.push_back(std::make_unique<Sleeper>(
          storm, i,
          [&]() -> absl::Status {
            AGENTMEM_ASSIGN_OR_RETURN(Client connected, Connect());
            client.emplace(std::move(connected));
            return absl::OkStatus();
          },
          [&] { return Wake(&*client, from + i).status(); }));
      // (One after the other: it is not the connecting that is measured.)
      while (storm->ready.load() <= i) ::sched_yield();
    }
    const TimeNs start = MonotonicNowNs();
    storm->open.store(1);
    ::syscall(SYS_futex, &storm->open, FUTEX_WAKE, INT_MAX, nullptr, nullptr,
              0);
    while (storm->woken.load() < static_cast<std::uint32_t>(count)) {
      const timespec pause = {0, 1'000'000};
      ::syscall(SYS_futex, &storm->woken, FUTEX_WAIT, storm->woken.load(),
                &pause, nullptr, 0);
    }
    storm->open.store(2);
    ::syscall(SYS_futex, &storm->open, FUTEX_WAKE, INT_MAX, nullptr, nullptr,
              0);
    sleepers.clear();
    for (int i = 0; i < count; ++i) {
      done.push_back(static_cast<double>(storm->done[i].load() - start));
    }
  }
  ::munmap(memory, sizeof(Storm));
  std::sort(done.begin(), done.end());
  if (done[0] < 0) return Unavailable("an agent did not wake");
  return done;
}

absl::Status RegionBench::AddWakeStorm() {
  const int count = scale_.storm;
  {
    AGENTMEM_ASSIGN_OR_RETURN(Client client, Connect());
    AGENTMEM_RETURN_IF_ERROR(MakeAgents(&client, count + kAlone));
    for (int agent = 0; agent < count + kAlone; ++agent) {
      AGENTMEM_RETURN_IF_ERROR(Hibernate(&client, NameOf(agent)));
    }
  }
  double alone = 0;
  for (int agent = count; agent < count + kAlone; ++agent) {
    AGENTMEM_ASSIGN_OR_RETURN(const std::vector<double> took,
                              WakeTogether(agent, 1));
    alone += took[0] / kAlone;
  }
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<double> done,
                            WakeTogether(0, count));
  const double cores = std::thread::hardware_concurrency();
  CaseResult* const all =
      Add("wake_storm/" + std::to_string(count), done.back(), "ns");
  all->baseline = "as many, each like one alone, on all cores";
  all->baseline_value = alone * count / cores;
  CaseResult* const slowest = Add("wake_storm/slowest", done.back(), "ns");
  slowest->baseline = "the median's wait";
  slowest->baseline_value = done[done.size() / 2];
  result_->notes.push_back(
      "wake_storm: processes that wait, connected, and wake an agent each, to "
      "its first 4 KiB; at most 1.5 x, the slowest at most 3 x the median's "
      "wait");
  return absl::OkStatus();
}

}  // namespace agentmem::bench
