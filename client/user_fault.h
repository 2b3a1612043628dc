// This process's userfaultfd: made, offered to memd, and kept.
//
// memd gets a duplicate and resolves faults. The client keeps its own: while a
// descriptor is open a missing page of a registered range blocks its toucher;
// when the last one closes, it reads as zeros. What the client does itself,
// once memd is gone, is Wake, Unprotect and Poison.
//
// Ownership: owns the descriptor. Move only. Threads: the kernel's calls are
// thread-safe. Errors: Open says what to set where the kernel refuses
// (FAILED_PRECONDITION), which then stands in agentmem_region_status. Cost:
// system calls; none allocates but Open and Register's errors.
#ifndef AGENTMEM_CLIENT_USER_FAULT_H_
#define AGENTMEM_CLIENT_USER_FAULT_H_

#include <cstdint>
#include <string>

#include "base/unique_fd.h"
#include "proto/outcome.h"
#include "proto/userfaultfd_abi.h"

namespace agentmem::client {

class UserFault {
 public:
  static Outcome Open(UserFault* out);

  bool valid() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }
  std::uint64_t features() const { return features_; }
  bool user_mode_only() const { return user_mode_only_; }
  bool can_poison() const { return (features_ & UFFD_FEATURE_POISON) != 0; }

  // MISSING, MINOR and WP faults of a shared mapping.
  Outcome Register(void* address, std::uint64_t bytes) const;
  // Whoever waits for a page of it touches it again.
  void Wake(std::uint64_t address, std::uint64_t bytes) const;
  void Unprotect(std::uint64_t address, std::uint64_t bytes) const;
  // The next touch of it is SIGBUS. False: it was not done.
  bool Poison(std::uint64_t address, std::uint64_t bytes) const;

 private:
  UniqueFd fd_;
  std::uint64_t features_ = 0;
  bool user_mode_only_ = false;
};

// What to set where no way to a userfaultfd is open: the errno of each.
std::string ExplainNoUserFault(int device_error, int call_error,
                               int user_mode_error);

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_USER_FAULT_H_
