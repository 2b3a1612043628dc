// The C ABI: devices, and KV blocks between them and DRAM.
#include "client/c_api_kv.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "agentmem/kv.h"
#include "client/c_api.h"
#include "client/environment.h"
#include "client/extent_holds.h"
#include "client/kv_device.h"
#include "client/kv_fp8.h"
#include "client/kv_transfer.h"
#include "cuda/crossover_file.h"
#include "cuda/host_device.h"
#include "cuda/open_device.h"

namespace {

using agentmem::Code;
using agentmem::Device;
using agentmem::DeviceAddress;
using agentmem::Fail;
using agentmem::KvLayout;
using agentmem::KvType;
using agentmem::Outcome;
using agentmem::Stream;
using agentmem::client::Answer;
using agentmem::client::Deadline;
using agentmem::client::KeysOf;
using agentmem::client::KvBlocks;
using agentmem::client::KvCache;
using agentmem::client::KvLoad;
using agentmem::client::KvStore;
using agentmem::client::KvTransfer;

constexpr std::uint64_t kHostBytes = 1ULL << 30;

Outcome Invalid(std::string message) {
  return Fail(Code::kInvalidArgument, std::move(message));
}

Outcome OpenOf(const agentmem_device_options* options,
               std::unique_ptr<Device>* device) {
  if (options == nullptr) return Invalid("options is NULL");
  if (options->size < sizeof(agentmem_device_options)) {
    return Invalid("agentmem_device_options: size is " +
                   std::to_string(options->size) +
                   "; set it to sizeof(agentmem_device_options), which is " +
                   std::to_string(sizeof(agentmem_device_options)));
  }
  switch (options->kind) {
    case AGENTMEM_DEVICE_HOST: {
      agentmem::HostDevice::Options host;
      host.memory_bytes =
          options->memory_bytes == 0 ? kHostBytes : options->memory_bytes;
      *device = std::make_unique<agentmem::HostDevice>(host);
      return {};
    }
    case AGENTMEM_DEVICE_CUDA:
      return agentmem::OpenDevice(options->index, device);
    default:
      return Invalid("kind is " + std::to_string(options->kind) +
                     "; AGENTMEM_DEVICE_HOST (1) and AGENTMEM_DEVICE_CUDA (2) "
                     "exist");
  }
}

Outcome ReadLayout(const agentmem_kv_layout* layout, KvLayout* read) {
  if (layout == nullptr) return Invalid("layout is NULL");
  if (layout->size < sizeof(agentmem_kv_layout)) {
    return Invalid("agentmem_kv_layout: size is " +
                   std::to_string(layout->size) +
                   "; set it to sizeof(agentmem_kv_layout), which is " +
                   std::to_string(sizeof(agentmem_kv_layout)));
  }
  if (layout->type > AGENTMEM_KV_INT8) {
    return Invalid("type is " + std::to_string(layout->type) +
                   "; 0 to 4 exist (agentmem_kv_type)");
  }
  read->layers = layout->layers;
  read->planes = layout->planes;
  read->page_tokens = layout->page_tokens;
  read->heads = layout->heads;
  read->head_size = layout->head_size;
  read->type = static_cast<KvType>(layout->type);
  read->plane_stride = layout->plane_stride;
  read->page_stride = layout->page_stride;
  read->token_stride = layout->token_stride;
  read->head_stride = layout->head_stride;
  return {};
}

Outcome MakeCache(const KvLayout& layout, const std::uint64_t* layers,
                  const std::uint64_t* values, std::uint64_t pages,
                  std::uint32_t block_tokens, KvCache* cache) {
  if (layers == nullptr) return Invalid("layers is NULL");
  if (layout.layers < 1 || layout.layers > agentmem::kKvLayersMax) {
    return Invalid("layers is " + std::to_string(layout.layers) + "; 1 to " +
                   std::to_string(agentmem::kKvLayersMax) + " are allowed");
  }
  cache->layout = layout;
  for (std::uint32_t i = 0; i < layout.layers; ++i) {
    cache->layers.push_back(DeviceAddress(layers[i]));
    if (values != nullptr) cache->values.push_back(DeviceAddress(values[i]));
  }
  cache->pages = pages;
  Outcome checked = CheckView(cache->view());
  if (!checked.ok()) return checked;
  if (block_tokens == 0 || block_tokens % layout.page_tokens != 0) {
    return Invalid("block_tokens is " + std::to_string(block_tokens) +
                   "; a multiple of page_tokens, " +
                   std::to_string(layout.page_tokens) + ", is allowed");
  }
  cache->block_pages = block_tokens / layout.page_tokens;
  cache->block_bytes = layout.BlockBytes(block_tokens);
  if (cache->block_bytes > agentmem::kMaxBlockBytes) {
    return Invalid("block_tokens is " + std::to_string(block_tokens) +
                   ": a block would have " +
                   std::to_string(cache->block_bytes) + " bytes; at most " +
                   std::to_string(agentmem::kMaxBlockBytes) + " are allowed");
  }
  return {};
}

Outcome CheckBlocks(const KvCache& cache, const agentmem_key* keys,
                    std::size_t count, const std::uint32_t* pages,
                    std::uint64_t stream) {
  if (stream == 0) {
    return Invalid(
        "stream is 0; the legacy default stream is 1, the one of each thread "
        "2");
  }
  if (keys == nullptr || count == 0) return Invalid("there are no keys");
  if (pages == nullptr) return Invalid("pages is NULL");
  if (count > UINT32_MAX / cache.block_pages) {
    return Invalid("count is " + std::to_string(count) + "; at most " +
                   std::to_string(UINT32_MAX / cache.block_pages) +
                   " blocks of " + std::to_string(cache.block_pages) +
                   " pages are allowed");
  }
  // Before anything is posted.
  for (std::size_t i = 0; i < count * cache.block_pages; ++i) {
    if (pages[i] < cache.pages) continue;
    return Fail(Code::kOutOfRange, "pages[" + std::to_string(i) + "] is " +
                                       std::to_string(pages[i]) +
                                       "; the engine's cache has " +
                                       std::to_string(cache.pages));
  }
  return {};
}

KvBlocks BlocksOf(const KvCache& cache, const agentmem_key* keys,
                  std::size_t count, const std::uint32_t* pages) {
  return {{KeysOf(keys), count}, {pages, count * cache.block_pages}};
}

// What was begun and failed is the device's until its copies have ended.
template <typename Transfer>
agentmem_code Hand(const Outcome& outcome, agentmem_device* device,
                   std::unique_ptr<Transfer> made,
                   agentmem_kv_transfer** transfer, agentmem_error* error) {
  if (!outcome.ok()) {
    device->of.Abandon(std::move(made));
    return Answer(outcome, error);
  }
  *transfer =
      new agentmem_kv_transfer{device, device->of.Hand(std::move(made))};
  return AGENTMEM_OK;
}

}  // namespace

extern "C" {

agentmem_code agentmem_device_open(agentmem_client* client,
                                   const agentmem_device_options* options,
                                   agentmem_device** device,
                                   agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE(device != nullptr, "device is NULL", error);
  *device = nullptr;
  std::unique_ptr<Device> opened;
  if (Outcome outcome = OpenOf(options, &opened); !outcome.ok()) {
    return Answer(outcome, error);
  }
  if (!client->TakeDevicePlace()) {
    return Answer(Fail(Code::kFailedPrecondition,
                       "the client has a device already; connect another "
                       "client for another device"),
                  error);
  }
  agentmem::Crossovers crossovers;
  std::string note;
  if (options->kind == AGENTMEM_DEVICE_CUDA) {
    const std::string path = agentmem::client::DefaultCrossoverPath();
    std::error_code ignored;  // a file that cannot be kept is no error
    std::filesystem::create_directories(
        std::filesystem::path(path).parent_path(), ignored);
    const Outcome measured =
        FindCrossovers(opened.get(), agentmem::MonotonicClock(),
                       agentmem::MeasureBounds(), path, &crossovers, &note);
    // A device that is full or busy is used without: by the copy engine alone.
    if (!measured.ok()) note = measured.message;
  }
  auto holds = std::make_unique<agentmem::client::ChannelExtentHolds>(
      &client->channel());
  auto* const hook = holds.get();
  *device = new agentmem_device{
      {client, std::move(opened), std::move(holds), crossovers, note}};
  hook->Serve((*device)->of.memory());
  (*device)->of.StartRegistrar();
  return AGENTMEM_OK;
}

void agentmem_device_close(agentmem_device* device) {
  if (device == nullptr || device->Forked()) return;
  agentmem_client* const client = device->of.client();
  if (device->of.Close()) client->GiveDevicePlace();
  delete device;
}

agentmem_code agentmem_device_describe(agentmem_device* device,
                                       agentmem_device_state* state,
                                       agentmem_error* error) {
  AGENTMEM_ENTER(device, error);
  AGENTMEM_REQUIRE(state != nullptr, "state is NULL", error);
  AGENTMEM_REQUIRE(state->size >= sizeof(agentmem_device_state),
                   "agentmem_device_state: set size to its sizeof", error);
  device->of.Sweep();
  const agentmem::DeviceProperties& properties =
      device->of.device()->properties();
  *state = {};
  state->size = sizeof(agentmem_device_state);
  properties.name.copy(state->name, sizeof(state->name) - 1);
  state->memory_bytes = properties.memory_bytes;
  state->registered_bytes = device->of.memory()->registered_bytes();
  const agentmem::Crossovers& crossovers = device->of.crossovers();
  std::string note = device->of.note();
  const auto add_staged = [&note](const agentmem::Crossover& crossover,
                                  const char* way) {
    if (crossover.rule.small != agentmem::CopyMethod::kStaged) return;
    if (!note.empty()) note += "; ";
    note += std::string("small fragments go ") + way + " staged";
  };
  add_staged(crossovers.to_host, "out");
  add_staged(crossovers.to_device, "in");
  note.copy(state->note, sizeof(state->note) - 1);
  state->kernel_below_bytes_out = crossovers.to_host.rule.below;
  state->kernel_below_bytes_in = crossovers.to_device.rule.below;
  return AGENTMEM_OK;
}

void agentmem_device_poll(agentmem_device* device) {
  if (device == nullptr || device->Forked()) return;
  device->of.SweepAll();
}

agentmem_code agentmem_device_allocate(agentmem_device* device, uint64_t bytes,
                                       uint64_t* address,
                                       agentmem_error* error) {
  AGENTMEM_ENTER(device, error);
  AGENTMEM_REQUIRE(address != nullptr, "address is NULL", error);
  *address = 0;
  DeviceAddress memory;
  const Outcome outcome = device->of.Allocate(bytes, &memory);
  if (outcome.ok()) *address = memory.value();
  return Answer(outcome, error);
}

void agentmem_device_free(agentmem_device* device, uint64_t address) {
  if (device == nullptr || device->Forked() || address == 0) return;
  device->of.device()->Free(DeviceAddress(address));
}

agentmem_code agentmem_kv_open(agentmem_device* device,
                               const agentmem_kv_layout* layout,
                               const uint64_t* layers, const uint64_t* values,
                               uint64_t pages, uint32_t block_tokens,
                               agentmem_kv** kv, agentmem_error* error) {
  AGENTMEM_ENTER(device, error);
  AGENTMEM_REQUIRE(kv != nullptr, "kv is NULL", error);
  *kv = nullptr;
  KvLayout read;
  Outcome outcome = ReadLayout(layout, &read);
  auto cache = std::make_shared<KvCache>();
  if (outcome.ok()) {
    outcome = MakeCache(read, layers, values, pages, block_tokens, cache.get());
  }
  if (!outcome.ok()) return Answer(outcome, error);
  *kv = new agentmem_kv(device, std::move(cache));
  return AGENTMEM_OK;
}

void agentmem_kv_close(agentmem_kv* kv) {
  if (kv != nullptr && !kv->Forked()) delete kv;
}

uint64_t agentmem_kv_block_bytes(const agentmem_kv* kv) {
  return kv == nullptr || kv->Forked() ? 0 : kv->cache()->block_bytes;
}

agentmem_code agentmem_kv_compress(agentmem_kv* kv, agentmem_error* error) {
  AGENTMEM_ENTER(kv, error);
  const agentmem_kv::Cache before = kv->cache();
  if (before->fp8.has_value()) return AGENTMEM_OK;
  auto compressed = std::make_shared<KvCache>();
  const Outcome outcome = agentmem::client::Compress(
      kv->device->of.device()->properties(), *before, compressed.get());
  if (!outcome.ok()) return Answer(outcome, error);
  kv->SetCache(std::move(compressed));
  return AGENTMEM_OK;
}

agentmem_code agentmem_kv_store(agentmem_kv* kv, const agentmem_key* keys,
                                size_t count, const uint32_t* pages,
                                uint64_t stream, agentmem_class block_class,
                                agentmem_ack ack, uint64_t timeout_ns,
                                agentmem_kv_transfer** transfer,
                                agentmem_error* error) {
  AGENTMEM_ENTER(kv, error);
  AGENTMEM_REQUIRE(transfer != nullptr, "transfer is NULL", error);
  *transfer = nullptr;
  const agentmem_kv::Cache cache = kv->cache();
  const Outcome checked = CheckBlocks(*cache, keys, count, pages, stream);
  if (!checked.ok()) return Answer(checked, error);
  AGENTMEM_REQUIRE(
      agentmem::IsValid(static_cast<agentmem::BlockClass>(block_class)) &&
          agentmem::IsValid(static_cast<agentmem::Ack>(ack)),
      "class or ack is none that exists", error);
  kv->device->of.Sweep();
  auto made = std::make_unique<KvStore>(
      kv->parts(), cache, static_cast<agentmem::BlockClass>(block_class),
      static_cast<agentmem::Ack>(ack));
  const Outcome outcome =
      made->Post(BlocksOf(*cache, keys, count, pages), Stream::Of(stream),
                 Deadline::After(timeout_ns));
  return Hand(outcome, kv->device, std::move(made), transfer, error);
}

agentmem_code agentmem_kv_load(agentmem_kv* kv, const agentmem_key* keys,
                               size_t count, const uint32_t* pages,
                               uint64_t stream, uint64_t timeout_ns,
                               agentmem_kv_transfer** transfer,
                               agentmem_error* error) {
  AGENTMEM_ENTER(kv, error);
  AGENTMEM_REQUIRE(transfer != nullptr, "transfer is NULL", error);
  *transfer = nullptr;
  const agentmem_kv::Cache cache = kv->cache();
  const Outcome checked = CheckBlocks(*cache, keys, count, pages, stream);
  if (!checked.ok()) return Answer(checked, error);
  kv->device->of.Sweep();
  auto made = std::make_unique<KvLoad>(kv->parts(), cache);
  const Outcome outcome =
      made->Post(BlocksOf(*cache, keys, count, pages), Stream::Of(stream),
                 Deadline::After(timeout_ns));
  return Hand(outcome, kv->device, std::move(made), transfer, error);
}

agentmem_code agentmem_kv_wait_layer(agentmem_kv_transfer* transfer,
                                     uint32_t layer, uint64_t stream,
                                     agentmem_error* error) {
  AGENTMEM_ENTER(transfer, error);
  AGENTMEM_REQUIRE(stream != 0, "stream is 0", error);
  return Answer(transfer->transfer->WaitLayer(layer, Stream::Of(stream)),
                error);
}

agentmem_code agentmem_kv_tiers(const agentmem_kv_transfer* transfer,
                                agentmem_tier* tiers, size_t count,
                                agentmem_error* error) {
  AGENTMEM_ENTER(transfer, error);
  const std::span<const agentmem_tier> of = transfer->transfer->tiers();
  if (of.empty()) {
    return Answer(Fail(Code::kFailedPrecondition,
                       "a store has no tiers: its blocks came from the engine"),
                  error);
  }
  AGENTMEM_REQUIRE(tiers != nullptr, "tiers is NULL", error);
  if (count != of.size()) {
    return Answer(
        Invalid("count is " + std::to_string(count) + "; the load has " +
                std::to_string(of.size()) + " blocks"),
        error);
  }
  std::copy(of.begin(), of.end(), tiers);
  return AGENTMEM_OK;
}

agentmem_code agentmem_kv_wait(agentmem_kv_transfer* transfer,
                               uint64_t timeout_ns, agentmem_error* error) {
  AGENTMEM_ENTER(transfer, error);
  transfer->device->of.Sweep();
  return Answer(transfer->transfer->Wait(Deadline::After(timeout_ns)), error);
}

void agentmem_kv_close_transfer(agentmem_kv_transfer* transfer) {
  if (transfer == nullptr || transfer->Forked()) return;
  transfer->device->of.Abandon(transfer->transfer->Take());
  delete transfer;
}

}  // extern "C"
