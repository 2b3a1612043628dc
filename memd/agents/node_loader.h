// Reads nodes lazily, and keeps the decoded ones that were used last.
//
// A node never changes, so one loader serves all versions of a region, and a
// commit finds the nodes that the last one wrote.
//
// Ownership: the loader borrows its source; nodes are shared and stay valid for
// as long as somebody holds them. Threads: thread-compatible.
// Errors: DATA_LOSS (the block is missing, of another length, or not the node
// that was asked for; the message names its key), else what the source
// answered. Cost: a node that is kept, a lookup; else one Read and one decode.
#ifndef AGENTMEM_MEMD_AGENTS_NODE_LOADER_H_
#define AGENTMEM_MEMD_AGENTS_NODE_LOADER_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "memd/agents/node.h"
#include "proto/types.h"

namespace agentmem {

class NodeSource {
 public:
  virtual ~NodeSource() = default;

  // The block under `key`, which is `bytes` long; NOT_FOUND if there is none.
  virtual absl::StatusOr<std::string> Read(const Key& key,
                                           std::uint32_t bytes) = 0;
};

class NodeLoader {
 public:
  // A leaf of 256 bases is 10 KiB decoded: 400 of them, and so all leaves of
  // 6.4 GiB, are kept, for a thousandth of what they map. More memory than that
  // is DRAM's business, where the blocks are.
  static constexpr std::size_t kKeptBytesMax = 4 << 20;

  explicit NodeLoader(NodeSource* source,
                      std::size_t kept_bytes_max = kKeptBytesMax)
      : source_(source), kept_bytes_max_(kept_bytes_max) {}

  NodeLoader(const NodeLoader&) = delete;
  NodeLoader& operator=(const NodeLoader&) = delete;

  absl::StatusOr<std::shared_ptr<const TreeNode>> Load(
      const NodeRef& node, std::uint32_t level, std::uint64_t first_page);

  // A node that was just made under `key`: the next Load does not read it.
  void Keep(const Key& key, std::shared_ptr<const TreeNode> node);

  std::size_t kept_bytes() const { return kept_bytes_; }

 private:
  struct Kept {
    Key key;
    std::shared_ptr<const TreeNode> node;
    std::size_t bytes;
  };

  NodeSource* const source_;
  const std::size_t kept_bytes_max_;
  std::list<Kept> kept_;  // the last used first
  absl::flat_hash_map<Key, std::list<Kept>::iterator> index_;
  std::size_t kept_bytes_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_NODE_LOADER_H_
