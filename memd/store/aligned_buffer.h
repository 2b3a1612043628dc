// Memory that direct I/O takes: it begins on a sector.
//
// Ownership: owns its memory, which it does not fill. Threads:
// thread-compatible. Errors: ends the process when there is no memory.
// Cost: that of the allocation.
#ifndef AGENTMEM_MEMD_STORE_ALIGNED_BUFFER_H_
#define AGENTMEM_MEMD_STORE_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdlib>
#include <memory>

#include "base/check.h"
#include "proto/segment_layout.h"

namespace agentmem {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t bytes)
      : data_(static_cast<char*>(
            std::aligned_alloc(kSegmentAlign, SegmentAlignUp(bytes)))) {
    AGENTMEM_CHECK(data_ != nullptr);
  }
  char* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(char* data) const { std::free(data); }
  };
  std::unique_ptr<char, Free> data_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_ALIGNED_BUFFER_H_
