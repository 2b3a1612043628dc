// What docs/formats.md says of sizes and offsets. A change here is a change of
// a format: it needs a new version.
#include <gtest/gtest.h>

#include "proto/client_layout.h"
#include "proto/handshake.h"
#include "proto/index_reader.h"
#include "proto/size_class.h"

namespace agentmem {
namespace {

TEST(LayoutTest, TheHandshakeIsAsDocumented) {
  EXPECT_EQ(offsetof(Hello, version_min), 24u);
  EXPECT_EQ(offsetof(Hello, tenant), 32u);
  EXPECT_EQ(offsetof(Hello, client_name), 96u);
  EXPECT_EQ(offsetof(Welcome, client_id), 24u);
  EXPECT_EQ(offsetof(Welcome, tenant_id), 40u);
  EXPECT_EQ(offsetof(Welcome, data_bytes), 56u);
  EXPECT_EQ(offsetof(Welcome, tenant_key), 96u);
  EXPECT_EQ(offsetof(Welcome, token), 128u);
  EXPECT_EQ(offsetof(Welcome, tenant), 144u);
  EXPECT_EQ(offsetof(Refusal, code), 24u);
  EXPECT_EQ(offsetof(Refusal, message), 32u);
}

TEST(LayoutTest, TheClientFileIsAsDocumented) {
  EXPECT_EQ(kSubmissionOffset, 4096u);
  EXPECT_EQ(kCompletionOffset, 69'632u);
  EXPECT_EQ(kGrantOffset, 200'704u);
  EXPECT_EQ(kThreadTableOffset, 208'896u);
  EXPECT_EQ(kClientFileBytes, 471'040u);
  EXPECT_EQ(offsetof(ClientHeader, submission_tail), 64u);
  EXPECT_EQ(offsetof(ClientHeader, submission_head), 128u);
  EXPECT_EQ(offsetof(ClientHeader, completion_tail), 192u);
  EXPECT_EQ(offsetof(ClientHeader, completion_head), 256u);
  EXPECT_EQ(offsetof(ClientHeader, completion_signal), 320u);
  EXPECT_EQ(offsetof(ClientHeader, memd_sleeping), 384u);
  EXPECT_EQ(offsetof(ThreadTable, pins), 64u);
  EXPECT_EQ(offsetof(ThreadTable, notes), 1088u);
}

TEST(LayoutTest, APlaceKeepsOffsetLengthAndClass) {
  for (const std::uint64_t offset : {0ULL, 512ULL, (1ULL << 48) - 512}) {
    for (const std::uint32_t length : {1u, 4u << 20}) {
      const Place place(offset, length, BlockClass::kState);
      EXPECT_EQ(place.data_offset(), offset);
      EXPECT_EQ(place.length(), length);
      EXPECT_EQ(place.block_class(), BlockClass::kState);
      EXPECT_EQ(Place(offset, length, BlockClass::kCache).block_class(),
                BlockClass::kCache);
    }
  }
}

TEST(LayoutTest, SlotsOfEveryClassLieOnTheUnitOfPlaces) {
  for (std::uint8_t i = 0; i < kSizeClasses; ++i) {
    EXPECT_EQ(SizeClassBytes(i) % Place::kOffsetUnit, 0u);
    EXPECT_EQ(SizeClassOf(SizeClassBytes(i)), i);
  }
}

TEST(LayoutTest, TheHashOfAKeyIsPartOfTheFormat) {
  EXPECT_EQ(HashKey(Key{1, {2, 3, 4}}),
            HashKey(Key::FromWords(0x200000001, 0x400000003)));
  // Computed once, by hand, with 128-bit integers in Python.
  EXPECT_EQ(HashKey(Key{1, {2, 3, 4}}), 0x6f1922d9139dbe24ULL);
}

TEST(LayoutTest, AnIndexOfAnotherVersionIsRefusedNamingBoth) {
  alignas(64) static char memory[8192] = {};
  auto* header = reinterpret_cast<IndexHeader*>(memory);
  header->magic = kIndexMagic;
  header->version = 9;
  const std::string why = IndexReader::Validate(memory, sizeof(memory));
  EXPECT_NE(why.find("version 9"), std::string::npos) << why;
  EXPECT_NE(why.find("version 1"), std::string::npos) << why;
  EXPECT_NE(IndexReader::Validate(memory, 100), "");
  header->version = kIndexVersion;
  header->bucket_count = 3;  // not a power of two
  EXPECT_NE(IndexReader::Validate(memory, sizeof(memory)), "");
  header->bucket_count = 1ULL << 40;  // larger than the file
  EXPECT_NE(IndexReader::Validate(memory, sizeof(memory)), "");
}

}  // namespace
}  // namespace agentmem
