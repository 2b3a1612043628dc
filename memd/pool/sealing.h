// Ciphertext for other nodes' memory: a cipher, and room to seal into.
//
// Blocks are sealed before they leave and opened after they came; what lies in
// export extents is then ciphertext, wherever it is read. The header of a
// sealed block travels in messages, beside its place and checksum.
//
// Ownership: owns the cipher and the books of its buffers; borrows their
// memory. Threads: reactor-only. Errors: as BlockCipher. Cost: kBuffers blocks
// at most are sealed and not yet written; further puts wait for them.
#ifndef AGENTMEM_MEMD_POOL_SEALING_H_
#define AGENTMEM_MEMD_POOL_SEALING_H_

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "memd/pool/block_cipher.h"
#include "memd/transport/transport.h"

namespace agentmem {

class Sealing {
 public:
  static constexpr std::size_t kBuffers = 8;
  // The header, on a page of its own so that the bytes begin on one.
  static constexpr std::size_t kHeadBytes = 4096;
  static constexpr std::size_t kBufferBytes = kHeadBytes + kMaxBlockBytes;
  static constexpr std::size_t kMemoryBytes = kBuffers * kBufferBytes;

  // `memory`: kMemoryBytes, which the transport knows as `id`.
  Sealing(std::unique_ptr<BlockCipher> cipher, std::span<char> memory,
          MemoryId id)
      : cipher_(std::move(cipher)), id_(id) {
    for (std::size_t i = 0; i < kBuffers; ++i) {
      free_.push_back(memory.data() + i * kBufferBytes + kHeadBytes);
    }
  }

  // Room for a block's bytes; null: none is free.
  char* Take() {
    if (free_.empty()) return nullptr;
    char* const taken = free_.back();
    free_.pop_back();
    return taken;
  }
  void Give(char* buffer) { free_.push_back(buffer); }

  // Seals `plain` into `buffer` (which may be where it lies).
  absl::Status Seal(std::uint64_t tenant, const Key& key,
                    std::span<const char> plain, char* buffer,
                    SealedHeader* header) {
    char* const begin = buffer - kSealedHeaderBytes;
    absl::Status sealed =
        cipher_->Seal(tenant, key, plain, {begin, SealedBytes(plain.size())});
    std::memcpy(header, begin, sizeof(*header));
    return sealed;
  }
  // In place. Not OK: the bytes are wiped.
  absl::Status Open(std::uint64_t tenant, const Key& key,
                    const SealedHeader& header, std::span<char> bytes) {
    absl::Status opened = cipher_->StartOpen(
        tenant, key, {reinterpret_cast<const char*>(&header), sizeof(header)},
        bytes.size());
    if (opened.ok()) opened = cipher_->UpdateOpen(bytes, bytes);
    if (opened.ok()) opened = cipher_->FinishOpen();
    if (!opened.ok()) std::memset(bytes.data(), 0, bytes.size());
    return opened;
  }

  MemoryId memory() const { return id_; }

 private:
  const std::unique_ptr<BlockCipher> cipher_;
  const MemoryId id_;
  std::vector<char*> free_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_SEALING_H_
