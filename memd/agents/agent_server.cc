#include "memd/agents/agent_server.h"

#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace agentmem {

AgentServer::~AgentServer() {
  collections_.clear();
  for (Running& running : running_) {
    running.session->Stop();
    pthread_join(running.thread, nullptr);
  }
}

void AgentServer::AddTenant(const TenantLimits& limits) {
  Tenant& tenant = tenants_[limits.name];
  tenant.agents = std::make_unique<TenantAgents>(ports_, clock_, refs_, store_,
                                                 &hbm_, limits);
  hbm_.AddTenant(limits.id, limits.hbm_quota_bytes);
  tenant.sessions_max = limits.sessions_max;
  tenant.descriptors = limits.descriptors;
}

void AgentServer::StartCollecting(DurationNs every) {
  for (const auto& [name, tenant] : tenants_) {
    collections_.push_back(std::make_unique<CollectionThread>(
        tenant.agents.get(), ports_, store_, clock_, every));
  }
}

void* AgentServer::RunSession(void* argument) {
  auto* const running = static_cast<Running*>(argument);
  running->session->Run();
  running->ended.store(true);
  return nullptr;
}

absl::Status AgentServer::Adopt(AgentPeer* peer) {
  Tick();
  if (stopping_) return Unavailable("memd is shutting down; try again");
  auto found = tenants_.find(peer->tenant);
  AGENTMEM_CHECK(found != tenants_.end());
  Tenant& tenant = found->second;
  if (tenant.sessions >= tenant.sessions_max) {
    return ResourceExhausted(
        std::to_string(tenant.sessions) + " processes of tenant \"" +
        peer->tenant +
        "\" use agents, as many as clients_max allows each tenant");
  }
  DescriptorCharge charge(tenant.descriptors, kDescriptorsOfSession);
  if (!charge.valid()) {
    return ResourceExhausted(tenant.descriptors->Describe(peer->tenant));
  }
  Running& running = running_.emplace_back();
  running.tenant = &tenant;
  running.charge = std::move(charge);
  running.session =
      std::make_unique<AgentSession>(std::move(*peer), ++next_token_, instance_,
                                     ports_, tenant.agents.get(), clock_);
  const int failed =
      pthread_create(&running.thread, nullptr, &RunSession, &running);
  if (failed != 0) {
    *peer = running.session->TakePeer();
    running_.pop_back();
    return ResourceExhausted(
        "no thread for it: " + std::string(std::strerror(failed)) +
        "; raise TasksMax or the memory of memd");
  }
  ++tenant.sessions;
  return absl::OkStatus();
}

bool AgentServer::Tick() {
  for (auto running = running_.begin(); running != running_.end();) {
    if (!running->ended.load()) {
      ++running;
      continue;
    }
    pthread_join(running->thread, nullptr);
    --running->tenant->sessions;
    running = running_.erase(running);
  }
  return !running_.empty();
}

void AgentServer::RoomIsShort(bool here) {
  // Of all tenants: whose garbage it is nobody can tell.
  for (const auto& collection : collections_) collection->RoomIsShort(here);
}

EarlyCollections AgentServer::early() const {
  EarlyCollections all;
  for (const auto& collection : collections_) {
    const EarlyCollections one = collection->early();
    all.rounds += one.rounds;
    all.dropped += one.dropped;
  }
  return all;
}

bool AgentServer::Stopped() {
  if (!stopping_) {
    stopping_ = true;
    for (Running& running : running_) running.session->Stop();
    for (const auto& collection : collections_) collection->Stop();
  }
  Tick();
  std::erase_if(collections_,
                [](const auto& collection) { return collection->ended(); });
  return running_.empty() && collections_.empty();
}

}  // namespace agentmem
