// A memfd and its mapping, which the demo's processes share.
//
// Ownership: owns the descriptor and the mapping. Threads: thread-compatible;
// what lies inside says who writes it. Errors: of the operating system.
// Cost: system calls at both ends of its life.
#ifndef AGENTMEM_TESTS_DEMO_SHARED_REGION_H_
#define AGENTMEM_TESTS_DEMO_SHARED_REGION_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace agentmem::demo {

class SharedRegion {
 public:
  // Zeros.
  static absl::StatusOr<SharedRegion> Create(const std::string& name,
                                             std::size_t bytes);
  // Takes the descriptor over.
  static absl::StatusOr<SharedRegion> Open(UniqueFd fd);

  SharedRegion() = default;
  ~SharedRegion();
  SharedRegion(SharedRegion&& other) noexcept;
  SharedRegion& operator=(SharedRegion&& other) noexcept;

  int fd() const { return fd_.get(); }
  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  UniqueFd fd_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_SHARED_REGION_H_
