// Lookup in an index that is laid out by hand, as docs/formats.md draws it.
#include "proto/index_reader.h"

#include <gtest/gtest.h>

#include <string>

namespace agentmem {
namespace {

constexpr std::uint64_t kBuckets = 16;
constexpr std::uint64_t kSlots = 8;

struct alignas(64) Memory {
  IndexHeader header;
  Bucket buckets[kBuckets];
  Slot slots[kSlots];
  Slot beyond;
};

// Without the slot beyond.
constexpr std::uint64_t kBytes = offsetof(Memory, beyond);

class IndexReaderTest : public ::testing::Test {
 protected:
  IndexReaderTest() {
    memory_.header.magic = kIndexMagic;
    memory_.header.version = kIndexVersion;
    memory_.header.header_bytes = sizeof(IndexHeader);
    memory_.header.probe_limit = kProbeLimit;
    memory_.header.bucket_count = kBuckets;
    memory_.header.buckets_offset = offsetof(Memory, buckets);
    memory_.header.slot_count = kSlots;
    memory_.header.slots_offset = offsetof(Memory, slots);
  }

  // The bucket that is `steps` behind the key's home.
  Bucket& BucketOf(const Key& key, std::uint64_t steps = 0) {
    return memory_.buckets[(HashKey(key) + steps) % kBuckets];
  }
  void Fill(std::uint32_t slot, const Key& key, std::uint64_t generation) {
    memory_.slots[slot].key_low = key.low();
    memory_.slots[slot].key_high = key.high();
    memory_.slots[slot].generation = generation;
  }
  // As if the key had found its first `steps` buckets full.
  void MarkPassed(const Key& key, std::uint64_t steps) {
    for (std::uint64_t i = 0; i < steps; ++i) ++BucketOf(key, i).overflow;
  }
  static std::uint64_t Resident(const Key& key, std::uint32_t slot) {
    return ResidentEntry(HashKey(key), SlotIndex(slot), BlockClass::kState);
  }
  IndexReader::Found Find(const Key& key) {
    EXPECT_EQ(IndexReader::Validate(&memory_, kBytes), "");
    return IndexReader(&memory_).Find(key);
  }
  // Why an index with this change is refused; the change is undone.
  template <typename Field, typename Value>
  std::string RefusalWith(Field IndexHeader::*field, Value value) {
    const Field before = memory_.header.*field;
    memory_.header.*field = static_cast<Field>(value);
    const std::string why = IndexReader::Validate(&memory_, kBytes);
    memory_.header.*field = before;
    return why;
  }

  Memory memory_ = {};
  const Key key_{7, {1, 2, 3}};
  const Key other_{8, {4, 5, 6}};
};

TEST_F(IndexReaderTest, ABlockInDramIsFoundWithItsSlotAndGeneration) {
  Fill(5, key_, 31);
  BucketOf(key_).entries[6] = Resident(key_, 5);
  const IndexReader::Found found = Find(key_);
  EXPECT_EQ(found.kind, EntryKind::kResident);
  EXPECT_EQ(found.block_class, BlockClass::kState);
  EXPECT_EQ(found.slot, SlotIndex(5));
  EXPECT_EQ(found.generation, 31u);
  EXPECT_EQ(Find(other_).kind, EntryKind::kEmpty);
}

TEST_F(IndexReaderTest, ABlockBelowIsFoundByItsFingerprint) {
  BucketOf(key_).entries[0] =
      BelowEntry(key_, EntryKind::kInStore, BlockClass::kState);
  BucketOf(other_).entries[1] =
      BelowEntry(other_, EntryKind::kInPool, BlockClass::kCache);
  EXPECT_EQ(Find(key_).kind, EntryKind::kInStore);
  EXPECT_EQ(Find(key_).block_class, BlockClass::kState);
  EXPECT_EQ(Find(other_).kind, EntryKind::kInPool);
  EXPECT_EQ(Find(other_).block_class, BlockClass::kCache);
}

TEST_F(IndexReaderTest, AnotherFingerprintInTheSameBucketIsPassedOver) {
  BucketOf(key_).entries[0] =
      BelowEntry(other_, EntryKind::kInStore, BlockClass::kState);
  EXPECT_EQ(Find(key_).kind, EntryKind::kEmpty);
}

TEST_F(IndexReaderTest, AnUnpublishedSlotIsPassedOver) {
  Fill(5, key_, 30);
  BucketOf(key_).entries[0] = Resident(key_, 5);
  EXPECT_EQ(Find(key_).kind, EntryKind::kEmpty);
}

TEST_F(IndexReaderTest, ATagThatTwoKeysShareIsSettledByTheKeyInTheSlot) {
  Fill(2, other_, 11);
  Fill(3, key_, 13);
  BucketOf(key_).entries[0] = Resident(key_, 2);  // the tag, another's slot
  EXPECT_EQ(Find(key_).kind, EntryKind::kEmpty);
  BucketOf(key_).entries[4] = Resident(key_, 3);
  EXPECT_EQ(Find(key_).slot, SlotIndex(3));
}

TEST_F(IndexReaderTest, ASlotNumberBeyondTheIndexIsPassedOver) {
  memory_.beyond.key_low = key_.low();
  memory_.beyond.key_high = key_.high();
  memory_.beyond.generation = 3;
  BucketOf(key_).entries[0] = Resident(key_, kSlots);
  EXPECT_EQ(Find(key_).kind, EntryKind::kEmpty);
}

TEST_F(IndexReaderTest, ALookEndsAtTheFirstBucketThatNothingPassed) {
  Fill(1, key_, 3);
  BucketOf(key_, 3).entries[0] = Resident(key_, 1);
  MarkPassed(key_, 2);
  EXPECT_EQ(Find(key_).kind, EntryKind::kEmpty);
  ++BucketOf(key_, 2).overflow;
  EXPECT_EQ(Find(key_).slot, SlotIndex(1));
}

TEST_F(IndexReaderTest, ALookGoesOnAtTheFirstBucketAfterTheLast) {
  Key key = key_;
  while (HashKey(key) % kBuckets != kBuckets - 1) ++key.group;
  Fill(1, key, 3);
  memory_.buckets[0].entries[0] = Resident(key, 1);
  MarkPassed(key, 1);
  EXPECT_EQ(Find(key).slot, SlotIndex(1));
}

TEST_F(IndexReaderTest, ALookIsBoundedWhateverTheCountsSay) {
  Fill(1, key_, 3);
  MarkPassed(key_, kBuckets);
  BucketOf(key_, kProbeLimit).entries[0] = Resident(key_, 1);
  EXPECT_EQ(Find(key_).kind, EntryKind::kEmpty);
  BucketOf(key_, kProbeLimit - 1).entries[0] = Resident(key_, 1);
  EXPECT_EQ(Find(key_).slot, SlotIndex(1));
}

TEST_F(IndexReaderTest, TheSecondLookTellsOneGenerationFromAllOthers) {
  Fill(4, key_, 9);
  const IndexReader reader(&memory_);
  EXPECT_TRUE(reader.StillPublished(SlotIndex(4), 9));
  Fill(4, key_, 10);
  EXPECT_FALSE(reader.StillPublished(SlotIndex(4), 9));
  Fill(4, key_, 11);
  EXPECT_FALSE(reader.StillPublished(SlotIndex(4), 9));
}

TEST_F(IndexReaderTest, AHeaderThatDoesNotFitItsFileIsRefused) {
  EXPECT_EQ(IndexReader::Validate(&memory_, kBytes), "");
  EXPECT_NE(IndexReader::Validate(&memory_, kBytes - 1), "");
  EXPECT_NE(IndexReader::Validate(&memory_, sizeof(IndexHeader) - 1), "");
  EXPECT_NE(RefusalWith(&IndexHeader::magic, kIndexMagic + 1), "");
  for (const std::uint64_t count : {0ULL, 3ULL, 1ULL << 20, 1ULL << 63}) {
    EXPECT_NE(RefusalWith(&IndexHeader::bucket_count, count), "") << count;
  }
  for (const std::uint64_t offset : {8ULL, 1ULL << 20, ~0ULL - 63}) {
    EXPECT_NE(RefusalWith(&IndexHeader::buckets_offset, offset), "") << offset;
    EXPECT_NE(RefusalWith(&IndexHeader::slots_offset, offset), "") << offset;
  }
  for (const std::uint64_t count : {9ULL, 1ULL << 20, ~0ULL}) {
    EXPECT_NE(RefusalWith(&IndexHeader::slot_count, count), "") << count;
  }
}

TEST_F(IndexReaderTest, AnotherVersionIsRefusedNamingBoth) {
  const std::string why = RefusalWith(&IndexHeader::version, kIndexVersion + 8);
  EXPECT_NE(why.find("version 9"), std::string::npos) << why;
  EXPECT_NE(why.find("version 1"), std::string::npos) << why;
}

}  // namespace
}  // namespace agentmem
