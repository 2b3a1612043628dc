// KV blocks between a device's memory and agentmem: kv.h in C++20.
//
//   auto device = agentmem::Device::Open(client, {.index = 0});
//   auto layout = agentmem::KvLayout::Of(
//       KvEngine::kVllmFlash, {.layers = 32, .page_tokens = 16, .heads = 8,
//                              .head_size = 128}, pages);
//   auto kv = device->OpenKv({.layout = *layout, .layers = addresses,
//                             .pages = pages, .block_tokens = 64});
//   auto store = kv->Store(keys, page_numbers, stream);
//   if (auto status = store.Wait(1s); !status) ...
//   auto load = kv->Load(hit.keys(), page_numbers, stream);
//   for (std::uint32_t layer = 0; layer < layers; ++layer) {
//     if (auto status = load.WaitLayer(layer, stream); !status) ...
//     Launch(layer, stream);
//   }
//   if (auto status = load.Wait(1s); !status) ...
//
// An engine has a Kv for each agent (KeepFor), of one device.
//
// Ownership: a Device borrows its Client, Kv and KvTransfer borrow the Device;
//   each must end before what it borrows. A KvTransfer that ends before it is
//   done goes on. All are move only.
// Threads: a KvTransfer is used by one thread at a time, the rest is
//   thread-safe, but for the moves. Errors, cost: those of kv.h; what posting
//   answered is the answer of each of a KvTransfer's calls.
#ifndef AGENTMEM_KV_HPP_
#define AGENTMEM_KV_HPP_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agentmem/agentmem.hpp"
#include "agentmem/kv.h"
#include "agentmem/status.hpp"
#include "agentmem/types.hpp"

namespace agentmem {
inline namespace v0 {

// A queue of the device's work, by its native handle.
class Stream {
 public:
  // A cudaStream_t that was made; not null, which CUDA takes for a default one.
  template <typename Native>
  static Stream Of(Native* native) {
    return Stream(reinterpret_cast<std::uint64_t>(native));
  }
  static constexpr Stream LegacyDefault() { return Stream(1); }
  static constexpr Stream PerThreadDefault() { return Stream(2); }
  constexpr std::uint64_t native() const { return native_; }

 private:
  constexpr explicit Stream(std::uint64_t native) : native_(native) {}

  std::uint64_t native_;
};

enum class KvType : std::uint32_t {
  kFloat16 = AGENTMEM_KV_FLOAT16,
  kBfloat16 = AGENTMEM_KV_BFLOAT16,
  kFloat32 = AGENTMEM_KV_FLOAT32,
  kFp8 = AGENTMEM_KV_FP8,
  kInt8 = AGENTMEM_KV_INT8,
};

// kv.h says what each is, and where that stands.
enum class KvEngine {
  kVllmFlash = AGENTMEM_KV_VLLM_FLASH,
  kVllmFlashInfer = AGENTMEM_KV_VLLM_FLASHINFER,
  kVllmAllLayers = AGENTMEM_KV_VLLM_ALL_LAYERS,
  kVllmPacked = AGENTMEM_KV_VLLM_PACKED,
  kSglangMha = AGENTMEM_KV_SGLANG_MHA,
  kMla = AGENTMEM_KV_MLA,
};

enum class KvOrder { kTokensFirst, kHeadsFirst };

struct KvShape {
  std::uint32_t layers = 0;
  std::uint32_t page_tokens = 0;
  std::uint32_t heads = 0;
  std::uint32_t head_size = 0;
  KvType type = KvType::kBfloat16;
};

// Every field may be set by hand instead: strides are in bytes.
struct KvLayout : agentmem_kv_layout {
  KvLayout() : agentmem_kv_layout{} { size = sizeof(agentmem_kv_layout); }

  static Result<KvLayout> Of(KvEngine engine, const KvShape& shape,
                             std::uint64_t pages,
                             KvOrder order = KvOrder::kTokensFirst) {
    KvLayout layout;
    layout.layers = shape.layers;
    layout.page_tokens = shape.page_tokens;
    layout.heads = shape.heads;
    layout.head_size = shape.head_size;
    layout.type = static_cast<std::uint32_t>(shape.type);
    agentmem_error error;
    const agentmem_code code = agentmem_kv_layout_of(
        static_cast<agentmem_kv_engine>(engine), order == KvOrder::kHeadsFirst,
        pages, &layout, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return layout;
  }
};

// An engine's cache in device memory.
struct KvCache {
  KvLayout layout = {};
  std::span<const std::uint64_t> layers = {};  // device address of each
  std::span<const std::uint64_t> values = {};  // of each V, if on its own
  std::uint64_t pages = 0;                     // of each
  std::uint32_t block_tokens = 0;              // a multiple of page_tokens
};

// A store or a load under way.
class [[nodiscard]] KvTransfer {
 public:
  explicit KvTransfer(Status status) : status_(std::move(status)) {}
  ~KvTransfer() { agentmem_kv_close_transfer(transfer_); }
  KvTransfer(KvTransfer&& other) noexcept
      : transfer_(std::exchange(other.transfer_, nullptr)),
        blocks_(other.blocks_),
        status_(std::move(other.status_)) {}
  KvTransfer& operator=(KvTransfer&& other) noexcept {
    if (this == &other) return *this;
    agentmem_kv_close_transfer(transfer_);
    transfer_ = std::exchange(other.transfer_, nullptr);
    blocks_ = other.blocks_;
    status_ = std::move(other.status_);
    return *this;
  }

  // Was it posted?
  const Status& status() const { return status_; }
  bool ok() const { return status_.ok(); }

  // What is posted to `stream` from here on waits for this layer of a load; the
  // caller does not.
  Status WaitLayer(std::uint32_t layer, Stream stream) {
    if (!status_.ok()) return status_;
    agentmem_error error;
    return Status::From(
        agentmem_kv_wait_layer(transfer_, layer, stream.native(), &error),
        error);
  }
  // DEADLINE_EXCEEDED: not yet; may be asked again.
  Status Wait(Timeout timeout = kForever) {
    if (!status_.ok()) return status_;
    agentmem_error error;
    return Status::From(agentmem_kv_wait(transfer_, TimeoutNs(timeout), &error),
                        error);
  }
  // Where each block of a load was when it began.
  Result<std::vector<Tier>> Tiers() const {
    if (!status_.ok()) return status_;
    static_assert(sizeof(Tier) == sizeof(agentmem_tier));
    std::vector<agentmem_tier> found(blocks_);
    agentmem_error error;
    const agentmem_code code =
        agentmem_kv_tiers(transfer_, found.data(), blocks_, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    std::vector<Tier> tiers;
    for (const agentmem_tier tier : found) {
      tiers.push_back(static_cast<Tier>(tier));
    }
    return tiers;
  }

 private:
  friend class Kv;

  KvTransfer() = default;

  agentmem_kv_transfer* transfer_ = nullptr;
  std::size_t blocks_ = 0;
  Status status_;
};

class Kv {
 public:
  ~Kv() { agentmem_kv_close(kv_); }
  Kv(Kv&& other) noexcept
      : kv_(std::exchange(other.kv_, nullptr)),
        block_pages_(other.block_pages_) {}
  Kv& operator=(Kv&& other) noexcept {
    if (this == &other) return *this;
    agentmem_kv_close(kv_);
    kv_ = std::exchange(other.kv_, nullptr);
    block_pages_ = other.block_pages_;
    return *this;
  }

  std::uint64_t block_bytes() const { return agentmem_kv_block_bytes(kv_); }
  std::uint32_t block_pages() const { return block_pages_; }

  // Block i has keys[i] and the pages [i * block_pages(), (i + 1) *
  // block_pages()). The pages must not change before the transfer is done.
  KvTransfer Store(std::span<const Key> keys,
                   std::span<const std::uint32_t> pages, Stream stream,
                   BlockClass block_class = BlockClass::kCache,
                   Ack ack = Ack::kVisible, Timeout timeout = kDefaultTimeout) {
    KvTransfer transfer = New(keys, pages);
    if (!transfer.ok()) return transfer;
    agentmem_error error;
    transfer.status_ = Status::From(
        agentmem_kv_store(kv_, keys.data(), keys.size(), pages.data(),
                          stream.native(),
                          static_cast<agentmem_class>(block_class),
                          static_cast<agentmem_ack>(ack), TimeoutNs(timeout),
                          &transfer.transfer_, &error),
        error);
    return transfer;
  }
  // After an error the pages are undefined.
  KvTransfer Load(std::span<const Key> keys,
                  std::span<const std::uint32_t> pages, Stream stream,
                  Timeout timeout = kDefaultTimeout) {
    KvTransfer transfer = New(keys, pages);
    if (!transfer.ok()) return transfer;
    agentmem_error error;
    transfer.status_ = Status::From(
        agentmem_kv_load(kv_, keys.data(), keys.size(), pages.data(),
                         stream.native(), TimeoutNs(timeout),
                         &transfer.transfer_, &error),
        error);
    return transfer;
  }

  // From here on its blocks stay in the device's pool for this agent.
  Status KeepFor(const std::string& agent) {
    agentmem_error error;
    return Status::From(agentmem_kv_keep(kv_, agent.c_str(), &error), error);
  }
  // For nobody: they leave under pressure alone.
  Status Keep() {
    agentmem_error error;
    return Status::From(agentmem_kv_keep(kv_, nullptr, &error), error);
  }
  // From here on its blocks are FP8.
  Status Compress() {
    agentmem_error error;
    return Status::From(agentmem_kv_compress(kv_, &error), error);
  }

 private:
  friend class Device;

  Kv(agentmem_kv* kv, std::uint32_t block_pages)
      : kv_(kv), block_pages_(block_pages) {}

  KvTransfer New(std::span<const Key> keys,
                 std::span<const std::uint32_t> pages) const {
    if (pages.size() / block_pages_ != keys.size() ||
        pages.size() % block_pages_ != 0) {
      return KvTransfer(Status(Code::kInvalidArgument,
                               std::to_string(keys.size()) + " blocks of " +
                                   std::to_string(block_pages_) +
                                   " pages, and " +
                                   std::to_string(pages.size()) + " pages"));
    }
    KvTransfer transfer;
    transfer.blocks_ = keys.size();
    return transfer;
  }

  agentmem_kv* kv_;
  std::uint32_t block_pages_;
};

enum class DeviceKind : std::uint32_t {
  kHost = AGENTMEM_DEVICE_HOST,  // threads and malloc, to try things out
  kCuda = AGENTMEM_DEVICE_CUDA,
};

struct DeviceOptions {
  DeviceKind kind = DeviceKind::kCuda;
  std::uint32_t index = 0;         // as CUDA counts
  std::uint64_t memory_bytes = 0;  // of the host device; 0: 1 GiB
};

// One a client.
class Device {
 public:
  static Result<Device> Open(const Client& client,
                             const DeviceOptions& options = {}) {
    const agentmem_device_options raw = {
        sizeof(raw), static_cast<std::uint32_t>(options.kind), options.index, 0,
        options.memory_bytes};
    agentmem_device* device = nullptr;
    agentmem_error error;
    const agentmem_code code =
        agentmem_device_open(client.raw(), &raw, &device, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return Device(device);
  }
  ~Device() { agentmem_device_close(device_); }
  Device(Device&& other) noexcept
      : device_(std::exchange(other.device_, nullptr)) {}
  Device& operator=(Device&& other) noexcept {
    if (this == &other) return *this;
    agentmem_device_close(device_);
    device_ = std::exchange(other.device_, nullptr);
    return *this;
  }

  agentmem_device* raw() const { return device_; }

  Result<Kv> OpenKv(const KvCache& cache) {
    const std::size_t layers = cache.layout.layers;
    if (cache.layers.size() != layers ||
        (!cache.values.empty() && cache.values.size() != layers)) {
      return Status(
          Code::kInvalidArgument,
          "layers and values: " + std::to_string(cache.layers.size()) +
              " and " + std::to_string(cache.values.size()) +
              " addresses; the layout has " + std::to_string(layers) +
              " layers");
    }
    agentmem_kv* kv = nullptr;
    agentmem_error error;
    const agentmem_code code =
        agentmem_kv_open(device_, &cache.layout, cache.layers.data(),
                         cache.values.empty() ? nullptr : cache.values.data(),
                         cache.pages, cache.block_tokens, &kv, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return Kv(kv, cache.block_tokens / cache.layout.page_tokens);
  }

  Result<agentmem_device_state> Describe() {
    agentmem_device_state state = {};
    state.size = sizeof(state);
    agentmem_error error;
    const agentmem_code code =
        agentmem_device_describe(device_, &state, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return state;
  }
  void Poll() { agentmem_device_poll(device_); }

  // An address in the device's memory; Free ends it.
  Result<std::uint64_t> Allocate(std::uint64_t bytes) {
    std::uint64_t address = 0;
    agentmem_error error;
    const agentmem_code code =
        agentmem_device_allocate(device_, bytes, &address, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return address;
  }
  void Free(std::uint64_t address) { agentmem_device_free(device_, address); }

  // A pool of blocks in the device's memory, of up to `bytes`.
  Status OpenHbm(std::uint64_t bytes, Timeout timeout = kDefaultTimeout) {
    const agentmem_hbm_options raw = {sizeof(raw), 0, bytes};
    agentmem_error error;
    return Status::From(
        agentmem_hbm_open(device_, &raw, TimeoutNs(timeout), &error), error);
  }
  Result<agentmem_hbm_state> DescribeHbm() {
    agentmem_hbm_state state = {};
    state.size = sizeof(state);
    agentmem_error error;
    const agentmem_code code = agentmem_hbm_describe(device_, &state, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return state;
  }

 private:
  explicit Device(agentmem_device* device) : device_(device) {}

  agentmem_device* device_;
};

}  // namespace v0
}  // namespace agentmem

#endif  // AGENTMEM_KV_HPP_
