// Reactor: what is wrong with this node as a whole.
#include "base/log.h"
#include "memd/live_nodes.h"
#include "memd/reactor.h"

namespace agentmem {
namespace {

constexpr DurationNs kLookNs = kSecondNs / 2;

}  // namespace

void Reactor::LookAtDurability(TimeNs now) {
  next_durability_look_ = now + kLookNs;
  DurabilityFacts facts;
  facts.store_path = options_.state_directory + "/store";
  if (options_.remote_store == nullptr) facts.store = node_->StoreFailure(now);
  if (options_.pool != nullptr) {
    const PoolNode& pool = *options_.pool->node;
    // (All tenants are alike in it: it is in the configuration of [pool].)
    facts.copies_wanted = node_->tenants()[0]->options().durable_in_pool;
    facts.lenders = pool.places_elsewhere();
    facts.copies = node_->CopyFailure(now);
    facts.store_remote = options_.remote_store != nullptr;
    if (facts.store_remote || (facts.copies_wanted && facts.lenders == 0)) {
      const PoolSnapshot snapshot = pool.Snapshot(now);
      facts.stores = snapshot.stores;
      facts.absent =
          WhyNoLender(snapshot.node, options_.live->Get(), snapshot.peers, now);
    }
  }
  const bool was_lost = durability_.trouble().has_value();
  const std::string news = durability_.Look(facts, now);
  if (news.empty()) return;
  Log(was_lost ? LogLevel::kInfo : LogLevel::kError, news);
}

std::vector<Trouble> Reactor::Troubles(TimeNs now) {
  LookAtDurability(now);
  std::vector<Trouble> troubles;
  if (durability_.trouble().has_value()) {
    troubles.push_back(*durability_.trouble());
  }
  if (options_.losses.blocks != 0) {
    troubles.push_back({"segments_missing",
                        "when memd started: " + options_.losses.text(),
                        "put the files back and start memd again; what of "
                        "class `state` was in them alone is lost, and is "
                        "DATA_LOSS until it is put again"});
  }
  return troubles;
}

}  // namespace agentmem
