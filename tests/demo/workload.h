// The demo's requests in shared memory, as all of its processes see them.
//
//   WorkloadHeader
//   u64 first[requests + 1]   request r has blocks ids[first[r]..first[r + 1])
//   u32 ids[references]       dense: equal numbers are the same block
//   u32 conversation[requests]
//   u8  stored[blocks]        1 once anybody has put the block (or found it)
//
// Ownership: a view; the SharedRegion owns the bytes. Threads: everything but
// `stored` is constant; that is atomic. Errors: none: the demo made the bytes.
// Cost: none.
#ifndef AGENTMEM_TESTS_DEMO_WORKLOAD_H_
#define AGENTMEM_TESTS_DEMO_WORKLOAD_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace agentmem::demo {

struct WorkloadHeader {
  std::uint64_t requests = 0;
  std::uint64_t references = 0;
  std::uint64_t blocks = 0;
  std::uint64_t block_bytes = 0;  // the longest block
  std::uint64_t seed = 0;
};

// Tokens are made up: 16 a block are enough to give each block a name.
inline constexpr std::uint32_t kBlockTokens = 16;

class Workload {
 public:
  explicit Workload(std::byte* base) : base_(base) {}

  static std::size_t BytesFor(const WorkloadHeader& header) {
    return sizeof(WorkloadHeader) + 8 * (header.requests + 1) +
           4 * header.references + 4 * header.requests + header.blocks;
  }

  const WorkloadHeader& header() const {
    return *reinterpret_cast<const WorkloadHeader*>(base_);
  }
  std::uint64_t* first() const {
    return reinterpret_cast<std::uint64_t*>(base_ + sizeof(WorkloadHeader));
  }
  std::uint32_t* ids() const {
    return reinterpret_cast<std::uint32_t*>(first() + header().requests + 1);
  }
  // Whose turn it is: the next turn comes only when this one is done.
  std::uint32_t* conversation() const { return ids() + header().references; }
  std::span<const std::uint32_t> BlocksOf(std::uint64_t request) const {
    return {ids() + first()[request], ids() + first()[request + 1]};
  }

  bool IsStored(std::uint32_t block) const {
    return stored(block).load(std::memory_order_relaxed) != 0;
  }
  // True for the first caller.
  bool MarkStored(std::uint32_t block) const {
    return stored(block).exchange(1, std::memory_order_relaxed) == 0;
  }

  // Equal blocks have equal tokens, under every seed others.
  std::vector<std::uint32_t> TokensOf(std::uint64_t request) const;

 private:
  std::atomic_ref<std::uint8_t> stored(std::uint32_t block) const {
    auto* const flags =
        reinterpret_cast<std::uint8_t*>(conversation() + header().requests);
    return std::atomic_ref<std::uint8_t>(flags[block]);
  }

  std::byte* base_;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_WORKLOAD_H_
