// The paged KV cache of a demo's engine: tensors in device memory, as many
// pages as it computes with at a time, and libagentmem's view of them.
//
// Ownership: owns the device, its memory, and a kv for each agent; borrows the
// client. Threads: thread-compatible. Errors: libagentmem's (with its code) and
// the device's. Cost: Open measures a GPU the first time (2 s).
#ifndef AGENTMEM_TESTS_DEMO_HBM_CACHE_H_
#define AGENTMEM_TESTS_DEMO_HBM_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agentmem/kv.h"
#include "tests/demo/device_bytes.h"
#include "tests/demo/kv_pages.h"

namespace agentmem::demo {

// A code of libagentmem's, and its words.
absl::Status ToStatus(agentmem_code code, const agentmem_error& error);

class HbmCache {
 public:
  // Blocks that it has pages for.
  static constexpr std::uint32_t kSlots = 64;

  // With a pool of blocks in HBM of `hbm_bytes`, as far as memd allows it.
  static absl::StatusOr<std::unique_ptr<HbmCache>> Open(
      agentmem_client* client, KvOrder order, std::uint64_t hbm_bytes);
  ~HbmCache();
  HbmCache(const HbmCache&) = delete;
  HbmCache& operator=(const HbmCache&) = delete;

  // "host": there is no GPU, for this reason.
  const std::string& device_name() const { return device_name_; }
  const std::string& why_no_gpu() const { return bytes_->why_no_gpu(); }
  absl::StatusOr<agentmem_hbm_state> Describe() const;
  // What it stores and loads stays in HBM for that agent.
  absl::StatusOr<agentmem_kv*> KvOf(const std::string& agent);

  // The pages of slots [0, count), in the order of agentmem_kv_load.
  static std::vector<std::uint32_t> Pages(std::size_t count);
  // A block's bytes, as docs/kv.md has them.
  absl::Status Write(std::uint32_t slot, std::span<const std::byte> block);
  absl::Status Read(std::uint32_t slot, std::span<std::byte> block);
  // So that nobody finds there what was there before.
  absl::Status Poison(std::uint32_t slot);

 private:
  static constexpr std::uint32_t kPages = kSlots * kKvBlockPages;
  static constexpr std::uint64_t kPlaneBytes =
      std::uint64_t{kPages} * kKvRunBytes;

  HbmCache(KvOrder order, std::unique_ptr<DeviceBytes> bytes)
      : order_(order), bytes_(std::move(bytes)), runs_(kKvBlockBytes) {}
  absl::Status OpenDevice(agentmem_client* client, std::uint64_t hbm_bytes);
  // No slot's pages lie together, nor in the order of the slots.
  static std::uint32_t PageOf(std::uint32_t slot, std::uint32_t page) {
    return page * kSlots + (slot * 5 + 3) % kSlots;
  }
  std::vector<std::uint64_t> RunsOf(std::uint32_t slot) const;

  const KvOrder order_;
  const std::unique_ptr<DeviceBytes> bytes_;
  std::vector<std::byte> runs_;  // of one block
  std::string device_name_;
  agentmem_device* device_ = nullptr;
  std::vector<std::uint64_t> layers_;  // addresses
  std::map<std::string, agentmem_kv*> kvs_;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_HBM_CACHE_H_
