// KV blocks by libagentmem itself: agentmem_kv_store and agentmem_kv_load, as
// an engine calls them (StoreBlocks and LoadBlocks of kv.hpp), beside pinned
// copies of as many bytes. Memory is a tenant's memfd, shared and registered
// with the device in extents; the memd of the other side is near_memd.h's.
//
// A round: other bytes in the engine's pages, all DRAM poison; a store, until
// it is acknowledged, and each byte compared through agentmem_get; the pages
// poison; a load, and each byte compared in device memory.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "benchmarks/connection.h"
#include "benchmarks/device_kv.h"
#include "benchmarks/hbm_bench.h"
#include "benchmarks/hbm_bytes.h"
#include "benchmarks/near_memd.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kKvBytesMax = 512 << 20;
constexpr std::uint32_t kSet = 12;  // of keys
constexpr std::uint32_t kGetBatch = 64;
// Then the device has registered all DRAM, and pages were touched.
constexpr int kUntimedRounds = 2;

std::string StoreName(const FragmentCase& one) {
  return std::string("kv_store/") + one.name;
}
std::string LoadName(const FragmentCase& one) {
  return std::string("kv_load/") + one.name;
}

// Of a client that has no device yet: `client` and what it moves.
class KvRounds {
 public:
  static absl::StatusOr<std::unique_ptr<KvRounds>> Start(const KvShape& shape,
                                                         std::uint32_t blocks);

  const DeviceKv& kv() const { return *kv_; }
  // Nanoseconds of each.
  struct Took {
    double store = 0;
    double load = 0;
    double pinned_out = 0;
    double pinned_in = 0;
  };
  absl::StatusOr<Took> Round(std::uint64_t* seed);

 private:
  KvRounds(std::unique_ptr<NearMemd> memd, Connection client,
           std::uint32_t blocks)
      : memd_(std::move(memd)), client_(std::move(client)) {
    for (std::uint32_t i = 0; i < blocks; ++i) keys_.push_back(KeyOf(kSet, i));
  }
  absl::Status CheckDram(std::span<const std::uint64_t> seeds) const;
  absl::StatusOr<double> Pinned(Direction direction) const;
  std::uint64_t bytes() const { return keys_.size() * kv_->block_bytes(); }

  // Each needs those before it.
  const std::unique_ptr<NearMemd> memd_;
  const Connection client_;
  std::unique_ptr<DeviceKv> kv_;
  std::vector<agentmem_key> keys_;
};

absl::StatusOr<std::unique_ptr<KvRounds>> KvRounds::Start(
    const KvShape& shape, std::uint32_t blocks) {
  AGENTMEM_ASSIGN_OR_RETURN(std::unique_ptr<NearMemd> memd,
                            NearMemd::Start(blocks, shape.BlockBytes()));
  AGENTMEM_ASSIGN_OR_RETURN(Connection client,
                            Connection::Open(memd->socket_path()));
  std::unique_ptr<KvRounds> made(
      new KvRounds(std::move(memd), std::move(client), blocks));
  AGENTMEM_ASSIGN_OR_RETURN(made->kv_,
                            DeviceKv::Open(made->client_.get(), shape, blocks));
  return made;
}

absl::Status KvRounds::CheckDram(std::span<const std::uint64_t> seeds) const {
  for (std::size_t at = 0; at < keys_.size(); at += kGetBatch) {
    const std::size_t count =
        std::min<std::size_t>(kGetBatch, keys_.size() - at);
    agentmem_span spans[kGetBatch] = {};
    agentmem_error error = {};
    absl::Status status =
        ToStatus(agentmem_get(client_.get(), &keys_[at], count, kTimeoutNs,
                              spans, &error),
                 error);
    for (std::size_t i = 0; i < count && status.ok(); ++i) {
      const std::string which = "block " + std::to_string(at + i);
      if (spans[i].length != kv_->block_bytes()) {
        status = DataLoss(which + " has " + std::to_string(spans[i].length) +
                          " bytes");
        break;
      }
      const auto wrong =
          WrongInOrder({static_cast<const char*>(spans[i].data),
                        static_cast<std::size_t>(spans[i].length)},
                       seeds[at + i]);
      if (wrong.has_value()) {
        status = DataLoss("in DRAM byte " + std::to_string(*wrong) + " of " +
                          which + " is wrong");
      }
    }
    agentmem_release(client_.get(), spans, count);
    AGENTMEM_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

// As if all bytes went by it.
absl::StatusOr<double> KvRounds::Pinned(Direction direction) const {
  const std::uint64_t now = std::min(bytes(), HbmMemory::kChunkBytes);
  AGENTMEM_ASSIGN_OR_RETURN(const double ns, kv_->CopyPinned(now, direction));
  return ns * static_cast<double>(bytes()) / static_cast<double>(now);
}

absl::StatusOr<KvRounds::Took> KvRounds::Round(std::uint64_t* seed) {
  std::vector<std::uint64_t> seeds;
  for (std::size_t i = 0; i < keys_.size(); ++i) seeds.push_back((*seed)++);
  Took took;
  memd_->Forget(keys_);
  AGENTMEM_RETURN_IF_ERROR(kv_->Fill(seeds));
  const TimeNs stored = MonotonicNowNs();
  AGENTMEM_RETURN_IF_ERROR(kv_->Store(keys_, 0));
  took.store = static_cast<double>(MonotonicNowNs() - stored);
  AGENTMEM_RETURN_IF_ERROR(CheckDram(seeds));
  AGENTMEM_RETURN_IF_ERROR(kv_->Poison());
  const TimeNs loaded = MonotonicNowNs();
  AGENTMEM_RETURN_IF_ERROR(kv_->Load(keys_, 0));
  took.load = static_cast<double>(MonotonicNowNs() - loaded);
  AGENTMEM_RETURN_IF_ERROR(kv_->Check(seeds));
  AGENTMEM_ASSIGN_OR_RETURN(took.pinned_out, Pinned(Direction::kToHost));
  AGENTMEM_ASSIGN_OR_RETURN(took.pinned_in, Pinned(Direction::kToDevice));
  return took;
}

}  // namespace

std::vector<Bar> HbmBench::KvBars() {
  std::vector<Bar> bars;
  for (const FragmentCase& one : FragmentCases()) {
    if (one.bar == 0) continue;
    bars.push_back({StoreName(one), one.bar});
    bars.push_back({LoadName(one), one.bar});
  }
  return bars;
}

absl::Status HbmBench::AddKvCase(const FragmentCase& one) {
  const KvShape shape = KvShapeOfFragments(one.bytes);
  const auto blocks = static_cast<std::uint32_t>(
      std::min(scale_.bytes, kKvBytesMax) / shape.BlockBytes());
  AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<KvRounds> rounds,
                            KvRounds::Start(shape, blocks));
  if (!logic_only_ && !rounds->kv().is_gpu()) {
    return Unavailable("libagentmem did not open the GPU: " +
                       rounds->kv().why_no_gpu());
  }
  Samples store, load, pinned_out, pinned_in;
  for (int round = -kUntimedRounds; Another(round); ++round) {
    AGENTMEM_ASSIGN_OR_RETURN(const KvRounds::Took took, rounds->Round(&seed_));
    if (round < 0) continue;
    store.Add(took.store);
    load.Add(took.load);
    pinned_out.Add(took.pinned_out);
    pinned_in.Add(took.pinned_in);
  }
  const std::uint64_t bytes = blocks * shape.BlockBytes();
  MeasureBar(
      StoreName(one),
      AddRow(StoreName(one), &store, "pinned", &pinned_out, bytes)->Ratio());
  MeasureBar(
      LoadName(one),
      AddRow(LoadName(one), &load, "pinned", &pinned_in, bytes)->Ratio());
  return absl::OkStatus();
}

absl::Status HbmBench::AddKv() {
  for (const FragmentCase& one : FragmentCases()) {
    if (one.bar == 0) continue;
    AGENTMEM_RETURN_IF_ERROR(AddKvCase(one));
    TellSoFar();
  }
  return absl::OkStatus();
}

}  // namespace agentmem::bench
