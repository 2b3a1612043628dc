// AgentBook: what collection asks of it where refs are shared.
#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "base/status.h"
#include "memd/agents/agent_book.h"

namespace agentmem {
namespace {

// "LINEAGE/NODE"
bool ParseUse(std::string_view name, AgentsView::Use* use) {
  const std::size_t slash = name.find('/');
  if (slash == std::string_view::npos) return false;
  use->node = std::string(name.substr(slash + 1));
  return absl::SimpleAtoi(std::string(name.substr(0, slash)), &use->lineage);
}

KnownAgent KnownOf(const std::string& name, const AgentRecord& record) {
  KnownAgent agent;
  agent.name = name;
  agent.lineage = record.lineage;
  if (record.origin.has_value()) agent.origin = record.origin->lineage;
  for (const RegionRecord& region : record.regions) {
    agent.by_age |= RetentionOf(record, region).kind == RetentionKind::kAge;
  }
  return agent;
}

}  // namespace

std::span<const AgentsView::Use> AgentsView::UsesOf(
    std::uint64_t lineage) const {
  const auto [first, last] = std::equal_range(
      uses.begin(), uses.end(), Use{"", lineage, 0, {}},
      [](const Use& a, const Use& b) { return a.lineage < b.lineage; });
  return {first, last};
}

absl::StatusOr<AgentsView> AgentBook::View() {
  const std::string tenant = std::to_string(tenant_.value()) + "/";
  const std::string agents = RefName("");
  const std::string gone = "gone/" + tenant;
  const std::string uses = "use/" + tenant;
  const std::string prefixes[] = {agents, gone, uses};
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<NamedRef> refs,
                            refs_->ReadAll(prefixes));
  AgentsView view;
  for (const auto& [name, ref] : refs) {
    if (name.starts_with(agents)) {
      const std::string agent = name.substr(agents.size());
      AGENTMEM_ASSIGN_OR_RETURN(AgentRecord record,
                                DecodeAgentRecord(agent, ref.value));
      view.agents.push_back(KnownOf(agent, record));
      view.records[record.lineage] = std::move(record);
    } else if (name.starts_with(gone)) {
      KnownAgent agent;
      if (!absl::SimpleAtoi(name.substr(gone.size()), &agent.lineage)) {
        return DataLoss("ref \"" + name + "\" does not name a lineage");
      }
      AGENTMEM_ASSIGN_OR_RETURN(agent.origin, DecodeGone(name, ref.value));
      view.agents.push_back(std::move(agent));
    } else {
      AgentsView::Use use;
      if (!ParseUse(name.substr(uses.size()), &use)) {
        return DataLoss("ref \"" + name + "\" does not name a lineage");
      }
      use.version = ref.version;
      AGENTMEM_ASSIGN_OR_RETURN(use.use, DecodeLineageUse(name, ref.value));
      view.uses.push_back(std::move(use));
    }
  }
  std::sort(view.uses.begin(), view.uses.end(),
            [](const AgentsView::Use& a, const AgentsView::Use& b) {
              return std::tie(a.lineage, a.node) < std::tie(b.lineage, b.node);
            });
  return view;
}

NodeHands AgentBook::TakeHands(
    const absl::flat_hash_set<std::uint64_t>& lineages) {
  std::vector<std::shared_ptr<AgentState>> open;
  {
    MutexLock lock(&mutex_);
    for (const auto& [name, weak] : states_) {
      if (auto state = weak.lock()) open.push_back(std::move(state));
    }
  }
  NodeHands hands;
  for (const std::shared_ptr<AgentState>& state : open) {
    MutexLock lock(&state->mutex);
    for (const auto* keys : {&state->in_hand, &state->unsettled}) {
      for (const Key& key : *keys) {
        if (lineages.contains(LineageOf(key))) hands.in_hand.insert(key);
      }
    }
    for (const VersionHold* hold : state->holds) {
      if (hold->link().number != 0) {
        hands.versions.push_back({hold->link(), hold->link().number});
        continue;
      }
      for (const RegionRecord& region : state->record.regions) {
        if (region.id == hold->region_id() && region.head.number != 0) {
          hands.versions.push_back({region.head, hold->oldest()});
        }
      }
    }
    if (state->deleted || (state->writer.token == 0 && !state->ahead)) continue;
    hands.written.insert(state->record.lineage);
    Roots roots;
    AddRecordRoots(state->record, &roots);
    hands.versions.insert(hands.versions.end(), roots.versions.begin(),
                          roots.versions.end());
    hands.blocks.insert(hands.blocks.end(), roots.blocks.begin(),
                        roots.blocks.end());
  }
  // Last: who lets go of a name of which it is not known whether a record leads
  // to it says so before.
  for (const std::uint64_t lineage : lineages) {
    const std::shared_ptr<NodeUse> use = FindUse(lineage);
    if (use == nullptr) continue;
    MutexLock lock(&use->mutex);
    if (use->unsettled) hands.unsettled.insert(lineage);
  }
  return hands;
}

absl::StatusOr<Roots> AgentBook::RootsOf(std::span<const KnownAgent> family,
                                         const AgentsView& view,
                                         const NodeHands& hands) {
  Roots roots;
  absl::flat_hash_set<std::uint64_t> lineages;
  for (const KnownAgent& agent : family) lineages.insert(agent.lineage);
  const auto add = [&](const VersionRoot& root) {
    if (root.link.number == 0 || !lineages.contains(LineageOf(root.link.key))) {
      return;
    }
    roots.versions.push_back(root);
  };
  for (const std::uint64_t lineage : lineages) {
    if (hands.unsettled.contains(lineage)) {
      return Unavailable("a commit's answer was lost");
    }
    const auto found = view.records.find(lineage);
    const AgentRecord* const record =
        found == view.records.end() ? nullptr : &found->second;
    if (record != nullptr) AddRecordRoots(*record, &roots);
    for (const AgentsView::Use& used : view.UsesOf(lineage)) {
      const LineageUse& use = used.use;
      if (use.state == UseState::kLeft) continue;
      const bool ours =
          used.node == shared_->node && use.instance == shared_->instance;
      if (!ours && use.last_fence != 0) {
        roots.elsewhere[lineage].push_back(use);
      }
      if (ours && hands.written.contains(lineage)) continue;
      for (const VersionLink& link : use.versions) add({link, link.number});
      if (use.state == UseState::kNamed) continue;
      if (record == nullptr) {
        return Unavailable("a deleted agent of it is open on node " +
                           used.node);
      }
      for (const RegionRecord& region : record->regions) {
        add({region.head, std::min(region.oldest_kept, use.OldestOf(region))});
      }
    }
  }
  for (const VersionRoot& root : hands.versions) add(root);
  roots.blocks.insert(roots.blocks.end(), hands.blocks.begin(),
                      hands.blocks.end());
  roots.in_hand = hands.in_hand;
  return roots;
}

}  // namespace agentmem
