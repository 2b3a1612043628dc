// The expected values were computed with Python's hashlib from the byte strings
// in client/naming.h.
#include "client/naming.h"

#include <numeric>
#include <vector>

#include "gtest/gtest.h"

namespace agentmem::client {
namespace {

constexpr std::uint32_t kBlockTokens = 4;

TenantKey CountingKey() {
  TenantKey key;
  std::iota(key.begin(), key.end(), std::uint8_t{0});
  return key;
}

std::vector<Key> Chain(std::size_t blocks) {
  Namer namer(CountingKey());
  const Digest model = namer.ModelDigest("llama-3-8b", "bf16");
  std::vector<std::uint32_t> tokens(blocks * kBlockTokens);
  std::iota(tokens.begin(), tokens.end(), 0u);
  std::vector<Key> keys;
  Key parent;
  for (std::size_t i = 0; i < blocks; ++i) {
    parent = namer.SequenceBlock(
        model, parent, i,
        std::span(tokens).subspan(i * kBlockTokens, kBlockTokens));
    keys.push_back(parent);
  }
  EXPECT_TRUE(namer.ok());
  return keys;
}

TEST(NamingTest, TheModelDigestIsTheDocumentedHash) {
  Namer namer(CountingKey());
  const Digest digest = namer.ModelDigest("llama-3-8b", "bf16");
  EXPECT_EQ(digest[0], 0x2e);
  EXPECT_EQ(digest[1], 0x60);
  EXPECT_EQ(digest[30], 0x14);
  EXPECT_EQ(digest[31], 0x34);
}

TEST(NamingTest, BlocksOfASequenceHaveTheDocumentedKeys) {
  const std::vector<Key> keys = Chain(66);
  EXPECT_EQ(keys[0], (Key{0x20a10186, {0x5897af41, 0x6088d0c7, 0x8d1a68be}}));
  EXPECT_EQ(keys[1], (Key{0x20a10186, {0x12b50dba, 0x85a6a8fe, 0x1edd6b64}}));
  EXPECT_EQ(keys[63], (Key{0x20a10186, {0x09417d7f, 0x55a2de4c, 0x7a78cc66}}));
}

TEST(NamingTest, TheGroupChangesAfter64Blocks) {
  const std::vector<Key> keys = Chain(66);
  EXPECT_EQ(keys[64], (Key{0x5a4cc70d, {0x744ce404, 0x50d12834, 0x139b3188}}));
  EXPECT_EQ(keys[65], (Key{0x5a4cc70d, {0xc4c7e5bf, 0x11f61682, 0x4ea46ca7}}));
}

TEST(NamingTest, ObjectsHaveTheDocumentedKeys) {
  Namer namer(CountingKey());
  EXPECT_EQ(namer.ObjectRoot("state/agent-7"),
            (Key{0xe096e36f, {0xed405823, 0xc766b536, 0x12ae2e41}}));
  Nonce nonce;
  std::iota(nonce.begin(), nonce.end(), std::uint8_t{0});
  EXPECT_EQ(namer.ObjectChunk(nonce, 5),
            (Key{0x29380253, {0xef1510e0, 0x59711b33, 0xeb17a553}}));
}

TEST(NamingTest, TenantsShareNoNames) {
  TenantKey other = CountingKey();
  other[31] ^= 1;
  EXPECT_NE(Namer(CountingKey()).ObjectRoot("x"), Namer(other).ObjectRoot("x"));
}

TEST(NamingTest, ModelAndLayoutAreNotConfused) {
  Namer namer(CountingKey());
  EXPECT_NE(namer.ModelDigest("ab", "c"), namer.ModelDigest("a", "bc"));
}

}  // namespace
}  // namespace agentmem::client
