#include "benchmarks/device_kv.h"

#include <poll.h>

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/status.h"
#include "benchmarks/connection.h"
#include "benchmarks/hbm_bytes.h"
#include "benchmarks/hbm_model.h"
#include "benchmarks/hbm_post.h"
#include "cuda/host_device.h"
#include "cuda/open_device.h"

namespace agentmem::bench {
namespace {

constexpr std::uint32_t kHeads = 8;
constexpr std::uint32_t kHeadSize = 128;
constexpr std::uint32_t kHeadBytes = 2 * kHeadSize;
constexpr std::uint32_t kTokenBytes = kHeads * kHeadBytes;
constexpr std::uint32_t kPageTokensMax = 16;
static_assert(kPageTokensMax * kTokenBytes == kLayerFragment);
// The engine's; of a GPU this is CUDA's per-thread default one.
constexpr std::uint64_t kStream = 2;
constexpr std::uint64_t kHostSpareBytes = 64 << 20;
// Of one pinned copy, and of what is read back at a time.
constexpr std::uint64_t kPinnedBytesMax = HbmMemory::kChunkBytes;

}  // namespace

std::uint64_t KvShape::FragmentBytes() const {
  return std::uint64_t{page_tokens} * kTokenBytes;
}

KvShape KvShapeOf(std::uint64_t block_bytes) {
  KvShape shape;
  std::uint64_t left = block_bytes / (2 * kTokenBytes);
  const auto take = [&left](std::uint64_t most) {
    const std::uint64_t taken = std::clamp<std::uint64_t>(left, 1, most);
    left /= taken;
    return static_cast<std::uint32_t>(taken);
  };
  shape.page_tokens = take(kPageTokensMax);
  shape.layers = take(kLayers);
  shape.block_pages = static_cast<std::uint32_t>(left);
  return shape;
}

KvShape KvShapeOfFragments(std::uint32_t fragment_bytes) {
  constexpr std::uint32_t kBlockBytes = 2 << 20;
  KvShape shape;
  shape.page_tokens = fragment_bytes / kTokenBytes;
  const std::uint32_t pairs = std::max(1u, kBlockBytes / (2 * fragment_bytes));
  shape.layers = std::min(pairs, kLayers);
  shape.block_pages = pairs / shape.layers;
  return shape;
}

absl::StatusOr<std::unique_ptr<DeviceKv>> DeviceKv::Open(
    agentmem_client* client, std::uint64_t block_bytes, std::uint32_t places) {
  const KvShape shape = KvShapeOf(block_bytes);
  if (shape.BlockBytes() != block_bytes || places == 0) {
    return InvalidArgument("blocks of " + std::to_string(block_bytes) +
                           " bytes in " + std::to_string(places) +
                           " places; a power of two from 4 KiB to 4 MiB, and "
                           "at least one place, are measured");
  }
  return Open(client, shape, places);
}

absl::StatusOr<std::unique_ptr<DeviceKv>> DeviceKv::Open(
    agentmem_client* client, const KvShape& shape, std::uint32_t places) {
  std::unique_ptr<DeviceKv> made(new DeviceKv(shape, places));
  AGENTMEM_RETURN_IF_ERROR(made->OpenDevice(client));
  AGENTMEM_RETURN_IF_ERROR(made->OpenCache());
  return made;
}

DeviceKv::~DeviceKv() {
  agentmem_kv_close(kv_);
  for (const std::uint64_t layer : layers_)
    agentmem_device_free(device_, layer);
  agentmem_device_close(device_);
}

absl::Status DeviceKv::OpenDevice(agentmem_client* client) {
  const Outcome opened = ::agentmem::OpenDevice(0, &plain_);
  is_gpu_ = opened.ok();
  why_no_gpu_ = opened.message;
  agentmem_device_options options = {};
  options.size = sizeof(options);
  options.kind = is_gpu_ ? AGENTMEM_DEVICE_CUDA : AGENTMEM_DEVICE_HOST;
  options.memory_bytes =
      shape_.layers * LayerBytes() + PoolBytes() + kHostSpareBytes;
  agentmem_error error = {};
  AGENTMEM_RETURN_IF_ERROR(ToStatus(
      agentmem_device_open(client, &options, &device_, &error), error));
  agentmem_device_state state = {};
  state.size = sizeof(state);
  AGENTMEM_RETURN_IF_ERROR(
      ToStatus(agentmem_device_describe(device_, &state, &error), error));
  name_ = state.name;
  if (!is_gpu_) {
    HostDevice::Options host;
    host.memory_bytes = 2 * kPinnedBytesMax;
    plain_ = std::make_unique<HostDevice>(std::move(host));
  }
  pinned_.emplace(plain_.get());
  return pinned_->Take(std::clamp<std::uint64_t>(
      shape_.layers * LayerBytes(), AGENTMEM_BLOCK_BYTES_MAX, kPinnedBytesMax));
}

absl::Status DeviceKv::OpenCache() {
  agentmem_error error = {};
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer) {
    std::uint64_t address = 0;
    AGENTMEM_RETURN_IF_ERROR(ToStatus(
        agentmem_device_allocate(device_, LayerBytes(), &address, &error),
        error));
    layers_.push_back(address);
  }
  agentmem_kv_layout layout = {};
  layout.size = sizeof(layout);
  layout.layers = shape_.layers;
  layout.planes = 2;
  layout.page_tokens = shape_.page_tokens;
  layout.heads = kHeads;
  layout.head_size = kHeadSize;
  layout.type = AGENTMEM_KV_BFLOAT16;
  layout.head_stride = kHeadBytes;
  layout.token_stride = kTokenBytes;
  layout.page_stride = shape_.FragmentBytes();
  layout.plane_stride = LayerBytes() / 2;
  return ToStatus(
      agentmem_kv_open(device_, &layout, layers_.data(), nullptr,
                       std::uint64_t{places_} * shape_.block_pages,
                       shape_.block_pages * shape_.page_tokens, &kv_, &error),
      error);
}

absl::Status DeviceKv::Keep() {
  agentmem_hbm_options options = {};
  options.size = sizeof(options);
  options.bytes = PoolBytes();
  agentmem_error error = {};
  AGENTMEM_RETURN_IF_ERROR(ToStatus(
      agentmem_hbm_open(device_, &options, kTimeoutNs, &error), error));
  return ToStatus(agentmem_kv_keep(kv_, nullptr, &error), error);
}

std::vector<std::uint32_t> DeviceKv::PagesOf(std::size_t blocks,
                                             std::uint32_t first) const {
  std::vector<std::uint32_t> pages;
  pages.reserve(blocks * shape_.block_pages);
  for (std::uint32_t i = 0; i < blocks; ++i) {
    for (std::uint32_t page = 0; page < shape_.block_pages; ++page) {
      pages.push_back(PageOf(first + i, page));
    }
  }
  return pages;
}

absl::Status DeviceKv::Store(std::span<const agentmem_key> keys,
                             std::uint32_t first) {
  const std::vector<std::uint32_t> pages = PagesOf(keys.size(), first);
  agentmem_error error = {};
  agentmem_kv_transfer* transfer = nullptr;
  AGENTMEM_RETURN_IF_ERROR(
      ToStatus(agentmem_kv_store(kv_, keys.data(), keys.size(), pages.data(),
                                 kStream, AGENTMEM_CACHE, AGENTMEM_VISIBLE,
                                 kTimeoutNs, &transfer, &error),
               error));
  const agentmem_code code = agentmem_kv_wait(transfer, kTimeoutNs, &error);
  agentmem_kv_close_transfer(transfer);
  return ToStatus(code, error);
}

absl::Status DeviceKv::Load(std::span<const agentmem_key> keys,
                            std::uint32_t first) {
  const std::vector<std::uint32_t> pages = PagesOf(keys.size(), first);
  agentmem_error error = {};
  agentmem_kv_transfer* transfer = nullptr;
  AGENTMEM_RETURN_IF_ERROR(
      ToStatus(agentmem_kv_load(kv_, keys.data(), keys.size(), pages.data(),
                                kStream, kTimeoutNs, &transfer, &error),
               error));
  agentmem_code code = AGENTMEM_OK;
  for (std::uint32_t i = 0; i < shape_.layers && code == AGENTMEM_OK; ++i) {
    code = agentmem_kv_wait_layer(transfer, i, kStream, &error);
  }
  if (code == AGENTMEM_OK)
    code = agentmem_kv_wait(transfer, kTimeoutNs, &error);
  tiers_.resize(keys.size());
  if (code == AGENTMEM_OK) {
    code = agentmem_kv_tiers(transfer, tiers_.data(), tiers_.size(), &error);
  }
  agentmem_kv_close_transfer(transfer);
  return ToStatus(code, error);
}

absl::Status DeviceKv::Move(Direction direction, std::uint64_t address,
                            std::span<char> host) {
  const bool reads = direction == Direction::kToHost;
  if (!is_gpu_) {
    // The host device's memory is this process's.
    char* const there = reinterpret_cast<char*>(address);
    std::memcpy(reads ? host.data() : there, reads ? there : host.data(),
                host.size());
    return absl::OkStatus();
  }
  const std::span<char> between = pinned_->output();
  for (std::uint64_t at = 0; at < host.size(); at += between.size()) {
    const auto part =
        host.subspan(at, std::min(between.size(), host.size() - at));
    if (!reads) std::memcpy(between.data(), part.data(), part.size());
    HbmPost post(plain_.get());
    AGENTMEM_RETURN_IF_ERROR(post.CopyPinned(
        direction, DeviceAddress(address + at), between.first(part.size())));
    AGENTMEM_RETURN_IF_ERROR(post.Await());
    if (reads) std::memcpy(part.data(), between.data(), part.size());
  }
  return absl::OkStatus();
}

absl::StatusOr<double> DeviceKv::AwaitRegistered(std::uint64_t bytes) {
  agentmem_device_state state = {};
  state.size = sizeof(state);
  agentmem_error error = {};
  const TimeNs start = MonotonicNowNs();
  for (;;) {
    AGENTMEM_RETURN_IF_ERROR(
        ToStatus(agentmem_device_describe(device_, &state, &error), error));
    const DurationNs so_far = MonotonicNowNs() - start;
    if (state.registered_bytes >= bytes) return static_cast<double>(so_far);
    if (so_far > static_cast<DurationNs>(kTimeoutNs)) {
      return DeadlineExceeded("only " + std::to_string(state.registered_bytes) +
                              " of " + std::to_string(bytes) +
                              " bytes of DRAM were registered ahead");
    }
    ::poll(nullptr, 0, 1);
  }
}

absl::Status DeviceKv::Poison() {
  std::vector<char> poison(LayerBytes(), kPoison);
  for (const std::uint64_t layer : layers_) {
    AGENTMEM_RETURN_IF_ERROR(Move(Direction::kToDevice, layer, poison));
  }
  return absl::OkStatus();
}

void DeviceKv::Rearrange(std::uint32_t layer, std::span<char> blocks,
                         std::span<char> tensor, bool into_tensor) const {
  const std::uint64_t fragment = shape_.FragmentBytes();
  const std::uint64_t block = shape_.BlockBytes();
  for (std::uint32_t i = 0; i < blocks.size() / block; ++i) {
    char* here = &blocks[i * block + layer * (block / shape_.layers)];
    for (std::uint32_t plane = 0; plane < 2; ++plane) {
      for (std::uint32_t page = 0; page < shape_.block_pages; ++page) {
        char* const there =
            &tensor[plane * (LayerBytes() / 2) + PageOf(i, page) * fragment];
        std::memcpy(into_tensor ? there : here, into_tensor ? here : there,
                    fragment);
        here += fragment;
      }
    }
  }
}

absl::Status DeviceKv::Fill(std::span<const std::uint64_t> seeds) {
  const std::uint64_t block = shape_.BlockBytes();
  std::vector<char> blocks(seeds.size() * block);
  for (std::size_t i = 0; i < seeds.size(); ++i) {
    FillInOrder(std::span(blocks).subspan(i * block, block), seeds[i]);
  }
  std::vector<char> tensor(LayerBytes(), kPoison);
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer) {
    Rearrange(layer, blocks, tensor, true);
    AGENTMEM_RETURN_IF_ERROR(
        Move(Direction::kToDevice, layers_[layer], tensor));
  }
  return absl::OkStatus();
}

absl::Status DeviceKv::Check(std::span<const std::uint64_t> seeds) {
  const std::uint64_t block = shape_.BlockBytes();
  std::vector<char> tensor(LayerBytes());
  std::vector<char> blocks(seeds.size() * block);
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer) {
    AGENTMEM_RETURN_IF_ERROR(Move(Direction::kToHost, layers_[layer], tensor));
    Rearrange(layer, blocks, tensor, false);
  }
  for (std::size_t i = 0; i < seeds.size(); ++i) {
    const auto wrong =
        WrongInOrder(std::span(blocks).subspan(i * block, block), seeds[i]);
    if (!wrong.has_value()) continue;
    return DataLoss("in device memory byte " + std::to_string(*wrong) +
                    " of the block at place " + std::to_string(i) +
                    " is wrong");
  }
  return absl::OkStatus();
}

absl::StatusOr<double> DeviceKv::CopyPinned(std::uint64_t bytes,
                                            Direction direction) {
  if (next_pinned_ + bytes > pinned_->source().size()) next_pinned_ = 0;
  const std::uint64_t at = next_pinned_;
  next_pinned_ += bytes;
  HbmPost post(plain_.get());
  const TimeNs start = MonotonicNowNs();
  AGENTMEM_RETURN_IF_ERROR(post.CopyPinned(
      direction, pinned_->device() + at, pinned_->source().subspan(at, bytes)));
  AGENTMEM_RETURN_IF_ERROR(post.Await());
  return static_cast<double>(MonotonicNowNs() - start);
}

}  // namespace agentmem::bench
