// A chain of KV blocks: what stands behind an agentmem_sequence.
//
// The head is the place behind the last block that Match found or Next named:
// its parent's key and its index.
//
// Ownership: borrows the client. Threads: thread-compatible. Errors: see
// agentmem.h. Cost: Match hashes each block's tokens and looks it up in shared
// memory; no system call, no allocation. Where memd has other nodes to ask, a
// round trip to it for each window of blocks that the index does not know.
#ifndef AGENTMEM_CLIENT_SEQUENCE_H_
#define AGENTMEM_CLIENT_SEQUENCE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "client/naming.h"
#include "client/reader.h"
#include "client/thread_contexts.h"
#include "proto/outcome.h"

namespace agentmem::client {

class Sequence {
 public:
  Sequence(ThreadContexts* contexts, Reader* reader,
           const TenantKey& tenant_key, std::uint32_t block_tokens,
           const std::string& model, const std::string& layout_digest);

  bool ok() const { return namer_.ok(); }

  // Other nodes are waited for until the timeout, and Reader::kOthersNs, at
  // most.
  Outcome Match(std::span<const std::uint32_t> tokens, std::span<Key> keys,
                std::uint64_t timeout_ns, std::size_t* matched);
  Outcome Next(std::span<const std::uint32_t> tokens, Key* key);

  // The head, to go back to when what should have followed did not.
  struct Head {
    Key parent;
    std::uint64_t index = 0;
  };
  const Head& head() const { return head_; }
  void set_head(const Head& head) { head_ = head; }

 private:
  Key KeyAt(const Head& head, std::span<const std::uint32_t> tokens);
  Outcome MatchElsewhere(std::span<const std::uint32_t> tokens,
                         std::span<Key> keys, const Deadline& deadline,
                         std::size_t* matched);

  ThreadContexts* const contexts_;
  Reader* const reader_;
  const std::uint32_t block_tokens_;
  Namer namer_;
  const Digest model_;
  Head head_;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_SEQUENCE_H_
