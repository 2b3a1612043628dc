// An engine's KV cache on the device of a client: the GPU where there is one,
// else the host device. For suites that load blocks through libagentmem.
//
// Blocks are those of the model in hbm_model.h, or a part of one: of a few
// layers, or of one token. What is in a block follows from a seed and from
// where a word is in it (hbm_bytes.h). A place has room for one block, in pages
// of which no two neighbours in a block are neighbours on the device in the
// same order. What lies there is poisoned, read and compared without
// libagentmem.
//
// Ownership: owns the device, its memory and the cache; borrows the client.
// Threads: thread-compatible. Errors: libagentmem's and the device's; DATA_LOSS
// for wrong bytes. Cost: Open measures a GPU the first time (2 s); Poison and
// Check move the whole cache.
#ifndef AGENTMEM_BENCHMARKS_DEVICE_KV_H_
#define AGENTMEM_BENCHMARKS_DEVICE_KV_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agentmem/kv.h"
#include "benchmarks/hbm_memory.h"
#include "cuda/device.h"

namespace agentmem::bench {

// How a block of so many bytes, a power of two from 4 KiB to 4 MiB, is made up.
struct KvShape {
  std::uint32_t layers = 0;
  std::uint32_t page_tokens = 0;
  std::uint32_t block_pages = 0;

  // Of K, or of V, of a page of a layer: what lies together on both sides.
  std::uint64_t FragmentBytes() const;
  std::uint64_t BlockBytes() const {
    return 2 * layers * block_pages * FragmentBytes();
  }
};
KvShape KvShapeOf(std::uint64_t block_bytes);
// Of blocks of 2 MiB, or more where two fragments have more; of a power of two
// from 2 KiB to 2 MiB.
KvShape KvShapeOfFragments(std::uint32_t fragment_bytes);

class DeviceKv {
 public:
  static absl::StatusOr<std::unique_ptr<DeviceKv>> Open(
      agentmem_client* client, std::uint64_t block_bytes, std::uint32_t places);
  static absl::StatusOr<std::unique_ptr<DeviceKv>> Open(agentmem_client* client,
                                                        const KvShape& shape,
                                                        std::uint32_t places);
  ~DeviceKv();
  DeviceKv(const DeviceKv&) = delete;
  DeviceKv& operator=(const DeviceKv&) = delete;

  bool is_gpu() const { return is_gpu_; }
  // Empty: it is one.
  const std::string& why_no_gpu() const { return why_no_gpu_; }
  const std::string& name() const { return name_; }
  std::uint64_t block_bytes() const { return shape_.BlockBytes(); }

  // Blocks go to the places from `first` on, behind what a model's layers wait
  // for, one by one. Returns when all of them are in device memory.
  absl::Status Load(std::span<const agentmem_key> keys, std::uint32_t first);
  // Out of these places, as class cache. Returns when all are acknowledged.
  absl::Status Store(std::span<const agentmem_key> keys, std::uint32_t first);
  // Until the device reaches so much of DRAM, by what libagentmem registers
  // ahead; nanoseconds.
  absl::StatusOr<double> AwaitRegistered(std::uint64_t bytes);
  // Where each of its blocks was when the last load began.
  const std::vector<agentmem_tier>& tiers() const { return tiers_; }
  // What is loaded from here on stays in a pool in device memory, for which
  // there is room for all places.
  absl::Status Keep();
  absl::Status Poison();
  // seeds[i]: of what is at place i from here on, or must be there.
  absl::Status Fill(std::span<const std::uint64_t> seeds);
  absl::Status Check(std::span<const std::uint64_t> seeds);
  // Nanoseconds of one plain pinned copy of so many bytes; of other bytes than
  // the one before, as long as there are others.
  absl::StatusOr<double> CopyPinned(std::uint64_t bytes,
                                    Direction direction = Direction::kToDevice);

 private:
  explicit DeviceKv(const KvShape& shape, std::uint32_t places)
      : shape_(shape), places_(places) {}
  absl::Status OpenDevice(agentmem_client* client);
  absl::Status OpenCache();
  // For blocks of all places, and what a pool takes beside them.
  std::uint64_t PoolBytes() const {
    return places_ * shape_.BlockBytes() * 5 / 4 + (64 << 20);
  }
  std::uint64_t LayerBytes() const {
    return 2 * std::uint64_t{places_} * shape_.block_pages *
           shape_.FragmentBytes();
  }
  std::uint32_t PageOf(std::uint32_t place, std::uint32_t page) const {
    return places_ * shape_.block_pages - 1 -
           (place * shape_.block_pages + page);
  }
  std::vector<std::uint32_t> PagesOf(std::size_t blocks,
                                     std::uint32_t first) const;
  // A layer of all blocks, [block][layer][plane][token][head][element], out of
  // its tensor, or into it.
  void Rearrange(std::uint32_t layer, std::span<char> blocks,
                 std::span<char> tensor, bool into_tensor) const;
  // All of a layer's tensor.
  absl::Status Move(Direction direction, std::uint64_t address,
                    std::span<char> host);

  const KvShape shape_;
  const std::uint32_t places_;
  bool is_gpu_ = false;
  std::string why_no_gpu_;
  std::string name_;
  agentmem_device* device_ = nullptr;
  agentmem_kv* kv_ = nullptr;
  std::vector<std::uint64_t> layers_;  // addresses of their tensors
  std::vector<agentmem_tier> tiers_;
  // The same device, as cuda/device.h has it.
  std::unique_ptr<Device> plain_;
  std::optional<HbmMemory> pinned_;
  std::uint64_t next_pinned_ = 0;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_DEVICE_KV_H_
