// A shared mapping of a descriptor that a forked child does not inherit.
//
// Ownership: unmaps itself; the descriptor may be closed. Move only.
// Threads: thread-compatible. Errors: see Map. Cost: system calls.
#ifndef AGENTMEM_CLIENT_MAPPING_H_
#define AGENTMEM_CLIENT_MAPPING_H_

#include <cstdint>
#include <string>
#include <utility>

#include "proto/outcome.h"

namespace agentmem::client {

class Mapping {
 public:
  Mapping() = default;
  ~Mapping() { Reset(); }
  Mapping(Mapping&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    if (this == &other) return *this;
    Reset();
    base_ = std::exchange(other.base_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    return *this;
  }

  // Maps `bytes` bytes of `fd`, which must be that long at least:
  // FAILED_PRECONDITION if not, RESOURCE_EXHAUSTED when there is no address
  // space. `what` names it in messages.
  static Outcome Map(const std::string& what, int fd, std::uint64_t bytes,
                     int protection, Mapping* mapping);

  char* base() const { return base_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  void Reset();

  char* base_ = nullptr;
  std::uint64_t bytes_ = 0;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_MAPPING_H_
