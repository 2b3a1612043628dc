#include "tests/demo/hbm_cache.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/status.h"

namespace agentmem::demo {
namespace {

constexpr std::uint64_t kOpenNs = 10 * kSecondNs;
constexpr std::uint64_t kSpareBytes = 4 << 20;
constexpr std::byte kPoison{0x5a};

}  // namespace

absl::Status ToStatus(agentmem_code code, const agentmem_error& error) {
  if (code == AGENTMEM_OK) return absl::OkStatus();
  return MakeStatus(static_cast<absl::StatusCode>(code), error.message);
}

absl::StatusOr<std::unique_ptr<HbmCache>> HbmCache::Open(
    agentmem_client* client, KvOrder order, std::uint64_t hbm_bytes) {
  AGENTMEM_ASSIGN_OR_RETURN(std::unique_ptr<DeviceBytes> bytes,
                            DeviceBytes::Make(kKvBlockBytes));
  std::unique_ptr<HbmCache> cache(new HbmCache(order, std::move(bytes)));
  AGENTMEM_RETURN_IF_ERROR(cache->OpenDevice(client, hbm_bytes));
  return cache;
}

HbmCache::~HbmCache() {
  for (const auto& [agent, kv] : kvs_) agentmem_kv_close(kv);
  for (const std::uint64_t layer : layers_) {
    agentmem_device_free(device_, layer);
  }
  agentmem_device_close(device_);
}

absl::Status HbmCache::OpenDevice(agentmem_client* client,
                                  std::uint64_t hbm_bytes) {
  agentmem_device_options options = {};
  options.size = sizeof(options);
  options.kind = bytes_->is_gpu() ? AGENTMEM_DEVICE_CUDA : AGENTMEM_DEVICE_HOST;
  options.memory_bytes =
      kKvLayers * kKvPlanes * kPlaneBytes + hbm_bytes + kSpareBytes;
  agentmem_error error = {};
  AGENTMEM_RETURN_IF_ERROR(ToStatus(
      agentmem_device_open(client, &options, &device_, &error), error));
  agentmem_device_state state = {};
  state.size = sizeof(state);
  AGENTMEM_RETURN_IF_ERROR(
      ToStatus(agentmem_device_describe(device_, &state, &error), error));
  device_name_ = state.name;
  for (std::uint32_t layer = 0; layer < kKvLayers; ++layer) {
    std::uint64_t address = 0;
    AGENTMEM_RETURN_IF_ERROR(
        ToStatus(agentmem_device_allocate(device_, kKvPlanes * kPlaneBytes,
                                          &address, &error),
                 error));
    layers_.push_back(address);
  }
  agentmem_hbm_options hbm = {};
  hbm.size = sizeof(hbm);
  hbm.bytes = hbm_bytes;
  return ToStatus(agentmem_hbm_open(device_, &hbm, kOpenNs, &error), error);
}

absl::StatusOr<agentmem_hbm_state> HbmCache::Describe() const {
  agentmem_hbm_state state = {};
  state.size = sizeof(state);
  agentmem_error error = {};
  AGENTMEM_RETURN_IF_ERROR(
      ToStatus(agentmem_hbm_describe(device_, &state, &error), error));
  return state;
}

absl::StatusOr<agentmem_kv*> HbmCache::KvOf(const std::string& agent) {
  if (const auto found = kvs_.find(agent); found != kvs_.end()) {
    return found->second;
  }
  agentmem_kv_layout layout = {};
  layout.size = sizeof(layout);
  layout.layers = kKvLayers;
  layout.planes = kKvPlanes;
  layout.page_tokens = kKvPageTokens;
  layout.heads = kKvHeads;
  layout.head_size = kKvHeadBytes / 2;
  layout.type = AGENTMEM_KV_BFLOAT16;
  layout.plane_stride = kPlaneBytes;
  layout.page_stride = kKvRunBytes;
  layout.token_stride = KvTokenStride(order_);
  layout.head_stride = KvHeadStride(order_);
  agentmem_kv* kv = nullptr;
  agentmem_error error = {};
  AGENTMEM_RETURN_IF_ERROR(ToStatus(
      agentmem_kv_open(device_, &layout, layers_.data(), nullptr, kPages,
                       kKvBlockPages * kKvPageTokens, &kv, &error),
      error));
  kvs_[agent] = kv;
  AGENTMEM_RETURN_IF_ERROR(
      ToStatus(agentmem_kv_keep(kv, agent.c_str(), &error), error));
  return kv;
}

std::vector<std::uint32_t> HbmCache::Pages(std::size_t count) {
  std::vector<std::uint32_t> pages;
  pages.reserve(count * kKvBlockPages);
  for (std::uint32_t slot = 0; slot < count; ++slot) {
    for (std::uint32_t page = 0; page < kKvBlockPages; ++page) {
      pages.push_back(PageOf(slot, page));
    }
  }
  return pages;
}

std::vector<std::uint64_t> HbmCache::RunsOf(std::uint32_t slot) const {
  std::vector<std::uint64_t> addresses;
  addresses.reserve(kKvRuns);
  for (std::uint32_t i = 0; i < kKvRuns; ++i) {
    const KvRun run = KvRunOf(i);
    addresses.push_back(layers_[run.layer] + run.plane * kPlaneBytes +
                        std::uint64_t{PageOf(slot, run.page)} * kKvRunBytes);
  }
  return addresses;
}

absl::Status HbmCache::Write(std::uint32_t slot,
                             std::span<const std::byte> block) {
  KvToRuns(order_, block, runs_);
  return bytes_->Write(RunsOf(slot), kKvRunBytes, runs_);
}

absl::Status HbmCache::Read(std::uint32_t slot, std::span<std::byte> block) {
  AGENTMEM_RETURN_IF_ERROR(bytes_->Read(RunsOf(slot), kKvRunBytes, runs_));
  KvFromRuns(order_, runs_, block);
  return absl::OkStatus();
}

absl::Status HbmCache::Poison(std::uint32_t slot) {
  std::fill(runs_.begin(), runs_.end(), kPoison);
  return bytes_->Write(RunsOf(slot), kKvRunBytes, runs_);
}

}  // namespace agentmem::demo
