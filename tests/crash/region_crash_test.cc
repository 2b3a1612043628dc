// kill -9 of memd, or of the process that writes an agent's memory, at named
// points of commit, fork, hibernation, resume and collection, round after round
// in one directory; then memd is started again, and every version of every
// agent must be what one moment of its writer was: the last one that was
// acknowledged or the one in flight, whole.
//
//   parent                      watched_memd
//     starts both            ->   at the n-th passing of a point of its store,
//     waits for the kill          while the writer does the thing in question,
//     starts memd, reads          it kills itself or the writer
//     everything back           writer: this executable with --writer
//                                 says in the journal what it does, and what
//                                 was acknowledged
//
// What a region holds after step N follows from the seed and N alone, so the
// parent knows it without having seen it.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "agentmem/agentmem.hpp"
#include "base/unique_fd.h"
#include "tests/crash/region_journal.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kUnit = 4096;
// More than the DRAM that regions may have: changed pages are spilled.
constexpr std::uint64_t kUnits = 3072;
constexpr std::uint64_t kRegionBytes = kUnits * kUnit;
int kills_wanted = 40;
constexpr int kOperations = 40;  // of a writer, if nobody is killed

// The units that step `step` writes, and what it writes there.
std::vector<std::uint64_t> UnitsOf(std::uint64_t step) {
  std::mt19937_64 random(step * 2 + 1);
  std::vector<std::uint64_t> units;
  if (random() % 6 == 0) {
    const std::uint64_t first = random() % (kUnits - 600);
    for (std::uint64_t i = 0; i < 600; ++i) units.push_back(first + i);
  }
  for (std::uint64_t i = random() % 40; i < 40; ++i) {
    units.push_back(random() % kUnits);
  }
  return units;
}

void WriteUnit(std::uint64_t step, std::uint64_t unit, std::byte* to) {
  std::uint64_t word = (step << 20 | unit) * 0x9e3779b97f4a7c15;
  for (std::uint64_t i = 0; i < kUnit; i += 8) {
    word = word * 6364136223846793005 + 1442695040888963407;
    std::memcpy(to + i, &word, 8);
  }
}

int Complain(const std::string& what) {
  std::fprintf(stderr, "writer: %s\n", what.c_str());
  return 1;
}

std::string MemdSocket(const std::string& directory) {
  return directory + "/memd.sock";
}

std::string ForkName(int fork) { return "fork-" + std::to_string(fork); }

class Writer {
 public:
  Writer(const std::string& directory, std::uint64_t seed)
      : journal_(OpenJournal(directory)),
        socket_(MemdSocket(directory)),
        random_(seed) {}

  int Run() {
    ConnectOptions options;
    options.socket_path = socket_;
    options.name = "writer";
    auto client = Client::Connect(options);
    if (!client) return Complain(client.status().message());
    client_ = std::make_unique<Client>(std::move(*client));
    journal_->writer.store(::getpid());
    Status status = Open();
    for (int i = 0; status && i < kOperations; ++i) status = Operate();
    // (memd may have been killed.)
    return status ? 0 : Complain(status.message());
  }

 private:
  void Say(Doing doing) {
    journal_->doing.store(static_cast<std::uint32_t>(doing));
  }

  Status Open() {
    Say(Doing::kResume);
    auto agent = client_->Agents().Open(
        "a", {.write = true,
              .create = true,
              .fault_timeout = std::chrono::milliseconds(100)});
    if (!agent) return agent.status();
    auto region = agent->OpenRegion("heap", {.bytes = kRegionBytes});
    if (!region) return region.status();
    if (region->data() == nullptr) {
      return Status::From(AGENTMEM_UNIMPLEMENTED, {});
    }
    agent_ = std::make_unique<Agent>(std::move(*agent));
    region_ = std::make_unique<Region>(std::move(*region));
    // Pages come in, by their faults.
    for (int i = 0; i < 20; ++i) {
      sum_ += std::to_integer<int>(region_->data()[random_() % kRegionBytes]);
    }
    return {};
  }

  Status Commit() {
    Say(Doing::kCommit);
    const std::uint64_t step = journal_->acknowledged.load() + 1;
    journal_->begun.store(step);
    for (const std::uint64_t unit : UnitsOf(step)) {
      WriteUnit(step, unit, region_->data() + unit * kUnit);
    }
    CommitOptions options;
    options.ack = random_() % 3 == 0 ? Ack::kVisible : Ack::kDurable;
    options.message = std::to_string(step);
    auto version = region_->Commit(options);
    if (!version) return version.status();
    if (options.ack == Ack::kDurable) journal_->durable.store(step);
    journal_->acknowledged.store(step);
    return {};
  }

  Status Fork() {
    const auto which = static_cast<int>(random_() % kForks);
    Journal::Fork& fork = journal_->forks[which];
    Say(Doing::kFork);
    if (fork.state.load() == static_cast<std::uint32_t>(ForkState::kThere)) {
      fork.state.store(static_cast<std::uint32_t>(ForkState::kDeleting));
      const Status deleted = client_->Agents().Delete(ForkName(which));
      if (!deleted) return deleted;
      fork.state.store(static_cast<std::uint32_t>(ForkState::kNone));
      return {};
    }
    if (journal_->acknowledged.load() == 0) return {};
    fork.step.store(journal_->acknowledged.load());
    fork.state.store(static_cast<std::uint32_t>(ForkState::kForking));
    const Status forked = client_->Agents().Fork("a", ForkName(which));
    if (!forked) return forked;
    fork.state.store(static_cast<std::uint32_t>(ForkState::kThere));
    journal_->durable.store(fork.step.load());
    return {};
  }

  Status Operate() {
    switch (random_() % 12) {
      case 0:
      case 1: {
        Say(Doing::kHibernate);
        const auto slept = client_->Agents().Hibernate("a");
        return slept ? Status() : slept.status();
      }
      case 2:
        region_.reset();
        agent_.reset();
        return Open();
      case 3:
      case 4:
        return Fork();
      case 5: {
        Say(Doing::kNothing);
        return client_->Agents().RetainLast("a", 2 + random_() % 4);
      }
      default:
        return Commit();
    }
  }

  Journal* const journal_;
  const std::string socket_;
  std::mt19937_64 random_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<Region> region_;
  int sum_ = 0;
};

class Process {
 public:
  explicit Process(const std::vector<std::string>& arguments) {
    int ends[2];
    if (::pipe(ends) != 0) ::abort();
    out_ = UniqueFd(ends[0]);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(ends[1], STDOUT_FILENO);
      std::vector<char*> words;
      for (const std::string& word : arguments) {
        words.push_back(const_cast<char*>(word.c_str()));
      }
      words.push_back(nullptr);
      ::execv(words[0], words.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    descriptor_ =
        UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  }
  ~Process() { Kill(); }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool Hear() {
    char word;
    return ::read(out_.get(), &word, 1) == 1;
  }
  void Kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    Wait();
  }
  // Readable when it has ended.
  int descriptor() const { return descriptor_.get(); }

 private:
  void Wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
  }

  pid_t pid_ = -1;
  UniqueFd descriptor_;
  UniqueFd out_;
};

void WaitForEither(const Process* a, const Process* b) {
  pollfd ended[2] = {{a->descriptor(), POLLIN, 0},
                     {b->descriptor(), POLLIN, 0}};
  while (::poll(ended, 2, -1) < 0 && errno == EINTR) {
  }
}

class RegionCrash : public ::testing::Test {
 protected:
  RegionCrash() {
    std::string name = "/tmp/regioncrashXXXXXX";
    if (::mkdtemp(name.data()) == nullptr) ::abort();
    directory_ = name;
    journal_ = OpenJournal(directory_);
  }
  ~RegionCrash() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<Process> StartMemd(const Order& order) {
    std::vector<std::string> words = {AGENTMEM_WATCHED_MEMD, directory_};
    for (std::string& word : WordsOf(order)) words.push_back(std::move(word));
    auto memd = std::make_unique<Process>(words);
    EXPECT_TRUE(memd->Hear()) << "memd does not start";
    return memd;
  }

  Order AnyOrder() {
    struct Named {
      Doing doing;
      Point point;
    };
    static constexpr Named kNamed[] = {
        {Doing::kCommit, Point::kRefBefore},
        {Doing::kCommit, Point::kRefAfter},
        {Doing::kCommit, Point::kPutTaken},
        {Doing::kCommit, Point::kPutDone},
        {Doing::kFork, Point::kRefBefore},
        {Doing::kFork, Point::kRefAfter},
        {Doing::kFork, Point::kPutDone},
        {Doing::kHibernate, Point::kPutTaken},
        {Doing::kHibernate, Point::kPutDone},
        {Doing::kHibernate, Point::kRefAfter},
        {Doing::kResume, Point::kRefBefore},
        {Doing::kResume, Point::kRefAfter},
        {Doing::kResume, Point::kGetDone},
        {Doing::kCommit, Point::kAnswerLost},
        {Doing::kCommit, Point::kChangeLost},
        {Doing::kFork, Point::kAnswerLost},
        {Doing::kHibernate, Point::kAnswerLost},
        {Doing::kResume, Point::kAnswerLost},
        {Doing::kResume, Point::kReadFails},
        {Doing::kCommit, Point::kReadFails},
        {Doing::kCollect, Point::kDeleteTaken},
        {Doing::kCollect, Point::kDeleteDone},
    };
    Order order;
    const Named& named = kNamed[random_() % std::size(kNamed)];
    order.doing = named.doing;
    order.point = named.point;
    order.passing = 1 + random_() % 4;
    if (named.doing == Doing::kCollect) order.passing += random_() % 60;
    order.kill_writer = random_() % 3 == 0 || IsTrouble(named.point);
    return order;
  }

  // Extends what is known of the region to `step`.
  void LearnUpTo(std::uint64_t step) {
    while (writers_.size() <= step) {
      std::vector<std::uint64_t> last = writers_.empty()
                                            ? std::vector<std::uint64_t>(kUnits)
                                            : writers_.back();
      if (!writers_.empty()) {
        for (const std::uint64_t unit : UnitsOf(writers_.size())) {
          last[unit] = writers_.size();
        }
      }
      writers_.push_back(std::move(last));
      // Only what may still be asked for.
      if (writers_.size() > 200) writers_[writers_.size() - 200] = {};
    }
  }

  // Whose bytes a unit has; "none".
  std::string StepOf(std::uint64_t unit, const std::byte* bytes) const {
    std::vector<std::byte> written(kUnit);
    if (std::memcmp(bytes, written.data(), kUnit) == 0) return "none, zeros";
    for (std::uint64_t step = writers_.size() + 10; step > 0; --step) {
      WriteUnit(step, unit, written.data());
      if (std::memcmp(bytes, written.data(), kUnit) == 0) {
        return std::to_string(step);
      }
    }
    return "none";
  }

  // The step that a version says it is, if it holds exactly that.
  std::uint64_t CheckVersion(const std::string& agent, std::uint64_t number) {
    auto opened = client_->Agents().Open(agent);
    EXPECT_TRUE(opened) << agent << ": " << opened.status().message();
    if (!opened) return 0;
    auto history = client_->Agents().History(agent, "heap", number, 1);
    EXPECT_TRUE(history) << agent << ": " << history.status().message();
    if (!history || history->empty()) return 0;
    const std::uint64_t step = std::stoull((*history)[0].message);
    auto region = opened->OpenRegion("heap", {.version = (*history)[0].number});
    EXPECT_TRUE(region) << agent << ": " << region.status().message();
    if (!region) return 0;
    LearnUpTo(step);
    std::vector<std::byte> expected(kUnit);
    std::uint64_t wrong = 0;
    for (std::uint64_t unit = 0; unit < kUnits; ++unit) {
      const std::uint64_t last = writers_[step][unit];
      if (last == 0) {
        expected.assign(kUnit, std::byte{0});
      } else {
        WriteUnit(last, unit, expected.data());
      }
      if (std::memcmp(region->data() + unit * kUnit, expected.data(), kUnit) !=
          0) {
        ++wrong;
        ADD_FAILURE() << "unit " << unit << " is not of step " << last
                      << " but of "
                      << StepOf(unit, region->data() + unit * kUnit);
      }
    }
    EXPECT_EQ(wrong, 0u) << agent << " at step " << step << ", version "
                         << (*history)[0].number;
    return step;
  }

  // All that there is, after a kill. `settled`: nobody is finishing anything.
  void Check(bool memd_died, bool settled) {
    ConnectOptions options;
    options.socket_path = MemdSocket(directory_);
    options.name = "verifier";
    auto client = Client::Connect(options);
    ASSERT_TRUE(client) << client.status().message();
    client_ = std::make_unique<Client>(std::move(*client));
    const std::uint64_t begun = journal_->begun.load();
    const std::uint64_t least =
        memd_died ? journal_->durable.load() : journal_->acknowledged.load();
    std::uint64_t step = 0;
    auto shown = client_->Agents().Show("a");
    if (shown && shown->versions != 0) step = CheckVersion("a", 0);
    EXPECT_GE(step, least);
    EXPECT_LE(step, begun);
    // Older ones that retention has kept.
    if (step != 0) {
      auto history = client_->Agents().History("a", "heap", 0, 3);
      ASSERT_TRUE(history) << history.status().message();
      for (std::size_t i = 1; i < history->size(); ++i) {
        CheckVersion("a", (*history)[i].number);
      }
    }
    // Else memd may be finishing what a writer that was killed had begun.
    if (settled) {
      journal_->acknowledged.store(step);
      if (memd_died) journal_->durable.store(step);
      journal_->begun.store(step);
    }
    for (int i = 0; i < kForks; ++i) {
      Journal::Fork& fork = journal_->forks[i];
      const auto state = static_cast<ForkState>(fork.state.load());
      auto there = client_->Agents().Show(ForkName(i));
      if (state == ForkState::kThere) {
        EXPECT_TRUE(there) << ForkName(i) << " was acknowledged";
      } else if (state == ForkState::kNone) {
        EXPECT_FALSE(there) << ForkName(i) << " was deleted";
      }
      if (there) {
        EXPECT_EQ(CheckVersion(ForkName(i), 0), fork.step.load());
      }
      if (!settled) continue;
      fork.state.store(static_cast<std::uint32_t>(there ? ForkState::kThere
                                                        : ForkState::kNone));
    }
    client_.reset();
  }

  std::mt19937_64 random_{1};
  std::string directory_;
  Journal* journal_ = nullptr;
  std::unique_ptr<Client> client_;
  // writers_[step][unit]: the last step that wrote the unit.
  std::vector<std::vector<std::uint64_t>> writers_;
};

TEST_F(RegionCrash, EveryVersionIsOneMomentOfItsWriter) {
  std::map<std::string, int> kills;
  int count = 0;
  for (int round = 0; count < kills_wanted; ++round) {
    ASSERT_LT(round, 8 * kills_wanted) << "the points are not passed";
    const Order order = AnyOrder();
    SCOPED_TRACE("round " + std::to_string(round) + ": " +
                 kDoingNames[static_cast<int>(order.doing)] + ", " +
                 kPointNames[static_cast<int>(order.point)] + " " +
                 std::to_string(order.passing) +
                 (order.kill_writer ? ": the writer" : ": memd"));
    journal_->fired.store(0);
    journal_->doing.store(0);
    auto memd = StartMemd(order);
    Process writer({"/proc/self/exe", "--writer", directory_,
                    std::to_string(1000 + round)});
    // (A writer whose memd is gone would wait for another.)
    WaitForEither(&writer, memd.get());
    writer.Kill();
    const bool fired = journal_->fired.load() != 0;
    const bool memd_lives = fired && order.kill_writer;
    // First as it goes on, then as it comes back.
    if (memd_lives) Check(false, IsTrouble(order.point));
    if (memd_lives && IsTrouble(order.point) && !HasFailure()) {
      Process next({"/proc/self/exe", "--writer", directory_,
                    std::to_string(5000 + round)});
      WaitForEither(&next, memd.get());
      next.Kill();
      Check(false, true);
    }
    memd->Kill();
    if (HasFailure()) return;
    memd = StartMemd({});
    Check(true, true);
    if (HasFailure()) return;
    if (!fired) continue;
    ++count;
    ++kills[std::string(kDoingNames[static_cast<int>(order.doing)]) + ", " +
            kPointNames[static_cast<int>(order.point)]];
  }
  for (const auto& [name, times] : kills) {
    std::printf("%3d x %s\n", times, name.c_str());
  }
}

}  // namespace
}  // namespace agentmem

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "--writer") {
    return agentmem::Writer(argv[2], std::strtoull(argv[3], nullptr, 10)).Run();
  }
  ::testing::InitGoogleTest(&argc, argv);
  if (argc == 3 && std::string(argv[1]) == "--kills") {
    agentmem::kills_wanted = std::stoi(argv[2]);
  }
  return RUN_ALL_TESTS();
}
