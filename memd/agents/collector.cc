#include "memd/agents/collector.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/log.h"
#include "base/status.h"
#include "memd/agents/block_walk.h"
#include "memd/agents/history.h"

namespace agentmem {
namespace {

constexpr std::size_t kDroppedAtOnce = 256;

absl::Status Stopped() { return absl::CancelledError("memd ends"); }

}  // namespace

std::string Collector::NameOf(const Family& family) {
  for (const KnownAgent& agent : family) {
    if (!agent.name.empty()) {
      return "agent \"" + agent.name + "\" and those of its family";
    }
  }
  return "a deleted agent";
}

void Collector::Listed::Arrange() {
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  marked.assign(keys.size(), false);
}

// Agents and their origins, also by way of origins that are gone.
std::vector<Collector::Family> Collector::FamiliesOf(
    std::vector<KnownAgent> agents) {
  absl::flat_hash_map<std::uint64_t, std::size_t> by_lineage;
  for (std::size_t i = 0; i < agents.size(); ++i) {
    by_lineage[agents[i].lineage] = i;
  }
  std::vector<std::size_t> leader(agents.size());
  std::iota(leader.begin(), leader.end(), 0);
  const auto find = [&](std::size_t i) {
    while (leader[i] != i) i = leader[i] = leader[leader[i]];
    return i;
  };
  for (std::size_t i = 0; i < agents.size(); ++i) {
    auto origin = by_lineage.find(agents[i].origin);
    if (origin != by_lineage.end()) leader[find(i)] = find(origin->second);
  }
  std::map<std::size_t, Family> families;  // by their leaders
  for (std::size_t i = 0; i < agents.size(); ++i) {
    families[find(i)].push_back(std::move(agents[i]));
  }
  std::vector<Family> all;
  all.reserve(families.size());
  for (auto& [first, family] : families) all.push_back(std::move(family));
  return all;
}

absl::StatusOr<Collected> Collector::Run(std::int64_t wall_now_ns) {
  Collected done;
  const AgentBook::Garbage garbage = book_->BeginCollection();
  const absl::Status status = book_->shared()
                                  ? RunShared(garbage, wall_now_ns, &done)
                                  : RunFamilies(garbage, wall_now_ns, &done);
  book_->EndCollection();
  listed_.clear();
  trees_.clear();
  if (status.ok()) return done;
  // What was not looked at has its garbage still.
  if (garbage.everywhere) book_->NoteGarbageEverywhere();
  if (garbage.lent) book_->NoteGarbageLent();
  for (const std::uint64_t lineage : garbage.lineages) {
    book_->NoteGarbage(lineage);
  }
  return status;
}

absl::Status Collector::RunFamilies(const AgentBook::Garbage& garbage,
                                    std::int64_t wall_now_ns, Collected* done) {
  AGENTMEM_ASSIGN_OR_RETURN(std::vector<KnownAgent> agents, book_->Known());
  for (const KnownAgent& agent : agents) {
    if (!agent.by_age) continue;
    done->by_age = true;
    GiveUpOld(agent, wall_now_ns);
  }
  for (const Family& family : FamiliesOf(std::move(agents))) {
    const bool wanted =
        garbage.everywhere ||
        std::any_of(family.begin(), family.end(), [&](const KnownAgent& agent) {
          return garbage.lineages.contains(agent.lineage);
        });
    if (!wanted) continue;
    if (!go_on_()) return Stopped();
    ++done->families;
    const absl::Status status = CollectFamily(family, done);
    if (status.ok()) continue;
    if (!go_on_()) return status;
    ++done->failed;
    LogWarning("collecting the blocks of " + NameOf(family) +
               ": nothing of theirs is dropped: " + StatusMessage(status));
  }
  return absl::OkStatus();
}

void Collector::GiveUpOld(const KnownAgent& agent, std::int64_t wall_now_ns) {
  const absl::Status status =
      book_->GiveUpOld(agent.name, wall_now_ns, blocks_->nodes());
  // Later, then: it has visible versions, or is gone.
  if (status.ok() || IsNotSettled(status) ||
      status.code() == absl::StatusCode::kNotFound) {
    return;
  }
  // Another node was before this one.
  if (book_->shared() &&
      (status.code() == absl::StatusCode::kAborted ||
       status.code() == absl::StatusCode::kFailedPrecondition)) {
    return;
  }
  LogWarning("agent \"" + agent.name +
             "\": giving up versions by age: " + StatusMessage(status));
}

absl::Status Collector::CollectFamily(const Family& family, Collected* done) {
  AGENTMEM_RETURN_IF_ERROR(ListBlocks(family, done));
  AGENTMEM_ASSIGN_OR_RETURN(const Roots roots, book_->TakeRoots(family));
  AGENTMEM_RETURN_IF_ERROR(Mark(roots));
  if (!Sweep(family, roots, done)) return Stopped();
  return ForgetGone(family);
}

absl::Status Collector::ListBlocks(const Family& family, Collected* done) {
  listed_.clear();
  for (const KnownAgent& agent : family) {
    Listed& listed = listed_[agent.lineage];
    AGENTMEM_RETURN_IF_ERROR(blocks_->List(
        agent.lineage, [&listed](const Key& key) { listed.Add(key); }));
    listed.Arrange();
    done->listed += listed.keys.size();
  }
  return absl::OkStatus();
}

void Collector::MarkBlock(const Key& key) {
  auto listed = listed_.find(LineageOf(key));
  if (listed == listed_.end()) return;
  const std::vector<std::uint64_t>& keys = listed->second.keys;
  const auto at = std::lower_bound(keys.begin(), keys.end(), key.high());
  if (at == keys.end() || *at != key.high()) return;
  listed->second.marked[static_cast<std::size_t>(at - keys.begin())] = true;
}

absl::Status Collector::Mark(const Roots& roots) {
  trees_.clear();
  for (const Key& key : roots.blocks) MarkBlock(key);
  AGENTMEM_RETURN_IF_ERROR(MarkVersions(roots));
  for (const auto& [region, trees] : trees_) {
    PageSet hidden_somewhere;
    for (const auto& [root, tree] : trees) {
      hidden_somewhere.insert(tree.hidden.begin(), tree.hidden.end());
    }
    NodeLoader loader(blocks_->nodes());
    absl::flat_hash_set<Key> seen;
    for (const auto& [root, tree] : trees) {
      AGENTMEM_RETURN_IF_ERROR(
          MarkTree(tree, hidden_somewhere, &loader, &seen));
    }
  }
  return absl::OkStatus();
}

// All but the trees, of which it is noted what of them is hidden.
absl::Status Collector::MarkVersions(const Roots& roots) {
  absl::flat_hash_set<Key> seen;
  const BlockVisitor mark = [&](const Key& key, std::uint32_t, BlockKind) {
    MarkBlock(key);
    return absl::OkStatus();
  };
  for (const VersionRoot& root : roots.versions) {
    AGENTMEM_RETURN_IF_ERROR(ForEachVersion(
        root.link, root.oldest, blocks_->nodes(),
        [&](const Manifest& version) -> absl::Status {
          if (!go_on_()) return Stopped();
          if (!seen.insert(version.key()).second) return absl::OkStatus();
          AGENTMEM_RETURN_IF_ERROR(ForEachOverlayBlock(version, mark));
          if (!version.root().node.exists()) return absl::OkStatus();
          PageSet hidden;
          for (const OverlayPage& page : version.overlay()) {
            hidden.insert(page.page);
          }
          const auto [known, added] =
              trees_[version.info().region_id].try_emplace(
                  version.root().node.key, Tree{version, hidden});
          if (!added) {
            absl::erase_if(known->second.hidden, [&](std::uint64_t page) {
              return !hidden.contains(page);
            });
          }
          return absl::OkStatus();
        }));
  }
  return absl::OkStatus();
}

// Nodes that trees share are walked once, and so without what any of the trees
// hides; each adds of that what it does not hide itself.
absl::Status Collector::MarkTree(const Tree& tree,
                                 const PageSet& hidden_somewhere,
                                 NodeLoader* loader,
                                 absl::flat_hash_set<Key>* seen) {
  AGENTMEM_RETURN_IF_ERROR(ForEachTreeBlock(
      tree.version, loader, seen, &hidden_somewhere,
      [&](const Key& key, std::uint32_t, BlockKind) -> absl::Status {
        if (!go_on_()) return Stopped();
        MarkBlock(key);
        return absl::OkStatus();
      }));
  for (const std::uint64_t page : hidden_somewhere) {
    if (tree.hidden.contains(page) || page >= tree.version.page_count()) {
      continue;
    }
    AGENTMEM_ASSIGN_OR_RETURN(const PageContent content,
                              FindInTree(tree.version.root(), page, loader));
    for (const Piece& piece : content.pieces) MarkBlock(piece.key);
  }
  return absl::OkStatus();
}

// False: memd ends.
bool Collector::Sweep(const Family& family, const Roots& roots,
                      Collected* done) {
  std::vector<Key> garbage;
  const auto drop = [&](std::uint64_t lineage) {
    const std::size_t in_use = blocks_->Drop(garbage);
    done->dropped += garbage.size() - in_use;
    done->kept_back += in_use;
    if (in_use != 0) book_->NoteGarbage(lineage);
    garbage.clear();
  };
  for (const KnownAgent& agent : family) {
    const std::uint64_t lineage = agent.lineage;
    const auto found = listed_.find(lineage);
    if (found == listed_.end()) continue;
    const Listed& listed = found->second;
    const auto named = roots.elsewhere.find(lineage);
    for (std::size_t i = 0; i < listed.keys.size(); ++i) {
      if (listed.marked[i]) continue;
      const Key key = Key::FromWords(lineage, listed.keys[i]);
      if (roots.in_hand.contains(key)) continue;
      if (named != roots.elsewhere.end() &&
          std::any_of(named->second.begin(), named->second.end(),
                      [&key](const LineageUse& use) {
                        return use.CoversFence(RegionFenceOf(key));
                      })) {
        continue;
      }
      garbage.push_back(key);
      if (garbage.size() < kDroppedAtOnce) continue;
      if (!go_on_()) return false;
      drop(lineage);
    }
    if (!garbage.empty()) drop(lineage);
  }
  return true;
}

// An agent that is gone is remembered until its blocks are, and until nobody
// names it as an origin: families would fall apart that share blocks.
absl::Status Collector::ForgetGone(const Family& family) {
  for (const KnownAgent& gone : family) {
    if (!gone.name.empty()) continue;
    const Listed& listed = listed_[gone.lineage];
    if (!listed.keys.empty()) {
      // All of it was dropped: the next round finds nothing.
      if (std::find(listed.marked.begin(), listed.marked.end(), true) ==
          listed.marked.end()) {
        book_->NoteGarbage(gone.lineage);
      }
      continue;
    }
    const bool origin = std::any_of(
        family.begin(), family.end(),
        [&](const KnownAgent& other) { return other.origin == gone.lineage; });
    if (!origin) AGENTMEM_RETURN_IF_ERROR(book_->Forget(gone.lineage));
  }
  return absl::OkStatus();
}

}  // namespace agentmem
