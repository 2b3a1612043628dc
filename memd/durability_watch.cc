#include "memd/durability_watch.h"

#include <algorithm>
#include <utility>

namespace agentmem {
namespace {

// So many names stand in a sentence; the others are counted.
constexpr std::size_t kNamesMax = 4;

std::string Seconds(DurationNs duration) {
  return std::to_string(std::max<DurationNs>(0, duration) / kSecondNs) + " s";
}

std::string Join(const std::vector<std::string>& parts) {
  std::string text;
  for (std::size_t i = 0; i < parts.size() && i < kNamesMax; ++i) {
    text += (i == 0 ? "" : ", ") + parts[i];
  }
  if (parts.size() > kNamesMax) {
    text += " and " + std::to_string(parts.size() - kNamesMax) + " more";
  }
  return text;
}

bool TakesBlocks(const RemoteStoreSnapshot& store) {
  return store.reachable && !store.refuses;
}

}  // namespace

std::vector<std::string> WhyNoLender(const std::string& self,
                                     const ClusterView& cluster,
                                     const std::vector<PoolPeerSnapshot>& peers,
                                     TimeNs now) {
  std::vector<std::string> why;
  for (const ClusterView::Left& member : cluster.left) {
    why.push_back(member.node + " left " + Seconds(now - member.left_at) +
                  " ago");
  }
  for (const ClusterView::Member& member : cluster.members) {
    if (member.node == self) continue;
    const bool up = std::any_of(
        peers.begin(), peers.end(), [&](const PoolPeerSnapshot& peer) {
          return peer.node == member.node && peer.state == PoolPeerState::kUp;
        });
    why.push_back(member.node + (up ? " lends none" : " does not answer"));
  }
  return why;
}

std::optional<DurabilityWatch::Cause> DurabilityWatch::FindCause(
    const DurabilityFacts& facts, TimeNs now) {
  if (std::exchange(lenders_, facts.lenders) != facts.lenders) {
    lenders_changed_at_ = now;
  }
  if (facts.copies_wanted && facts.lenders == 0) {
    return Cause{
        "a durable block needs a copy in the memory of 1 other node, and 0 "
        "that lend any are there: " +
            (facts.absent.empty() ? "this node is the only member"
                                  : Join(facts.absent)),
        "start memd on another node that lends memory (`export` in [pool]); a "
        "node that is to stay alone needs no etcd, and `durable = false` in "
        "[pool]",
        now};
  }
  // What failed while a node went away says nothing of those that are there.
  if (facts.copies_wanted && facts.copies.has_value() &&
      facts.copies->failed_at > lenders_changed_at_) {
    return Cause{
        "a durable block needs a copy in the memory of another node, and of " +
            std::to_string(facts.lenders) +
            " that lend any none took the last" +
            (facts.copies->code == Code::kResourceExhausted
                 ? ": what they lend is full"
                 : ""),
        "raise `export` in [pool] there, or let versions that nobody needs be "
        "collected; `memctl fabric` shows the peers. The next copy that is "
        "taken ends this",
        facts.copies->since, facts.copies->tenant};
  }
  if (facts.store_remote) {
    if (std::any_of(facts.stores.begin(), facts.stores.end(), TakesBlocks)) {
      return std::nullopt;
    }
    std::vector<std::string> why;
    for (const RemoteStoreSnapshot& store : facts.stores) {
      why.push_back(store.node + ": " + store.text);
    }
    return Cause{"this node has no disk, and no other takes its blocks: " +
                     (why.empty() ? "none serves its own" : Join(why)),
                 "start memd there, make room there, or set `serve` in [store] "
                 "on a node with a disk",
                 now};
  }
  if (facts.store.has_value()) {
    const bool full = facts.store->code == Code::kResourceExhausted;
    return Cause{
        std::string(full ? "the disk of the store is full, at "
                         : "the disk of the store fails, at ") +
            facts.store_path,
        full ? "free space on that disk; what waits is tried again each "
               "second, and the next write that succeeds ends this"
             : "see memd's log for what failed, and look at the disk "
               "(smartctl); the next write that succeeds ends this",
        facts.store->since, facts.store->tenant};
  }
  return std::nullopt;
}

std::string DurabilityWatch::Look(const DurabilityFacts& facts, TimeNs now) {
  const std::optional<Cause> cause = FindCause(facts, now);
  if (!cause.has_value()) {
    caused_ = false;
    if (!trouble_.has_value()) return "";
    trouble_.reset();
    return "blocks can be made durable again, after " +
           Seconds(now - caused_since_);
  }
  if (!std::exchange(caused_, true)) caused_since_ = cause->since;
  if (now - caused_since_ < kSettleNs) return "";
  const bool is_new = !trouble_.has_value();
  trouble_ =
      Trouble{"no_durability",
              "no block" +
                  (cause->tenant.empty() ? std::string()
                                         : " of tenant " + cause->tenant) +
                  " can be made durable now: " + cause->text,
              cause->remedy, now - caused_since_};
  return is_new ? trouble_->text + ": " + trouble_->remedy : "";
}

}  // namespace agentmem
