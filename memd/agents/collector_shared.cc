// Collector: where other nodes change the same refs.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/hash/hash.h"
#include "base/check.h"
#include "base/log.h"
#include "base/status.h"
#include "memd/agents/collector.h"

namespace agentmem {
namespace {

// Blocks that are listed before they are looked at: 32 MiB.
constexpr std::size_t kListedAtOnce = 4 << 20;
// One failure is another node that is away, or that trims just then.
constexpr int kFailuresLogged = 3;

absl::Status Stopped() { return absl::CancelledError("memd ends"); }

}  // namespace

absl::Status Collector::RunShared(const AgentBook::Garbage& garbage,
                                  std::int64_t wall_now_ns, Collected* done) {
  AGENTMEM_CHECK(memory_ != nullptr);
  wall_now_ns_ = wall_now_ns;
  lent_ = garbage.everywhere || garbage.lent;
  AGENTMEM_ASSIGN_OR_RETURN(const AgentsView view, book_->View());
  absl::flat_hash_set<std::uint64_t> known;
  for (const KnownAgent& agent : view.agents) {
    known.insert(agent.lineage);
    if (!agent.by_age) continue;
    done->by_age = true;
    const auto uses = view.UsesOf(agent.lineage);
    const bool used_here = std::any_of(
        uses.begin(), uses.end(),
        [this](const auto& use) { return use.node == book_->node(); });
    if (used_here) GiveUpOld(agent, wall_now_ns);
  }
  std::vector<Family> wanted;
  for (Family& family : FamiliesOf(view.agents)) {
    if (IsWanted(family, view, garbage)) wanted.push_back(std::move(family));
  }
  absl::flat_hash_set<std::uint64_t> forgotten;
  if (garbage.everywhere) {
    for (const std::uint64_t lineage : memory_->known) {
      if (!known.contains(lineage)) forgotten.insert(lineage);
    }
    for (auto* kept : {&memory_->kept, &memory_->kept_lent}) {
      absl::erase_if(*kept, [&](const auto& entry) {
        return !known.contains(entry.first);
      });
    }
  }
  memory_->known.insert(known.begin(), known.end());
  for (const AgentsView::Use& use : view.uses) {
    memory_->known.insert(use.lineage);
  }
  std::size_t next = 0;
  do {
    listed_.clear();
    std::size_t keys = 0;
    absl::flat_hash_set<std::uint64_t> lineages = std::exchange(forgotten, {});
    const absl::flat_hash_set<std::uint64_t> lost = lineages;
    for (const std::uint64_t lineage : lost) {
      AGENTMEM_RETURN_IF_ERROR(blocks_->List(lineage, [this](const Key& key) {
        listed_[LineageOf(key)].Add(key);
      }));
    }
    for (; next < wanted.size() && keys < kListedAtOnce; ++next) {
      if (!go_on_()) return Stopped();
      ++done->families;
      for (const KnownAgent& agent : wanted[next]) {
        lineages.insert(agent.lineage);
        Listed& listed = listed_[agent.lineage];
        AGENTMEM_RETURN_IF_ERROR(blocks_->List(
            agent.lineage, [&listed](const Key& key) { listed.Add(key); }));
        listed.stored = !listed.keys.empty();
        keys += listed.keys.size();
      }
    }
    if (lent_) {
      AGENTMEM_RETURN_IF_ERROR(blocks_->ListLent(
          lineages,
          [this](const Key& key) { listed_[LineageOf(key)].Add(key); }));
    }
    for (auto& [lineage, listed] : listed_) {
      listed.Arrange();
      done->listed += listed.keys.size();
    }
    AGENTMEM_RETURN_IF_ERROR(CollectListed(lost, done));
  } while (next < wanted.size());
  return absl::OkStatus();
}

bool Collector::IsWanted(const Family& family, const AgentsView& view,
                         const AgentBook::Garbage& garbage) const {
  if (garbage.everywhere) return true;
  const std::size_t kept = KeptOf(family, view);
  return std::any_of(family.begin(), family.end(),
                     [&](const KnownAgent& agent) {
                       if (garbage.lineages.contains(agent.lineage) ||
                           CanForget(family, agent, view)) {
                         return true;
                       }
                       const auto changed = [&](const auto& last) {
                         const auto before = last.find(agent.lineage);
                         return before == last.end() || before->second != kept;
                       };
                       return changed(memory_->kept) ||
                              (garbage.lent && changed(memory_->kept_lent));
                     });
}

// A hash of all that keeps blocks of a family, but for what only grows.
std::size_t Collector::KeptOf(const Family& family,
                              const AgentsView& view) const {
  std::vector<std::uint64_t> lineages;
  for (const KnownAgent& agent : family) lineages.push_back(agent.lineage);
  std::sort(lineages.begin(), lineages.end());
  std::vector<std::uint64_t> words;
  for (const std::uint64_t lineage : lineages) {
    words.push_back(lineage);
    const auto uses = view.UsesOf(lineage);
    const auto record = view.records.find(lineage);
    std::uint64_t old = ~0ULL;  // versions below need a use to be kept
    if (record == view.records.end()) {
      words.push_back(uses.size());
    } else {
      old = 0;
      for (const RegionRecord& region : record->second.regions) {
        std::uint64_t oldest = region.oldest_kept;
        old = std::max(old, oldest);
        for (const AgentsView::Use& use : uses) {
          if (use.use.state == UseState::kLeft) continue;
          oldest = std::min(oldest, use.use.OldestOf(region));
        }
        words.insert(words.end(), {region.id, oldest, region.working_set.low(),
                                   region.working_set.high()});
      }
    }
    for (const AgentsView::Use& use : uses) {
      if (use.node != book_->node())
        words.insert(words.end(), {use.use.first_fence, use.use.last_fence});
      words.push_back(static_cast<std::uint64_t>(use.use.state));
      for (const VersionLink& link : use.use.versions) {
        if (link.number < old) words.push_back(link.key.high());
      }
    }
  }
  return absl::Hash<std::vector<std::uint64_t>>()(words);
}

absl::Status Collector::CollectListed(
    const absl::flat_hash_set<std::uint64_t>& forgotten, Collected* done) {
  absl::flat_hash_set<std::uint64_t> lineages;
  for (const auto& [lineage, listed] : listed_) lineages.insert(lineage);
  const NodeHands hands = book_->TakeHands(lineages);
  AGENTMEM_ASSIGN_OR_RETURN(const AgentsView view, book_->View());
  absl::flat_hash_set<std::uint64_t> known;
  for (const Family& family : FamiliesOf(view.agents)) {
    bool listed = false;
    for (const KnownAgent& agent : family) {
      known.insert(agent.lineage);
      listed |= lineages.contains(agent.lineage);
    }
    if (!listed) continue;
    if (!go_on_()) return Stopped();
    const absl::Status status = CollectShared(family, view, hands, done);
    if (status.ok()) continue;
    if (!go_on_()) return status;
    NoteFailure(family, status, done);
  }
  for (const std::uint64_t lineage : forgotten) {
    if (known.contains(lineage) || IsUsed(lineage, view)) continue;
    if (!listed_.contains(lineage)) {
      memory_->known.erase(lineage);
      continue;
    }
    if (!Sweep({KnownAgent{"", lineage}}, Roots(), done)) return Stopped();
  }
  return absl::OkStatus();
}

absl::Status Collector::CollectShared(const Family& family,
                                      const AgentsView& view,
                                      const NodeHands& hands, Collected* done) {
  const bool any = std::any_of(
      family.begin(), family.end(), [this](const KnownAgent& agent) {
        const auto listed = listed_.find(agent.lineage);
        return listed != listed_.end() && !listed->second.keys.empty();
      });
  if (any) {
    AGENTMEM_ASSIGN_OR_RETURN(const Roots roots,
                              book_->RootsOf(family, view, hands));
    AGENTMEM_RETURN_IF_ERROR(Mark(roots));
    if (!Sweep(family, roots, done)) return Stopped();
  }
  AGENTMEM_RETURN_IF_ERROR(NoteLeft(family, view));
  const std::size_t kept = KeptOf(family, view);
  for (const KnownAgent& agent : family) {
    memory_->failures.erase(agent.lineage);
    if (!listed_.contains(agent.lineage)) continue;
    memory_->kept[agent.lineage] = kept;
    if (lent_) memory_->kept_lent[agent.lineage] = kept;
  }
  return absl::OkStatus();
}

// An agent that is gone is remembered until no node has blocks of it, and
// nobody names it as an origin.
absl::Status Collector::NoteLeft(const Family& family, const AgentsView& view) {
  for (const KnownAgent& agent : family) {
    const auto found = listed_.find(agent.lineage);
    if (found == listed_.end()) continue;
    const Listed& listed = found->second;
    AGENTMEM_RETURN_IF_ERROR(
        book_->NoteStored(agent.lineage, listed.stored, view));
    if (!agent.name.empty()) continue;
    if (!listed.keys.empty()) {
      // All of it was dropped: the next round finds nothing.
      if (std::find(listed.marked.begin(), listed.marked.end(), true) ==
          listed.marked.end()) {
        book_->NoteGarbage(agent.lineage);
      }
      continue;
    }
    memory_->gone.try_emplace(agent.lineage, wall_now_ns_);
    if (!CanForget(family, agent, view)) continue;
    AGENTMEM_RETURN_IF_ERROR(book_->Forget(agent.lineage));
    memory_->gone.erase(agent.lineage);
  }
  return absl::OkStatus();
}

// Not before all nodes, but for those that are away for long, have seen that
// there was such an agent: then each knows by itself what is garbage.
bool Collector::CanForget(const Family& family, const KnownAgent& gone,
                          const AgentsView& view) const {
  const auto since = memory_->gone.find(gone.lineage);
  if (since == memory_->gone.end() ||
      wall_now_ns_ - since->second < book_->away_ns()) {
    return false;
  }
  return std::none_of(family.begin(), family.end(),
                      [&](const KnownAgent& other) {
                        return other.origin == gone.lineage;
                      }) &&
         !IsUsed(gone.lineage, view);
}

// But for what may be left on this node's own disk.
bool Collector::IsUsed(std::uint64_t lineage, const AgentsView& view) const {
  const auto uses = view.UsesOf(lineage);
  return std::any_of(uses.begin(), uses.end(), [this](const auto& use) {
    return use.node != book_->node() || use.use.state != UseState::kLeft;
  });
}

void Collector::NoteFailure(const Family& family, const absl::Status& status,
                            Collected* done) {
  ++done->failed;
  int most = 0;
  for (const KnownAgent& agent : family) {
    book_->NoteGarbage(agent.lineage);
    most = std::max(most, ++memory_->failures[agent.lineage]);
  }
  if (most != kFailuresLogged) return;
  LogWarning("collecting the blocks of " + NameOf(family) + ": after " +
             std::to_string(most) +
             " tries nothing of theirs was dropped: " + StatusMessage(status));
}

}  // namespace agentmem
