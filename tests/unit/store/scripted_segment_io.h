// The machine's disk, with faults and with a look at every call.
//
// Ownership: borrowed by the store under test, which must end before it.
// Threads: thread-safe; `before_read` runs in the store's thread.
// Errors: those that it was told to give. Cost: a mutex.
#ifndef AGENTMEM_TESTS_UNIT_STORE_SCRIPTED_SEGMENT_IO_H_
#define AGENTMEM_TESTS_UNIT_STORE_SCRIPTED_SEGMENT_IO_H_

#include <atomic>
#include <functional>
#include <string>

#include "base/mutex.h"
#include "memd/store/direct_segment_io.h"
#include "proto/segment_layout.h"

namespace agentmem {

class ScriptedSegmentIo final : public SegmentIo {
 public:
  absl::StatusOr<UniqueFd> Open(const std::string& path, bool create) override {
    opens += !create;
    return disk_.Open(path, create);
  }
  absl::Status Allocate(int fd, std::uint64_t offset,
                        std::uint64_t length) override {
    if (const absl::Status fault = Fault(allocate_); !fault.ok()) return fault;
    if (length > allocate_bytes_max) return Fault(allocate_too_much_);
    return disk_.Allocate(fd, offset, length);
  }
  absl::Status Write(int fd, std::span<iovec> parts,
                     std::uint64_t offset) override {
    ++writes;
    Look(parts, offset);
    if (const absl::Status fault = Fault(write_); !fault.ok()) {
      // The first half has reached the disk.
      (void)disk_.Write(fd, parts.first(parts.size() / 2), offset);
      return fault;
    }
    return discard_writes ? absl::OkStatus() : disk_.Write(fd, parts, offset);
  }
  absl::Status Read(int fd, std::span<iovec> parts,
                    std::uint64_t offset) override {
    ++reads;
    Look(parts, offset);
    if (before_read) before_read();
    if (const absl::Status fault = Fault(read_); !fault.ok()) return fault;
    return disk_.Read(fd, parts, offset);
  }
  absl::Status Sync(int fd) override {
    ++syncs;
    if (const absl::Status fault = Fault(sync_); !fault.ok()) return fault;
    return disk_.Sync(fd);
  }
  absl::Status Punch(int fd, std::uint64_t offset,
                     std::uint64_t length) override {
    if (const absl::Status fault = Fault(punch_); !fault.ok()) return fault;
    ++punches;
    punched_bytes += length;
    return disk_.Punch(fd, offset, length);
  }
  absl::Status Truncate(int fd, std::uint64_t bytes) override {
    return disk_.Truncate(fd, bytes);
  }
  absl::Status Remove(const std::string& path) override {
    ++removes;
    return disk_.Remove(path);
  }

  // Every call answers `status` from now on.
  void FailAllocate(absl::Status status) { Set(&allocate_, status); }
  void FailAllocateBeyond(std::uint64_t bytes, absl::Status status) {
    Set(&allocate_too_much_, status);
    allocate_bytes_max = bytes;
  }
  void FailWrite(absl::Status status) { Set(&write_, status); }
  void FailRead(absl::Status status) { Set(&read_, status); }
  void FailSync(absl::Status status) { Set(&sync_, status); }

  void FailPunch(absl::Status status) { Set(&punch_, status); }

  std::atomic<int> opens = 0;  // of files that were there
  std::atomic<int> writes = 0;
  std::atomic<int> reads = 0;
  std::atomic<int> syncs = 0;
  std::atomic<int> punches = 0;
  std::atomic<int> removes = 0;
  std::atomic<int> misaligned = 0;
  std::atomic<std::uint64_t> punched_bytes = 0;
  std::atomic<std::uint64_t> allocate_bytes_max = ~std::uint64_t{0};
  std::atomic<bool> discard_writes = false;  // and say that they were done
  std::function<void()> before_read;  // set it while nothing is under way

 private:
  void Set(absl::Status* which, const absl::Status& status) {
    MutexLock lock(&mutex_);
    *which = status;
  }
  absl::Status Fault(const absl::Status& which) {
    MutexLock lock(&mutex_);
    return which;
  }
  // Would direct I/O take it?
  void Look(std::span<const iovec> parts, std::uint64_t offset) {
    misaligned += offset % kSegmentAlign != 0;
    for (const iovec& part : parts) {
      misaligned += reinterpret_cast<std::uintptr_t>(part.iov_base) % 512 != 0;
      misaligned += part.iov_len == 0 || part.iov_len % kSegmentAlign != 0;
    }
  }

  DirectSegmentIo disk_;
  Mutex mutex_;
  absl::Status allocate_;
  absl::Status allocate_too_much_;
  absl::Status write_;
  absl::Status read_;
  absl::Status sync_;
  absl::Status punch_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_STORE_SCRIPTED_SEGMENT_IO_H_
