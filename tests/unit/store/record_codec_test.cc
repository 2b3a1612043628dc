#include "memd/store/record_codec.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/status.h"
#include "proto/segment_layout.h"

namespace agentmem {
namespace {

const TenantId kTenant(7);
const Key kKey = Key::FromWords(0x0706050403020100, 0x0f0e0d0c0b0a0908);

std::string RecordOf(const std::string& bytes) {
  const RecordHeader header =
      MakeRecordHeader(kTenant, kKey, BlockClass::kState, bytes);
  std::string record(sizeof(header), '\0');
  std::memcpy(record.data(), &header, sizeof(header));
  return record + bytes;
}

absl::StatusCode CodeOf(const std::string& record) {
  return CheckRecord(kTenant, kKey, record).status().code();
}

TEST(RecordCodec, ARecordThatWasMadeIsRead) {
  const std::string record = RecordOf("the bytes");
  const auto bytes = CheckRecord(kTenant, kKey, record);
  ASSERT_TRUE(bytes.ok()) << bytes.status().ToString();
  EXPECT_EQ(std::string(bytes->data(), bytes->size()), "the bytes");
}

TEST(RecordCodec, OneWrongBitAnywhereInARecordIsDataLoss) {
  const std::string good = RecordOf("the bytes");
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_EQ(CodeOf(bad), absl::StatusCode::kDataLoss) << "bit " << bit;
  }
}

TEST(RecordCodec, ARecordThatWasCutOrGrewIsDataLoss) {
  const std::string good = RecordOf("the bytes");
  for (std::size_t length = 0; length < good.size(); ++length) {
    EXPECT_EQ(CodeOf(good.substr(0, length)), absl::StatusCode::kDataLoss);
  }
  EXPECT_EQ(CodeOf(good + "x"), absl::StatusCode::kDataLoss);
}

TEST(RecordCodec, TheRecordOfAnotherBlockIsDataLossAndNamesBoth) {
  const std::string record = RecordOf("the bytes");
  const auto other = CheckRecord(TenantId(8), kKey, record);
  ASSERT_EQ(other.status().code(), absl::StatusCode::kDataLoss);
  const std::string message = StatusMessage(other.status());
  EXPECT_NE(message.find("tenant 8"), std::string::npos) << message;
  EXPECT_NE(message.find("tenant 7"), std::string::npos) << message;
  EXPECT_NE(message.find("03020100:070605040b0a09080f0e0d0c"),
            std::string::npos)
      << message;
  const Key other_key = Key::FromWords(1, 2);
  EXPECT_EQ(CheckRecord(kTenant, other_key, record).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(RecordCodec, TheFormatOnDiskIsVersionOneByteForByte) {
  const std::string record = RecordOf("the bytes");
  static constexpr unsigned char kExpected[40] = {
      'A', 'G', 'E', 'M', 'R', 'E', 'C', '1', 1,  0,  0,  0, 2, 0,
      0,   0,   9,   0,   0,   0,   7,   0,   0,  0,  0,  1, 2, 3,
      4,   5,   6,   7,   8,   9,   10,  11,  12, 13, 14, 15};
  EXPECT_EQ(std::memcmp(record.data(), kExpected, sizeof(kExpected)), 0);
}

TEST(RecordCodec, StoreKeysSortByTenant) {
  const StoreKey low = EncodeStoreKey(TenantId(255), kKey);
  const StoreKey high = EncodeStoreKey(TenantId(256), Key());
  EXPECT_LT(std::memcmp(low.data(), high.data(), low.size()), 0);
}

TEST(RecordCodec, ALocationIsReadBackAndOtherBytesAreDataLoss) {
  const StoreKey key = EncodeStoreKey(kTenant, kKey);
  const std::string_view store_key(key.data(), key.size());
  const auto is_loss = [&](std::string_view k, const std::string& v) {
    return DecodeLocation(k, v).status().code() == absl::StatusCode::kDataLoss;
  };
  const SegmentPlace in_blocks;
  const SegmentPlace in_segment = {7, 5 * 4096, 0x1122334455667788};
  for (const SegmentPlace& place : {in_blocks, in_segment}) {
    const std::string value = EncodeLocation(BlockClass::kState, 4096, place);
    EXPECT_EQ(value.size(), place.in_segment() ? 48u : 16u);
    const auto found = DecodeLocation(store_key, value);
    ASSERT_TRUE(found.ok()) << found.status().ToString();
    EXPECT_EQ(found->block.tenant, kTenant);
    EXPECT_EQ(found->block.key, kKey);
    EXPECT_EQ(found->block.block_class, BlockClass::kState);
    EXPECT_EQ(found->block.length, 4096u);
    EXPECT_EQ(found->place, place);
    EXPECT_TRUE(is_loss(store_key, value.substr(1)));
    EXPECT_TRUE(is_loss(store_key, value + "x"));
    EXPECT_TRUE(is_loss(store_key, ""));
    EXPECT_TRUE(is_loss(store_key.substr(1), value));
    for (const std::size_t at : {0, 7, 8}) {  // version, length, class
      std::string bad = value;
      bad[at] = 9;
      EXPECT_TRUE(is_loss(store_key, bad)) << at;
    }
  }
}

TEST(RecordCodec, ALocationOutsideOfAnySegmentIsDataLoss) {
  const StoreKey key = EncodeStoreKey(kTenant, kKey);
  const auto decoded = [&](std::uint64_t offset, std::uint32_t length) {
    return DecodeLocation(
               {key.data(), key.size()},
               EncodeLocation(BlockClass::kCache, length, {1, offset, 0}))
        .ok();
  };
  EXPECT_TRUE(decoded(kSegmentBytes - 65536, 65536));
  EXPECT_FALSE(decoded(kSegmentBytes - 65536, 65537));
  EXPECT_FALSE(decoded(4097, 65536));
  EXPECT_FALSE(decoded(~std::uint64_t{4095}, 65536));
}

TEST(RecordCodec, ARefIsReadBackAndOtherBytesAreDataLoss) {
  const std::string value = EncodeRef({"the value", 5, Fence(6)});
  const auto ref = DecodeRef("name", value);
  ASSERT_TRUE(ref.ok()) << ref.status().ToString();
  EXPECT_EQ(ref->value, "the value");
  EXPECT_EQ(ref->version, 5u);
  EXPECT_EQ(ref->fence, Fence(6));
  std::string other_format = value;
  other_format[0] = 2;
  for (const std::string& bad :
       {value.substr(0, 23), value.substr(0, 30), value + "x", other_format}) {
    EXPECT_EQ(DecodeRef("name", bad).status().code(),
              absl::StatusCode::kDataLoss);
  }
}

}  // namespace
}  // namespace agentmem
