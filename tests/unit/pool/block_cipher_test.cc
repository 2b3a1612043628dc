#include "memd/pool/block_cipher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kTenant = 0x1122334455667788;
constexpr Key kKey{0x2a, {1, 2, 3}};

std::shared_ptr<const CipherKeys> Keys(std::vector<std::uint32_t> ids,
                                       unsigned char fill = 7) {
  auto keys = std::make_shared<CipherKeys>();
  for (const std::uint32_t id : ids) {
    CipherKeys::Secret secret;
    secret.fill(static_cast<unsigned char>(fill + id));
    EXPECT_TRUE(keys->Add(KeyId(id), secret).ok());
  }
  return keys;
}

std::unique_ptr<BlockCipher> Cipher(
    std::shared_ptr<const CipherKeys> keys,
    std::uint64_t seals_per_subkey = kSealsPerSubkeyMax) {
  auto cipher = BlockCipher::Make(std::move(keys), seals_per_subkey);
  EXPECT_TRUE(cipher.ok()) << cipher.status();
  return std::move(*cipher);
}

std::string Plain(std::size_t length) {
  std::mt19937_64 random(length);
  std::string plain(length, 0);
  for (char& byte : plain) byte = static_cast<char>(random());
  return plain;
}

std::string Seal(BlockCipher* cipher, const std::string& plain) {
  std::string sealed(SealedBytes(plain.size()), 0);
  const absl::Status status = cipher->Seal(kTenant, kKey, plain, sealed);
  EXPECT_TRUE(status.ok()) << status;
  return sealed;
}

absl::Status Open(BlockCipher* cipher, const std::string& sealed,
                  std::string* plain) {
  plain->assign(sealed.size() - kSealedHeaderBytes, 'x');
  return cipher->Open(kTenant, kKey, sealed, *plain);
}

SealedHeader HeaderOf(const std::string& sealed) {
  SealedHeader header;
  std::memcpy(&header, sealed.data(), sizeof(header));
  return header;
}

TEST(BlockCipherTest, WhatOneNodeSealsAnotherOpens) {
  const auto here = Cipher(Keys({1}));
  const auto there = Cipher(Keys({1}));
  for (const std::size_t length : {1ul, 15ul, 16ul, 4096ul, 4ul << 20}) {
    const std::string plain = Plain(length);
    const std::string sealed = Seal(here.get(), plain);
    EXPECT_EQ(sealed.size(), length + 48);
    std::string opened;
    const absl::Status status = Open(there.get(), sealed, &opened);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(opened == plain) << length;
    EXPECT_TRUE(length < 16 ||
                sealed.find(plain.substr(0, 16)) == std::string::npos);
  }
}

TEST(BlockCipherTest, SealsAndOpensInPlace) {
  const auto cipher = Cipher(Keys({1}));
  const std::string plain = Plain(70'000);
  std::string buffer = std::string(kSealedHeaderBytes, 0) + plain;
  const auto body = std::span(buffer).subspan(kSealedHeaderBytes);
  ASSERT_TRUE(cipher->Seal(kTenant, kKey, body, buffer).ok());
  EXPECT_NE(buffer.substr(kSealedHeaderBytes), plain);
  ASSERT_TRUE(cipher->Open(kTenant, kKey, buffer, body).ok());
  EXPECT_EQ(buffer.substr(kSealedHeaderBytes), plain);
}

TEST(BlockCipherTest, EveryFlippedBitIsFoundAndNothingUnverifiedIsGivenOut) {
  const auto cipher = Cipher(Keys({1}));
  const std::string plain = Plain(40);
  const std::string sealed = Seal(cipher.get(), plain);
  for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    std::string bad = sealed;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    std::string opened;
    const absl::Status status = Open(cipher.get(), bad, &opened);
    const bool in_key_id = bit / 8 >= 4 && bit / 8 < 8;
    EXPECT_EQ(status.code(), in_key_id ? absl::StatusCode::kNotFound
                                       : absl::StatusCode::kDataLoss)
        << "bit " << bit;
    for (const char byte : opened) {
      EXPECT_TRUE(byte == 0 || byte == 'x') << "bit " << bit;
    }
  }
  std::string opened;
  EXPECT_TRUE(Open(cipher.get(), sealed, &opened).ok());
}

TEST(BlockCipherTest, RandomDamageIsFoundInBlocksOfAllSizes) {
  const auto cipher = Cipher(Keys({1, 2}));
  constexpr std::uint64_t kSeed = 20'261;
  std::mt19937_64 random(kSeed);
  for (int round = 0; round < 500; ++round) {
    const std::string plain = Plain(1 + random() % 5000);
    std::string bad = Seal(cipher.get(), plain);
    const std::string sealed = bad;
    for (std::uint64_t flips = 1 + random() % 8; flips > 0; --flips) {
      const std::uint64_t bit = random() % (bad.size() * 8);
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    }
    if (random() % 4 == 0) bad.resize(49 + random() % (bad.size() - 48));
    if (random() % 8 == 0) bad += static_cast<char>(random());
    if (bad == sealed) continue;
    std::string opened;
    EXPECT_FALSE(Open(cipher.get(), bad, &opened).ok())
        << "seed " << kSeed << " round " << round;
  }
}

TEST(BlockCipherTest, IsBoundToTenantKeyAndLength) {
  const auto cipher = Cipher(Keys({1}));
  const std::string sealed = Seal(cipher.get(), Plain(100));
  std::string out(100, 0);
  Key other = kKey;
  other.name[2] ^= 1;
  const absl::Status wrong = cipher->Open(kTenant + 1, kKey, sealed, out);
  EXPECT_EQ(wrong.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(StatusMessage(wrong), HasSubstr("tenant 1234605616436508553"));
  EXPECT_EQ(cipher->Open(kTenant, other, sealed, out).code(),
            absl::StatusCode::kDataLoss);
  // All bytes came, and of another length.
  ASSERT_TRUE(cipher
                  ->StartOpen(kTenant, kKey,
                              std::span(sealed).first(kSealedHeaderBytes), 99)
                  .ok());
  ASSERT_TRUE(cipher
                  ->UpdateOpen(std::span(sealed).subspan(48, 99),
                               std::span(out).first(99))
                  .ok());
  EXPECT_EQ(cipher->FinishOpen().code(), absl::StatusCode::kDataLoss);
}

TEST(BlockCipherTest, AKeyThatIsNotKnownIsNamed) {
  const auto sealer = Cipher(Keys({1, 77}));
  const std::string sealed = Seal(sealer.get(), "block");
  EXPECT_EQ(HeaderOf(sealed).key_id, 77u);
  std::string opened;
  const absl::Status status = Open(Cipher(Keys({1})).get(), sealed, &opened);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(StatusMessage(status), HasSubstr("key id 77"));
  // The id is known, its secret is another.
  EXPECT_EQ(Open(Cipher(Keys({77}, 8)).get(), sealed, &opened).code(),
            absl::StatusCode::kDataLoss);
}

TEST(BlockCipherTest, OldKeysOpenWhatANewerOneDoesNotSealAnyMore) {
  const std::string sealed = Seal(Cipher(Keys({3})).get(), "old");
  const auto rotated = Cipher(Keys({3, 4}));
  std::string opened;
  EXPECT_TRUE(Open(rotated.get(), sealed, &opened).ok());
  EXPECT_EQ(opened, "old");
  EXPECT_EQ(HeaderOf(Seal(rotated.get(), "new")).key_id, 4u);
}

TEST(BlockCipherTest, NoTwoBlocksShareSubkeyAndNonce) {
  const auto keys = Keys({1});
  std::set<std::string> seen;
  std::set<std::string> salts;
  for (int instance = 0; instance < 8; ++instance) {
    const auto cipher = Cipher(keys, 10);
    for (int i = 0; i < 35; ++i) {
      const std::string sealed = Seal(cipher.get(), "same");
      EXPECT_TRUE(seen.insert(sealed.substr(8, 24)).second);
      salts.insert(sealed.substr(8, 16));
    }
    EXPECT_EQ(cipher->counter(), 5u);
  }
  EXPECT_EQ(salts.size(), 8u * 4u);
}

TEST(BlockCipherTest, OpensWhatMoreWritersSealedThanItRemembers) {
  const auto keys = Keys({1});
  std::vector<std::string> sealed;
  const auto sealer = Cipher(keys, 1);  // a subkey a block
  for (int i = 0; i < 200; ++i) {
    sealed.push_back(Seal(sealer.get(), std::to_string(i)));
  }
  const auto opener = Cipher(keys);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 200; ++i) {
      std::string opened;
      ASSERT_TRUE(Open(opener.get(), sealed[i], &opened).ok()) << i;
      EXPECT_EQ(opened, std::to_string(i));
    }
  }
}

TEST(BlockCipherTest, OpensPieceByPieceAsBytesArrive) {
  const auto cipher = Cipher(Keys({1}));
  const std::string plain = Plain(100'003);
  const std::string sealed = Seal(cipher.get(), plain);
  std::string out(plain.size(), 0);
  std::mt19937_64 random(5);
  ASSERT_TRUE(
      cipher
          ->StartOpen(kTenant, kKey, std::span(sealed).first(48), plain.size())
          .ok());
  for (std::size_t at = 0; at < plain.size();) {
    const std::size_t length =
        std::min<std::size_t>(random() % 9000, plain.size() - at);
    ASSERT_TRUE(cipher
                    ->UpdateOpen(std::span(sealed).subspan(48 + at, length),
                                 std::span(out).subspan(at, length))
                    .ok());
    at += length;
  }
  EXPECT_TRUE(cipher->FinishOpen().ok());
  EXPECT_EQ(out, plain);
}

TEST(BlockCipherTest, PiecesOutOfTurnAreAnsweredAndGiveTheBlockUp) {
  const auto cipher = Cipher(Keys({1}));
  const std::string sealed = Seal(cipher.get(), Plain(100));
  std::string out(200, 0);
  EXPECT_EQ(cipher->FinishOpen().code(), absl::StatusCode::kFailedPrecondition);
  const auto header = std::span(sealed).first(48);
  const auto body = std::span(sealed).subspan(48);
  ASSERT_TRUE(cipher->StartOpen(kTenant, kKey, header, 100).ok());
  ASSERT_TRUE(
      cipher->UpdateOpen(body.first(99), std::span(out).first(99)).ok());
  const absl::Status missing = cipher->FinishOpen();
  EXPECT_EQ(missing.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(StatusMessage(missing), HasSubstr("1 sealed bytes are missing"));
  ASSERT_TRUE(cipher->StartOpen(kTenant, kKey, header, 50).ok());
  EXPECT_EQ(cipher->UpdateOpen(body, std::span(out).first(100)).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cipher->FinishOpen().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(BlockCipherTest, LengthsOutOfRangeAreAnswered) {
  const auto cipher = Cipher(Keys({1}));
  std::string out(SealedBytes(kMaxBlockBytes + 1), 0);
  EXPECT_EQ(cipher->Seal(kTenant, kKey, {}, std::span(out).first(48)).code(),
            absl::StatusCode::kInvalidArgument);
  const std::string large(kMaxBlockBytes + 1, 'a');
  EXPECT_EQ(cipher->Seal(kTenant, kKey, large, out).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cipher
                ->Seal(kTenant, kKey, std::span(large).first(8),
                       std::span(out).first(55))
                .code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cipher->Open(kTenant, kKey, std::span(out).first(48), {}).code(),
            absl::StatusCode::kDataLoss);
  std::string opened;
  std::string future = Seal(cipher.get(), "later");
  future[0] = 2;
  EXPECT_THAT(StatusMessage(Open(cipher.get(), future, &opened)),
              HasSubstr("format 2"));
}

// Made with Python's cryptography (HKDF, AESGCM) from the format's description:
// a change that sealing and opening share is seen here.
TEST(BlockCipherTest, TheFormatIsTheOneOfVersionOne) {
  static const unsigned char kSealed[] = {
      0x01, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x03,
      0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
      0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x4e, 0x34, 0xe8, 0x74,
      0xbf, 0x94, 0x25, 0x2d, 0xd9, 0x12, 0x0e, 0xba, 0xab, 0x3e, 0xff, 0x6f,
      0x1e, 0xf1, 0xa1, 0x36, 0x49, 0xb4, 0xe8, 0x97};
  std::string sealed(reinterpret_cast<const char*>(kSealed), sizeof(kSealed));
  std::string opened;
  const absl::Status status = Open(Cipher(Keys({1})).get(), sealed, &opened);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(opened, "agentmem");
}

}  // namespace
}  // namespace agentmem
