#include "tiering/device_shares.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <numeric>

namespace agentmem::tiering {
namespace {

std::uint64_t DemandOf(const DeviceTenant& tenant) {
  const std::uint64_t wanted = std::accumulate(
      tenant.wants.begin(), tenant.wants.end(), std::uint64_t{0});
  return tenant.quota_bytes == 0 ? wanted
                                 : std::min(wanted, tenant.quota_bytes);
}

}  // namespace

std::vector<std::uint64_t> MaxMinShares(std::uint64_t bytes,
                                        std::span<const std::uint64_t> wants) {
  std::vector<std::size_t> order(wants.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(
      order.begin(), order.end(),
      [&](std::size_t a, std::size_t b) { return wants[a] < wants[b]; });
  std::vector<std::uint64_t> shares(wants.size());
  std::size_t left = wants.size();
  for (const std::size_t i : order) {
    shares[i] = std::min(wants[i], bytes / left);
    bytes -= shares[i];
    --left;
  }
  return shares;
}

std::vector<std::vector<std::uint64_t>> DivideDevice(
    std::span<const DeviceTenant> tenants) {
  std::vector<std::uint64_t> demands;
  demands.reserve(tenants.size());
  for (const DeviceTenant& tenant : tenants)
    demands.push_back(DemandOf(tenant));
  // By size: each tenant is answered by what it says itself.
  std::map<std::uint64_t, std::vector<std::uint64_t>> divided;
  std::vector<std::vector<std::uint64_t>> shares;
  shares.reserve(tenants.size());
  for (std::size_t i = 0; i < tenants.size(); ++i) {
    const std::uint64_t bytes = tenants[i].device_bytes;
    auto [among, made] = divided.try_emplace(bytes);
    if (made) among->second = MaxMinShares(bytes, demands);
    shares.push_back(MaxMinShares(among->second[i], tenants[i].wants));
  }
  return shares;
}

}  // namespace agentmem::tiering
