// Seals blocks before they leave for another node's memory, and opens them:
// AES-256-GCM (NIST SP 800-38D), since TLS cannot cover one-sided operations.
//
//   0        4        8                       24       32              48
//   | format | key id | salt (16 bytes)       | counter| tag (16)      |
//   bytes...
//
// All little-endian. The tag covers every bit: format, key id, tenant, key and
// plaintext length as additional data; salt and counter as key and nonce.
//
// Why a nonce never repeats under a key. An instance seals with a subkey of its
// own, HKDF-SHA256 (RFC 5869) of the file's key with 128 random bits as the
// salt, and with a counter as the nonce: within an instance nonces differ
// because it counts. Two instances (threads, processes, nodes, restarts) share
// a subkey only if their salts are equal: for 2^40 subkeys a chance of 2^-49,
// where random 96-bit nonces under one key end at 2^32 seals of a whole
// cluster. A subkey is replaced after 2^24 seals, at most 2^42 AES blocks,
// which keeps an attacker's advantage from GCM's birthday bound under 2^-44 a
// subkey. The counter lives in memory only: a process that forks must not seal
// in both.
//
// Ownership: keys are shared, and outlive the cipher by that. Threads:
// thread-compatible; one object a thread, and one StartOpen at a time. Errors:
// INVALID_ARGUMENT: a length out of range; NOT_FOUND: sealed with a key id that
// the key file lacks; DATA_LOSS: not what was sealed under this tenant and key.
// Cost: no allocation for a subkey that is known (the own one, and the last
// kCachedSubkeys of others); 48 bytes a block; otherwise what OpenSSL takes.
#ifndef AGENTMEM_MEMD_POOL_BLOCK_CIPHER_H_
#define AGENTMEM_MEMD_POOL_BLOCK_CIPHER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memd/pool/cipher_keys.h"
#include "proto/types.h"

namespace agentmem {

// Format version 1.
struct SealedHeader {
  std::uint32_t format;
  std::uint32_t key_id;
  unsigned char salt[16];
  std::uint64_t counter;
  unsigned char tag[16];
};
static_assert(sizeof(SealedHeader) == 48 && alignof(SealedHeader) == 8);
static_assert(offsetof(SealedHeader, salt) == 8);
static_assert(offsetof(SealedHeader, counter) == 24);
static_assert(offsetof(SealedHeader, tag) == 32);

inline constexpr std::uint32_t kSealedFormat = 1;
inline constexpr std::size_t kSealedHeaderBytes = sizeof(SealedHeader);
inline constexpr std::uint64_t kSealsPerSubkeyMax = 1ULL << 24;

constexpr std::size_t SealedBytes(std::size_t plain_length) {
  return kSealedHeaderBytes + plain_length;
}

class BlockCipher {
 public:
  // `keys` has at least one. `seals_per_subkey` is for tests.
  static absl::StatusOr<std::unique_ptr<BlockCipher>> Make(
      std::shared_ptr<const CipherKeys> keys,
      std::uint64_t seals_per_subkey = kSealsPerSubkeyMax);
  ~BlockCipher();
  BlockCipher(const BlockCipher&) = delete;
  BlockCipher& operator=(const BlockCipher&) = delete;

  // `out` has SealedBytes(plain.size()) bytes; `plain` may be the end of it (in
  // place), or lies apart.
  absl::Status Seal(std::uint64_t tenant, const Key& key,
                    std::span<const char> plain, std::span<char> out);

  // `out` has sealed.size() - kSealedHeaderBytes bytes; it may be the end of
  // `sealed`, or lies apart. When the answer is not OK, it holds zeros or what
  // it held before: never bytes that were not verified.
  absl::Status Open(std::uint64_t tenant, const Key& key,
                    std::span<const char> sealed, std::span<char> out);

  // The same in pieces, as they arrive. Bytes in `out` must not be used before
  // FinishOpen has answered OK; when it has not, the caller wipes them. A new
  // StartOpen gives up the one before.
  absl::Status StartOpen(std::uint64_t tenant, const Key& key,
                         std::span<const char> header,
                         std::size_t plain_length);
  // `out` has as many bytes as `piece`; both are the same, or lie apart.
  absl::Status UpdateOpen(std::span<const char> piece, std::span<char> out);
  absl::Status FinishOpen();

  // Seals under the present subkey; for tests.
  std::uint64_t counter() const;

 private:
  struct Impl;
  explicit BlockCipher(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_BLOCK_CIPHER_H_
