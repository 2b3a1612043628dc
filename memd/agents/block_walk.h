// Every block that a version reaches: itself, its tree's nodes, and the blocks
// that its pieces name. Its parent is not among them: a history is kept or not
// version by version.
//
// What an overlay hides in the tree is among them until a fold, unless it is
// left out: other versions share those nodes, and may not hide it.
//
// A piece may name another version's block (its payload): that block's bytes
// are needed then, and not what it reaches.
//
// Ownership: borrows. Threads: as the loader. Errors: as Manifest::Find; after
// one, the visits are not complete, and nothing may be collected by them.
// Cost: one load a node; with `seen`, one a node that is not in it.
#ifndef AGENTMEM_MEMD_AGENTS_BLOCK_WALK_H_
#define AGENTMEM_MEMD_AGENTS_BLOCK_WALK_H_

#include <cstdint>
#include <functional>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "memd/agents/manifest.h"

namespace agentmem {

enum class BlockKind : std::uint8_t { kVersion = 1, kNode = 2, kPiece = 3 };

using BlockVisitor = std::function<absl::Status(
    const Key& key, std::uint32_t bytes, BlockKind kind)>;

// A block may be visited several times, a version's own block as a piece too.
// With `seen`, what is below a node in it
// is not visited again, and nodes join it once all below them was visited: so
// marking many versions costs their differences. `seen` may be nullptr.
absl::Status ForEachBlock(const Manifest& manifest, NodeLoader* loader,
                          absl::flat_hash_set<Key>* seen,
                          const BlockVisitor& visit);

// The parts of it: the version's block and those that its overlay names; and
// the tree's nodes with those that they name, but for what they say of the
// pages in `left_out` (may be nullptr).
absl::Status ForEachOverlayBlock(const Manifest& manifest,
                                 const BlockVisitor& visit);
absl::Status ForEachTreeBlock(
    const Manifest& manifest, NodeLoader* loader,
    absl::flat_hash_set<Key>* seen,
    const absl::flat_hash_set<std::uint64_t>* left_out,
    const BlockVisitor& visit);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_BLOCK_WALK_H_
