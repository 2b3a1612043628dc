#include "memd/agents/collection_thread.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/log.h"
#include "base/status.h"

namespace agentmem {
namespace {

// Reads by itself what is not in DRAM, so that nothing leaves DRAM for it.
class QuietNodes final : public NodeSource {
 public:
  QuietNodes(BlockPort* port, BlockStore* store, TenantId tenant,
             const Clock* clock)
      : port_(port), through_port_(port, clock), alone_(store, tenant) {}

  absl::StatusOr<std::string> Read(const Key& key,
                                   std::uint32_t bytes) override {
    std::string copy;
    if (!port_->IsResident(key) &&
        alone_.Read(key, bytes,
                    [&](const char* data) { copy.assign(data, bytes); })) {
      return copy;
    }
    return through_port_.Read(key, bytes);
  }

 private:
  BlockPort* const port_;
  PortNodes through_port_;
  LoneReads alone_;
};

class PortBlocks final : public CollectedBlocks {
 public:
  PortBlocks(BlockPort* port, PortSource* ports, BlockStore* store,
             const TenantAgents& tenant, const Clock* clock)
      : port_(port),
        ports_(ports),
        store_(store),
        name_(tenant.name),
        tenant_(tenant.id),
        clock_(clock),
        nodes_(port, store, tenant.id, clock) {}

  absl::Status List(std::uint64_t lineage,
                    const std::function<void(const Key&)>& visit) override {
    return store_->ScanPrefix(
        tenant_, lineage, [&](const StoredBlock& block) { visit(block.key); });
  }

  absl::Status ListLent(const absl::flat_hash_set<std::uint64_t>& lineages,
                        const std::function<void(const Key&)>& visit) override {
    LentBlocks lent;
    do {
      AGENTMEM_ASSIGN_OR_RETURN(lent, ports_->WalkLent(name_, lent.cursor));
      for (const Key& key : lent.state) {
        if (lineages.contains(LineageOf(key))) visit(key);
      }
    } while (lent.cursor != 0);
    return absl::OkStatus();
  }

  std::size_t Drop(std::span<const Key> keys) override {
    struct Answers {
      std::size_t count = 0;
      std::size_t dropped = 0;
    };
    const auto answers = std::make_shared<Answers>();
    for (const Key& key : keys) {
      port_->Ask(Op::kDrop, key, kNoDeadline,
                 [answers](const CompletionEntry& answer) {
                   ++answers->count;
                   answers->dropped += answer.code == Code::kOk;
                 });
    }
    port_->PollUntil([&] { return answers->count == keys.size(); },
                     clock_->Now() + kDropNs, *clock_);
    return keys.size() - answers->dropped;
  }

  NodeSource* nodes() override { return &nodes_; }

 private:
  static constexpr DurationNs kDropNs = 10 * kSecondNs;

  BlockPort* const port_;
  PortSource* const ports_;
  BlockStore* const store_;
  const std::string name_;
  const TenantId tenant_;
  const Clock* const clock_;
  QuietNodes nodes_;
};

}  // namespace

CollectionThread::CollectionThread(TenantAgents* tenant, PortSource* ports,
                                   BlockStore* store, const Clock* clock,
                                   DurationNs every)
    : tenant_(tenant),
      ports_(ports),
      store_(store),
      clock_(clock),
      pace_(every, clock->Now()),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { Run(); }) {}

CollectionThread::~CollectionThread() {
  Stop();
  thread_.join();
}

void CollectionThread::Stop() {
  stopping_.store(true);
  Wake();
}

void CollectionThread::Wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t put = ::write(wake_.get(), &one, sizeof(one));
}

void CollectionThread::RoomIsShort(bool here) {
  if (here) short_here_.store(true);
  if (!short_.exchange(true)) Wake();
}

void CollectionThread::Run() {
  // (A thread's own, on Linux.)
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 19);
  while (!stopping_.load()) {
    const TimeNs now = clock_->Now();
    const DurationNs left = std::clamp<DurationNs>(
        pace_.Next(short_.load()) - now, 0, 3600 * kSecondNs);
    if (left != 0) {
      pollfd waited = {wake_.get(), POLLIN, 0};
      ::poll(&waited, 1,
             static_cast<int>((left + kMillisecondNs - 1) / kMillisecondNs));
      std::uint64_t woken = 0;
      [[maybe_unused]] const ssize_t got =
          ::read(wake_.get(), &woken, sizeof(woken));
      continue;
    }
    const bool early = pace_.IsEarly(now);
    short_.store(false);
    const absl::StatusOr<std::optional<std::uint64_t>> dropped = Tick(early);
    if (!dropped.ok() && !stopping_.load()) {
      LogWarning("tenant " + tenant_->name +
                 ": collecting blocks that no version needs: " +
                 StatusMessage(dropped.status()));
    }
    if (dropped.ok() && !dropped->has_value()) {
      pace_.Skipped(clock_->Now());
      // (The nodes will agree again, and room be wanted still.)
      if (early && tenant_->shared) short_.store(true);
      continue;
    }
    const std::uint64_t blocks = dropped.ok() ? **dropped : 0;
    pace_.Ended(now, clock_->Now(), blocks);
    if (!early) continue;
    rounds_ += 1;
    dropped_ += blocks;
  }
  ended_.store(true);
}

// Nothing: there was no round.
absl::StatusOr<std::optional<std::uint64_t>> CollectionThread::Tick(
    bool early) {
  bool look = false;
  if (tenant_->shared) {
    // The nodes cannot agree just now, and memd has said so.
    if (!tenant_->reachable()) return std::nullopt;
    // Early rounds are beside the count of the others; but for the first.
    look = ticks_ % kLookRounds == 0 && (!early || ticks_ == 0);
    if (look || !early) ++ticks_;
    AGENTMEM_RETURN_IF_ERROR(Tend(look));
    if (short_here_.exchange(false)) tenant_->book.NoteGarbageLent();
    // What other nodes gave up is noted nowhere here.
    look |= early;
  }
  if (!look && !by_age_ && !tenant_->book.HasGarbage()) return std::nullopt;
  return Round();
}

absl::Status CollectionThread::Tend(bool look) {
  AgentBook& book = tenant_->book;
  const auto stored = [this](std::uint64_t lineage) {
    bool some = false;
    const absl::Status status = store_->ScanPrefix(
        tenant_->id, lineage, [&some](const StoredBlock&) { some = true; });
    return some || !status.ok();
  };
  if (!look) return book.TendUses(nullptr, clock_->Now(), stored);
  AGENTMEM_ASSIGN_OR_RETURN(const AgentsView view, book.View());
  AGENTMEM_RETURN_IF_ERROR(book.TendUses(&view, clock_->Now(), stored));
  // Who was away did not hear of drops; and who came back gave blocks to others
  // that had dropped them.
  const std::uint64_t epoch = book.epoch();
  if (std::exchange(epoch_, epoch) != epoch ||
      ticks_ % (kLookRounds * kEverywhereLooks) == 1) {
    book.NoteGarbageEverywhere();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::uint64_t> CollectionThread::Round() {
  AGENTMEM_ASSIGN_OR_RETURN(
      PortHandle handle,
      ports_->OpenPort(tenant_->name, "memd: collection", 0));
  BlockPort port(std::move(handle));
  PortBlocks blocks(&port, ports_, store_, *tenant_, clock_);
  Collector collector(
      &tenant_->book, &blocks, [this] { return !stopping_.load(); }, &memory_);
  AGENTMEM_ASSIGN_OR_RETURN(const Collected done, collector.Run(WallNowNs()));
  by_age_ = done.by_age;
  if (done.dropped != 0) {
    LogInfo("tenant " + tenant_->name + ": dropped " +
            std::to_string(done.dropped) + " of " +
            std::to_string(done.listed) +
            " blocks: no version needs them any more");
  }
  return done.dropped;
}

}  // namespace agentmem
