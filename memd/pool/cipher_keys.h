// The secret keys that blocks in other nodes' memory are sealed with.
//
// A text file, one key a line: "KEY_ID 64_HEX_DIGITS". What follows '#' is a
// comment. Key ids are 1 to 4294967295, each once. The last line's key seals
// new blocks; all of them open old ones. So a new key is first added above the
// last line on every node, then moved to the end on every node, and the old one
// goes when nothing is sealed with it any more.
//
// Ownership: a value that cannot be copied; its bytes are wiped with it.
// Threads: immutable once loaded. Errors of LoadCipherKeys: NOT_FOUND (no
// file), PERMISSION_DENIED (others than its owner may touch it, or it belongs
// to another user), INVALID_ARGUMENT (a line, by its number; never its
// content). Cost: at start only.
#ifndef AGENTMEM_MEMD_POOL_CIPHER_KEYS_H_
#define AGENTMEM_MEMD_POOL_CIPHER_KEYS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/types.h"

namespace agentmem {

inline constexpr std::size_t kCipherKeyBytes = 32;
inline constexpr std::size_t kCipherKeysMax = 256;

class CipherKeys {
 public:
  using Secret = std::array<unsigned char, kCipherKeyBytes>;

  CipherKeys() = default;
  ~CipherKeys();
  CipherKeys(CipherKeys&&) = default;
  CipherKeys& operator=(CipherKeys&&) = delete;

  // INVALID_ARGUMENT: the id is 0, known already, or one too many.
  absl::Status Add(KeyId id, const Secret& secret);

  // The one for new blocks. There is one.
  KeyId newest() const { return entries_.back().id; }
  bool empty() const { return entries_.empty(); }
  std::size_t size() const { return entries_.size(); }

  // nullptr: not known. Lives as long as this object.
  const Secret* Find(KeyId id) const;

 private:
  struct Entry {
    KeyId id;
    Secret secret;
  };

  std::vector<Entry> entries_;  // as in the file
};

absl::StatusOr<CipherKeys> LoadCipherKeys(const std::string& path);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_CIPHER_KEYS_H_
