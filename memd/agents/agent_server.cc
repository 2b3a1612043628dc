#include "memd/agents/agent_server.h"

#include <utility>

#include "base/check.h"

namespace agentmem {

AgentServer::~AgentServer() {
  collections_.clear();
  for (Running& running : running_) {
    running.session->Stop();
    running.thread.join();
  }
}

void AgentServer::AddTenant(const TenantLimits& limits) {
  tenants_[limits.name] =
      std::make_unique<TenantAgents>(ports_, clock_, refs_, store_, limits);
}

void AgentServer::StartCollecting(DurationNs every) {
  for (const auto& [name, tenant] : tenants_) {
    collections_.push_back(std::make_unique<CollectionThread>(
        tenant.get(), ports_, store_, clock_, every));
  }
}

void AgentServer::Adopt(AgentPeer peer) {
  Reap();
  if (stopping_) return;  // its socket closes
  auto tenant = tenants_.find(peer.tenant);
  AGENTMEM_CHECK(tenant != tenants_.end());
  Running& running = running_.emplace_back();
  running.session =
      std::make_unique<AgentSession>(std::move(peer), ++next_token_, instance_,
                                     ports_, tenant->second.get(), clock_);
  running.thread = std::thread([&running] {
    running.session->Run();
    running.ended.store(true);
  });
}

void AgentServer::Reap() {
  for (auto running = running_.begin(); running != running_.end();) {
    if (!running->ended.load()) {
      ++running;
      continue;
    }
    running->thread.join();
    running = running_.erase(running);
  }
}

bool AgentServer::Stopped() {
  if (!stopping_) {
    stopping_ = true;
    for (Running& running : running_) running.session->Stop();
    for (const auto& collection : collections_) collection->Stop();
  }
  Reap();
  std::erase_if(collections_,
                [](const auto& collection) { return collection->ended(); });
  return running_.empty() && collections_.empty();
}

}  // namespace agentmem
