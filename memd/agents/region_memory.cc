#include "memd/agents/region_memory.h"

#include <fcntl.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kSpareExtents = 2;
// Blocks may have to be written down before an extent is free. Meanwhile, and
// for as long after a refusal, regions do with what they have.
constexpr DurationNs kLendNs = 100 * kMillisecondNs;

// An eighth of the pool, at least two extents, stays for blocks.
std::uint64_t LentBytesMax(std::uint64_t dram_bytes) {
  const std::uint64_t extents = dram_bytes / kExtentBytes;
  const std::uint64_t kept = std::max<std::uint64_t>(2, extents / 8);
  return extents > kept ? (extents - kept) * kExtentBytes : 0;
}

}  // namespace

RegionMemory::RegionMemory(PortSource* ports, const Clock* clock,
                           std::string tenant, std::uint64_t dram_bytes,
                           Dram dram)
    : ports_source_(ports),
      clock_(clock),
      tenant_(std::move(tenant)),
      lent_bytes_max_(LentBytesMax(dram_bytes)),
      dram_(dram) {
  if (dram_ == Dram::kLendable) return;
  LogInfo("the regions of tenant " + tenant_ + " use up to " +
          std::to_string(lent_bytes_max_ >> 20) +
          " MiB beside its DRAM, which the network's device has pinned");
}

bool RegionMemory::Take(std::uint64_t bytes) {
  BlockPort* port = nullptr;
  {
    MutexLock lock(&mutex_);
    if (dram_ == Dram::kPinned) {
      if (used_ + bytes > lent_bytes_max_) return false;
      used_ += bytes;
      return true;
    }
    if (used_ + bytes <= lent_.size() * kExtentBytes) {
      used_ += bytes;
      return true;
    }
    if (lending_ || clock_->Now() < lend_again_ ||
        (lent_.size() + 1) * kExtentBytes > lent_bytes_max_) {
      return false;
    }
    port = PortWithRoom();
    if (port == nullptr) return false;
    lending_ = true;
  }
  // The ports are this thread's until lending_ is false again.
  BlockPort::Grant grant;
  const bool lent = Lend(port, &grant);
  MutexLock lock(&mutex_);
  lending_ = false;
  if (!lent) {
    lend_again_ = clock_->Now() + kLendNs;
    return false;
  }
  lent_.push_back({port, grant});
  if (used_ + bytes > lent_.size() * kExtentBytes) return false;
  used_ += bytes;
  return true;
}

void RegionMemory::Give(std::uint64_t bytes) {
  MutexLock lock(&mutex_);
  AGENTMEM_CHECK(bytes <= used_);
  used_ -= bytes;
  while (!lending_ && lent_.size() * kExtentBytes >=
                          used_ + (kSpareExtents + 1) * kExtentBytes) {
    lent_.back().port->AbandonEmptied(lent_.back().grant);
    lent_.pop_back();
  }
}

std::uint64_t RegionMemory::used_bytes() {
  MutexLock lock(&mutex_);
  return used_;
}

BlockPort* RegionMemory::PortWithRoom() {
  // A port has so many grants; one stays free for the one being asked for.
  const std::size_t ports_needed = lent_.size() / (kGrantEntries - 1) + 1;
  if (ports_.size() < ports_needed) {
    auto handle = ports_source_->OpenPort(tenant_, "memd: regions", 0);
    if (!handle.ok()) {
      LogError("memory for regions: " + StatusMessage(handle.status()));
      return nullptr;
    }
    ports_.push_back(std::make_unique<BlockPort>(*std::move(handle)));
  }
  return ports_[ports_needed - 1].get();
}

bool RegionMemory::Lend(BlockPort* port, BlockPort::Grant* grant) const {
  if (!GrantToEmpty(port, clock_->Now() + kLendNs, *clock_, grant)) {
    return false;
  }
  if (fallocate(port->data_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(grant->data_offset), kExtentBytes) != 0) {
    port->Abandon(*grant);
    LogError("memory for regions: giving an extent's pages back: " +
             StatusMessage(ErrnoStatus("fallocate")));
    return false;
  }
  return true;
}

}  // namespace agentmem
