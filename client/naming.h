// How sequences and objects get their keys. Version 1; docs/formats.md.
//
// Every name is the beginning of a SHA-256 over a tenant's secret key, a domain
// (8 bytes) and what is named, so that names of one tenant say nothing to
// another. Integers are little-endian. K is the tenant key (32 bytes).
//
//   D            = SHA-256(u32 bytes of model || model ||
//                          u32 bytes of layout digest || layout digest)
//   block i of a sequence, its name:
//                  first 12 bytes of SHA-256(K || "AGMSEQ01" ||
//                    u32 block_tokens || D || name of block i-1 (12 bytes;
//                    zeros for i = 0) || u64 i || its tokens, u32 each)
//   group of a run of 64 blocks (i / 64 equal):
//                  first 4 bytes of SHA-256(K || "AGMGRP01" ||
//                    name of the first block of the run)
//   root of an object, name and group:
//                  first 12 and next 4 bytes of SHA-256(K || "AGMOBJ01" ||
//                  name)
//   chunk i of an object, name and group:
//                  first 12 and next 4 bytes of
//                    SHA-256(K || "AGMCHK01" || nonce (16) || u64 i)
//
// Ownership: a Namer owns its hash state. Threads: thread-compatible. Errors:
// ok() is false when libcrypto refused to set up SHA-256. Cost: no allocation
// after construction; about 0.5 ns a byte.
#ifndef AGENTMEM_CLIENT_NAMING_H_
#define AGENTMEM_CLIENT_NAMING_H_

#include <openssl/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "proto/types.h"

namespace agentmem::client {

inline constexpr std::uint32_t kBlocksInGroup = 64;

using TenantKey = std::array<std::uint8_t, 32>;
using Digest = std::array<std::uint8_t, 32>;
using Nonce = std::array<std::uint8_t, 16>;

class Namer {
 public:
  explicit Namer(const TenantKey& tenant_key);

  bool ok() const { return ok_; }

  Digest ModelDigest(const std::string& model,
                     const std::string& layout_digest);
  // `parent`: the key of block `index` - 1; ignored for 0. The group is that of
  // the parent, but for the first of a run.
  Key SequenceBlock(const Digest& model, const Key& parent, std::uint64_t index,
                    std::span<const std::uint32_t> tokens);
  Key ObjectRoot(const std::string& name);
  Key ObjectChunk(const Nonce& nonce, std::uint64_t index);

 private:
  struct ContextDeleter {
    void operator()(EVP_MD_CTX* context) const;
  };

  void Begin();
  void BeginKeyed(const char* domain);
  void Add(const void* bytes, std::size_t count);
  void Add32(std::uint32_t value) { Add(&value, sizeof(value)); }
  void Add64(std::uint64_t value) { Add(&value, sizeof(value)); }
  Digest End();

  const TenantKey tenant_key_;
  std::unique_ptr<EVP_MD_CTX, ContextDeleter> context_;
  bool ok_ = false;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_NAMING_H_
