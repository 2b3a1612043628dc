#include "client/hbm_keeper.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "client/kv_wait.h"

namespace agentmem::client {
namespace {

// Changes are told so long after the first of them, at most.
constexpr DurationNs kReportEveryNs = 5 * kMillisecondNs;
// After memd did not answer, or not well.
constexpr DurationNs kAgainNs = 100 * kMillisecondNs;
constexpr std::uint64_t kAnswerNs = kSecondNs;
// Attempts to reach a memd that is gone: how long, and how often.
constexpr std::uint64_t kConnectNs = 200 * kMillisecondNs;
constexpr std::uint64_t kFinishConnectNs = kSecondNs;
constexpr DurationNs kConnectEveryNs = 500 * kMillisecondNs;
// A memd that died while nothing happened is noticed so late.
constexpr DurationNs kLookNs = kSecondNs;
// Between two looks at what is under way; and when nothing went on for kSlowNs.
constexpr DurationNs kPauseMinNs = 50 * kMicrosecondNs;
constexpr DurationNs kPauseMaxNs = kMillisecondNs;
constexpr DurationNs kPauseSlowNs = 20 * kMillisecondNs;
constexpr DurationNs kSlowNs = kSecondNs;
// What memd could not bring up by then stays below.
constexpr DurationNs kBringBackNs = 10 * kSecondNs;
// Of keys that did not come yet, in one round.
constexpr int kBringLooks = 256;
constexpr std::size_t kWritesAtOnce = 4;
// What is written, what comes back, and what is told, in one round: no block or
// report more is begun after that. A memd that does not answer takes some of it
// for each.
constexpr DurationNs kTurnNs = 100 * kMillisecondNs;

constexpr std::size_t kStackBytes = 256 << 10;

}  // namespace

HbmKeeper::HbmKeeper(const Parts& parts)
    : parts_(parts), moves_(parts.kv, parts.pool) {
  parts_.pool->OnChange([this] { Wake(); });
}

HbmKeeper::~HbmKeeper() {
  if (is_started_) Stop();
  parts_.pool->OnChange(nullptr);
}

Outcome HbmKeeper::Open(const Deadline& deadline) {
  std::uint64_t budget = 0;
  const HbmHits hits_before = HitsInAll();
  Outcome outcome =
      parts_.link->Open(parts_.pool->wanted_bytes(), deadline, &budget);
  if (!outcome.ok()) return outcome;
  is_connected_ = true;
  hits_before_ = hits_before;
  reported_hits_ = {};
  owes_hits_ = false;
  parts_.pool->SetBudget(budget);
  parts_.pool->AllChanged();
  heard_ = parts_.link->Bell() - 1;  // what it has to say is asked for at once
  again_at_ = 0;
  look_at_ = parts_.clock->Now() + kLookNs;
  return {};
}

Outcome HbmKeeper::Start() {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  int error = pthread_create(&thread_, &attributes, &HbmKeeper::Run, this);
  // (Static thread-local storage of the host's libraries may need more.)
  if (error == EINVAL) {
    error = pthread_create(&thread_, nullptr, &HbmKeeper::Run, this);
  }
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) {
    return Fail(Code::kResourceExhausted,
                std::string("no thread to keep blocks in device memory: ") +
                    std::strerror(error));
  }
  pthread_setname_np(thread_, "agentmem-hbm");
  is_started_ = true;
  return {};
}

bool HbmKeeper::Stop() {
  if (!is_started_) return is_finished_;
  stop_.store(true);
  parts_.link->Wake();
  pthread_join(thread_, nullptr);
  is_started_ = false;
  return is_finished_;
}

void* HbmKeeper::Run(void* self) {
  static_cast<HbmKeeper*>(self)->Loop();
  return nullptr;
}

void HbmKeeper::Loop() {
  while (!stop_.load()) {
    const std::uint32_t seen = parts_.link->Bell();
    const DurationNs pause = Step();
    // Either it is seen here that there are news, or whoever has them sees that
    // this thread sleeps, and rings.
    is_asleep_.store(pause > kReportEveryNs);
    if (!stop_.load() && !(has_news_.load() && pause > kReportEveryNs)) {
      parts_.link->Sleep(seen, pause);
    }
    is_asleep_.store(false);
  }
  is_finished_ = Finish();
}

void HbmKeeper::Wake() {
  has_news_.store(true);
  if (is_asleep_.load() && is_asleep_.exchange(false)) parts_.link->Wake();
}

bool HbmKeeper::MakeRoom(std::uint64_t allocated_max,
                         const Deadline& deadline) {
  parts_.pool->SetCeiling(allocated_max, kSecondNs);
  return WaitForDevice(
      [&] { return parts_.pool->counts().allocated_bytes <= allocated_max; },
      deadline);
}

DurationNs HbmKeeper::Step() {
  const TimeNs now = parts_.clock->Now();
  const bool has_news = has_news_.exchange(false);
  if (has_news) moved_at_ = now;
  bool is_idle = parts_.sweep();
  const std::uint64_t failures = moves_.failures();
  if (!moves_.Advance()) is_idle = false;
  if (moves_.failures() != failures) write_at_ = now + kAgainNs;
  if (is_connected_ && now >= look_at_) {
    look_at_ = now + kLookNs;
    if (HitsSinceOpen() != reported_hits_) owes_report_ = owes_hits_ = true;
    if (parts_.link->IsLost()) Lose();
  }
  if (!is_connected_ && now >= connect_at_) Connect(kConnectNs);
  const bool is_rung = is_connected_ && parts_.link->Bell() != heard_;
  if (has_news || is_rung) owes_report_ = true;
  if (now >= again_at_ && (is_rung || (owes_report_ && now >= report_at_))) {
    Report();
  }
  for (auto& [agent, job] : jobs_) Begin(&job);
  if (!Fit()) is_idle = false;
  AdvanceJobs();
  if (!done_.empty() && parts_.clock->Now() >= again_at_) Report();
  // What left in this round is told in the next.
  const HbmCounts counts = parts_.pool->counts();
  if (is_connected_ && !owes_report_ &&
      (counts.changed_agents != 0 ||
       counts.allocated_bytes != reported_allocated_)) {
    owes_report_ = true;
    moved_at_ = now;
  }
  return Pause(!is_idle || !jobs_.empty());
}

DurationNs HbmKeeper::Pause(bool is_busy) {
  const TimeNs now = parts_.clock->Now();
  DurationNs pause = kLookNs;
  if (!is_connected_) {
    pause = std::clamp<DurationNs>(connect_at_ - now, 0, pause);
  } else if (owes_report_) {
    pause = std::clamp<DurationNs>(report_at_ - now, 0, pause);
  }
  if (!is_busy) {
    pause_ = 0;
    moved_at_ = now;
    return pause;
  }
  const DurationNs most =
      now - moved_at_ < kSlowNs ? kPauseMaxNs : kPauseSlowNs;
  pause_ = std::clamp(2 * pause_, kPauseMinNs, most);
  return std::min(pause, pause_);
}

void HbmKeeper::Connect(std::uint64_t timeout_ns) {
  connect_at_ = parts_.clock->Now() + kConnectEveryNs;
  if (Open(Deadline::After(timeout_ns)).ok()) parts_.meet();
}

// What memd wished is of no interest to the next one; it will say so anew.
void HbmKeeper::Lose() {
  is_connected_ = false;
  connect_at_ = parts_.clock->Now();
  for (auto& [agent, job] : jobs_) EndJob(&job);
  jobs_.clear();
  done_.clear();
}

HbmHits HbmKeeper::HitsInAll() const {
  const HbmCounts counts = parts_.pool->counts();
  return {counts.hits, counts.hit_bytes};
}

HbmHits HbmKeeper::HitsSinceOpen() const {
  const HbmHits now = HitsInAll();
  return {now.blocks - hits_before_.blocks, now.bytes - hits_before_.bytes};
}

std::vector<HbmUse> HbmKeeper::TakeUses() {
  const std::size_t told = std::min(done_.size(), kHbmUsesMax);
  std::vector<HbmUse> uses = parts_.pool->TakeChanged(
      kHbmUsesMax - told,
      is_refused_ ? HbmPool::Telling::kGoneAlone : HbmPool::Telling::kAll);
  for (std::size_t i = 0; i < told; ++i) {
    const Done& done = done_[i];
    auto use = std::find_if(uses.begin(), uses.end(), [&](const HbmUse& one) {
      return done.agent == one.agent && one.answers == 0;
    });
    if (use == uses.end()) {
      use = uses.insert(use, parts_.pool->UseOf(done.agent));
    }
    use->answers = done.number;
    use->took_ns = static_cast<std::uint64_t>(done.took);
  }
  return uses;
}

void HbmKeeper::Report() {
  owes_report_ = false;
  if (!is_connected_) return;  // the next one is told all of it
  for (const TimeNs until = parts_.clock->Now() + kTurnNs;;) {
    const std::uint32_t bell = parts_.link->Bell();
    const std::vector<HbmUse> uses = TakeUses();
    HbmReport report;
    report.uses = uses;
    report.allocated_bytes = parts_.pool->counts().allocated_bytes;
    report.wanted_bytes = parts_.pool->wanted_bytes();
    report.hits = HitsSinceOpen();
    if (uses.empty() && bell == heard_ && !owes_hits_ &&
        report.allocated_bytes == reported_allocated_) {
      return;
    }
    HbmReply reply;
    const Outcome outcome =
        parts_.link->Report(report, Deadline::After(kAnswerNs), &reply);
    report_at_ = parts_.clock->Now() + kReportEveryNs;
    parts_.pool->EndTelling(uses, outcome.ok());
    is_refused_ = !outcome.ok();
    if (is_refused_) {
      owes_report_ = true;
      again_at_ = report_at_ += kAgainNs;
      if (outcome.code == Code::kUnavailable) Lose();
      return;
    }
    heard_ = bell;
    reported_allocated_ = report.allocated_bytes;
    reported_hits_ = report.hits;
    owes_hits_ = false;
    done_.erase(done_.begin(),
                done_.begin() + static_cast<std::ptrdiff_t>(
                                    std::min(done_.size(), kHbmUsesMax)));
    parts_.pool->SetBudget(reply.budget_bytes);
    for (const HbmWish& wish : reply.wishes) Hear(wish);
    if (uses.size() < kHbmUsesMax && done_.empty()) return;
    if (parts_.clock->Now() >= until) {
      owes_report_ = true;
      return;
    }
  }
}

void HbmKeeper::Hear(const HbmWish& wish) {
  if (wish.kind != HbmWishKind::kEmpty &&
      wish.kind != HbmWishKind::kBringBack) {
    return;  // of a later memd
  }
  const auto found = jobs_.find(wish.agent);
  if (found != jobs_.end()) {
    if (found->second.wish.number == wish.number) return;  // said again
    EndJob(&found->second);
    jobs_.erase(found);
  }
  if (jobs_.size() >= kHbmAgentsMax) return;  // memd says it again
  Job job;
  job.wish = wish;
  job.learned_at = parts_.clock->Now();
  jobs_.emplace(wish.agent, std::move(job));
}

void HbmKeeper::EndJob(Job* job) {
  if (!job->keys.empty()) {
    parts_.pool->RememberMore(job->wish.agent, job->keys);
  }
  parts_.pool->CloseAgent(std::exchange(job->agent, HbmAgent()));
  job->keys.clear();
}

void HbmKeeper::AdvanceJobs() {
  bool has_emptied = false;
  const TimeNs until = parts_.clock->Now() + kTurnNs;
  // Behind whom this served last: a turn may end before all had theirs.
  auto at = jobs_.upper_bound(served_);
  for (std::size_t left = jobs_.size(); left != 0; --left) {
    if (at == jobs_.end()) at = jobs_.begin();
    Job& job = at->second;
    const bool is_empty = job.wish.kind == HbmWishKind::kEmpty;
    if (!(is_empty ? parts_.pool->HasLeft(at->first)
                   : BringBack(&job, until))) {
      ++at;
      continue;
    }
    moved_at_ = parts_.clock->Now();
    done_.push_back({at->first, job.wish.number, moved_at_ - job.learned_at});
    if (is_empty) emptied_.fetch_add(1);
    if (is_empty && moved_at_ > job.wish.deadline_ns) {
      emptied_late_.fetch_add(1);
    }
    has_emptied |= is_empty;
    at = jobs_.erase(at);
  }
  // What an agent left is the device's again, not only free for others here.
  if (has_emptied) parts_.pool->GiveBack(HbmPool::Empty::kFreed);
}

void HbmKeeper::Begin(Job* job) {
  if (std::exchange(job->is_begun, true)) return;
  const std::string_view agent = job->wish.agent;
  if (job->wish.kind == HbmWishKind::kEmpty) return parts_.pool->Leave(agent);
  job->keys = parts_.pool->Return(agent);
  if (job->keys.empty()) return;
  job->agent = parts_.pool->OpenAgent(agent);
  std::vector<Key> keys;
  keys.reserve(job->keys.size());
  for (const auto& one : job->keys) keys.push_back(one.key);
  // (A hint: what memd cannot take now may come by itself.)
  (void)parts_.kv.reader->Prefetch(keys.data(), keys.size());
}

bool HbmKeeper::BringBack(Job* job, TimeNs until) {
  int looks = 0;
  std::vector<HbmPool::Remembered> left;
  bool is_full = false;
  for (const HbmPool::Remembered& one : job->keys) {
    if (is_full) break;
    if (!moves_.TakesReads() || ++looks > kBringLooks ||
        parts_.clock->Now() >= until) {
      left.push_back(one);
      continue;
    }
    served_ = job->wish.agent;
    const HbmMoves::Read read = moves_.BringUp(one, job->agent);
    if (read == HbmMoves::Read::kLater) left.push_back(one);
    is_full = read == HbmMoves::Read::kNoRoom;
  }
  if (left.size() < job->keys.size()) moved_at_ = parts_.clock->Now();
  job->keys = is_full ? std::vector<HbmPool::Remembered>() : std::move(left);
  if (parts_.clock->Now() > job->learned_at + kBringBackNs) job->keys.clear();
  if (!job->keys.empty() || moves_.reads(job->agent) != 0) return false;
  parts_.pool->CloseAgent(std::exchange(job->agent, HbmAgent()));
  return true;
}

bool HbmKeeper::Fit() {
  const bool fits = parts_.pool->GiveBack(HbmPool::Empty::kKept);
  bool has_written = false;
  const TimeNs until = parts_.clock->Now() + kTurnNs;
  while (moves_.TakesWrites()) {
    const TimeNs now = parts_.clock->Now();
    if (now < write_at_ || now >= until) break;
    const std::vector<HbmBlock> blocks =
        parts_.pool->TakeToWrite(kWritesAtOnce);
    if (blocks.empty()) {
      if (!has_written) moves_.EndRow();
      break;
    }
    has_written = true;
    for (const HbmBlock& block : blocks) {
      if (!moves_.WriteDown(block)) {
        write_at_ = parts_.clock->Now() + kAgainNs;
      }
    }
  }
  return fits && !has_written && parts_.clock->Now() >= write_at_;
}

bool HbmKeeper::Finish() {
  for (auto& [agent, job] : jobs_) EndJob(&job);
  jobs_.clear();
  if (parts_.link->IsLost()) is_connected_ = false;
  // A memd that is dead takes nothing; the next one may be there already.
  if (!is_connected_ && parts_.pool->HasState()) Connect(kFinishConnectNs);
  const Deadline deadline =
      Deadline::After(is_connected_ ? parts_.finish_ns : 0);
  parts_.pool->SendStateDown();
  WaitForDevice(
      [this] {
        const bool is_idle = moves_.Advance();
        return Fit() && is_idle;
      },
      deadline);
  // What memd has not answered by then is not asked for any more.
  const bool ended = WaitForDevice([this] { return moves_.AdvanceCopies(); },
                                   Deadline::After(kDeviceBrokenNs));
  if (is_connected_) parts_.link->Close(HitsSinceOpen());
  is_connected_ = false;
  return ended;
}

}  // namespace agentmem::client
