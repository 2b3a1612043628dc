// A memfd, mapped writable by memd, to be passed to clients by descriptor.
//
// Ownership: owns descriptor and mapping. Threads: thread-compatible.
// Errors: RESOURCE_EXHAUSTED or PERMISSION_DENIED with the errno.
// Cost: pages are made on first touch, or by Populate.
#ifndef AGENTMEM_MEMD_DRAM_SHARED_MEMORY_H_
#define AGENTMEM_MEMD_DRAM_SHARED_MEMORY_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace agentmem {

class SharedMemory {
 public:
  enum class Access {
    kClientsRead,   // sealed: nobody but this mapping ever writes
    kClientsWrite,  // size sealed only
  };

  static absl::StatusOr<SharedMemory> Create(const std::string& name,
                                             std::uint64_t bytes,
                                             Access access);

  SharedMemory() = default;
  ~SharedMemory();
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;

  char* base() const { return base_; }
  std::uint64_t bytes() const { return bytes_; }
  int fd() const { return fd_.get(); }

  // Touches [offset, offset + bytes) so that no later writer pays for it.
  // Contents are unchanged. Thread-safe. False: the kernel would not (memory
  // is short, or it is older than 5.14).
  bool Populate(std::uint64_t offset, std::uint64_t bytes) const;
  // Puts all whole 2 MiB into huge pages, for everybody who maps it, whatever
  // the system's default for shared memory is; touches all of it. Fails where
  // the kernel cannot (older than 6.1, or no huge page is left): it then goes
  // on in pages of 4 KiB.
  absl::Status UseHugePages() const;

 private:
  UniqueFd fd_;
  char* base_ = nullptr;
  std::uint64_t bytes_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_DRAM_SHARED_MEMORY_H_
