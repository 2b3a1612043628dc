#include "benchmarks/near_memd.h"

#include <algorithm>

#include "benchmarks/connection.h"
#include "benchmarks/hbm_bytes.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kGrantBytesMin = 4 * kMiB;

}  // namespace

absl::StatusOr<std::unique_ptr<NearMemd>> NearMemd::Start(
    std::uint32_t blocks, std::uint64_t block_bytes) {
  AGENTMEM_ASSIGN_OR_RETURN(auto directory, TemporaryDirectory::Make());
  const std::uint64_t dram = 2 * blocks * block_bytes;
  FakeMemd::Options options;
  options.reuses_room = true;
  options.grants_max = static_cast<std::uint32_t>(
      std::max(dram / 16, kGrantBytesMin) / block_bytes);
  options.holds_max = std::max(dram / 4, kGrantBytesMin) / block_bytes;
  options.slots = blocks;
  // In whole extents, as memd's are.
  options.data_bytes =
      ((blocks + options.grants_max) * block_bytes + kExtentBytes - 1) /
      kExtentBytes * kExtentBytes;
  std::unique_ptr<NearMemd> memd(new NearMemd(std::move(directory), options));
  memd->Forget({});
  return memd;
}

void NearMemd::Forget(std::span<const agentmem_key> keys) {
  for (const agentmem_key& key : keys) {
    if (memd_.IsResident(ToKey(key))) memd_.Evict(ToKey(key));
  }
  memd_.FillData(kPoison);
}

}  // namespace agentmem::bench
