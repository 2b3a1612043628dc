// What docs/formats.md says of sizes and offsets. A change here is a change of
// a format: it needs a new version.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "proto/agent_layout.h"
#include "proto/client_layout.h"
#include "proto/handshake.h"
#include "proto/index_layout.h"
#include "proto/manifest_layout.h"
#include "proto/object_layout.h"
#include "proto/record_layout.h"
#include "proto/size_class.h"

namespace agentmem {
namespace {

std::string AsText(std::uint64_t magic) {
  char text[sizeof(magic)];
  std::memcpy(text, &magic, sizeof(magic));
  return std::string(text, sizeof(text));
}

TEST(LayoutTest, MagicNumbersReadAsText) {
  EXPECT_EQ(AsText(kWireMagic), "AGMWIRE1");
  EXPECT_EQ(AsText(kIndexMagic), "AGEMIDX1");
  EXPECT_EQ(AsText(kClientMagic), "AGEMICL1");
  EXPECT_EQ(AsText(kRecordMagic), "AGEMREC1");
  EXPECT_EQ(AsText(kObjectMagic), "AGEMOBJ1");
  EXPECT_EQ(AsText(kVersionMagic), "AGEMVER1");
  EXPECT_EQ(AsText(kNodeMagic), "AGEMNOD1");
  EXPECT_EQ(AsText(kAgentMagic), "AGEMAGT1");
}

TEST(LayoutTest, AKeyIsItsGroupAndThenItsName) {
  EXPECT_EQ(sizeof(Key), 16u);
  EXPECT_EQ(offsetof(Key, group), 0u);
  EXPECT_EQ(offsetof(Key, name), 4u);
}

TEST(LayoutTest, TheHandshakeIsAsDocumented) {
  EXPECT_EQ(sizeof(MessageHeader), 24u);
  EXPECT_EQ(offsetof(MessageHeader, version), 8u);
  EXPECT_EQ(offsetof(MessageHeader, type), 12u);
  EXPECT_EQ(offsetof(MessageHeader, bytes), 16u);
  EXPECT_EQ(sizeof(Hello), 160u);
  EXPECT_EQ(sizeof(Welcome), 208u);
  EXPECT_EQ(sizeof(Refusal), 288u);
  EXPECT_EQ(offsetof(Hello, flags), 28u);
  EXPECT_EQ(offsetof(Welcome, instance), 32u);
  EXPECT_EQ(offsetof(Welcome, hold_quota_bytes), 80u);
  EXPECT_EQ(offsetof(Refusal, version_max), 28u);
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
  EXPECT_EQ(offsetof(ClientHeader, waiters), 324u);
  EXPECT_EQ(offsetof(ClientHeader, memd_sleeping), 384u);
  EXPECT_EQ(offsetof(ClientHeader, thread_table_mask), 448u);
  EXPECT_EQ(offsetof(ClientHeader, client_id), 16u);
  EXPECT_EQ(offsetof(ClientHeader, instance), 24u);
  EXPECT_EQ(offsetof(ClientHeader, start_time), 32u);
  EXPECT_EQ(offsetof(ClientHeader, pid), 40u);
  EXPECT_EQ(sizeof(ThreadTable), 4096u);
  EXPECT_EQ(offsetof(ThreadTable, pins), 64u);
  EXPECT_EQ(offsetof(ThreadTable, notes), 1088u);
}

TEST(LayoutTest, MessagesInTheRingsAreAsDocumented) {
  EXPECT_EQ(sizeof(SubmissionEntry), 64u);
  EXPECT_EQ(offsetof(SubmissionEntry, op), 8u);
  EXPECT_EQ(offsetof(SubmissionEntry, block_class), 9u);
  EXPECT_EQ(offsetof(SubmissionEntry, ack), 10u);
  EXPECT_EQ(offsetof(SubmissionEntry, grant), 12u);
  EXPECT_EQ(offsetof(SubmissionEntry, sequence), 16u);
  EXPECT_EQ(offsetof(SubmissionEntry, key), 24u);
  EXPECT_EQ(offsetof(SubmissionEntry, deadline_ns), 40u);
  EXPECT_EQ(offsetof(SubmissionEntry, length), 48u);
  EXPECT_EQ(offsetof(SubmissionEntry, slot), 52u);
  EXPECT_EQ(offsetof(SubmissionEntry, trace), 56u);
  EXPECT_EQ(sizeof(CompletionEntry), 64u);
  EXPECT_EQ(offsetof(CompletionEntry, kind), 8u);
  EXPECT_EQ(offsetof(CompletionEntry, code), 10u);
  EXPECT_EQ(offsetof(CompletionEntry, reason), 12u);
  EXPECT_EQ(offsetof(CompletionEntry, tier), 14u);
  EXPECT_EQ(offsetof(CompletionEntry, slot), 16u);
  EXPECT_EQ(offsetof(CompletionEntry, length), 20u);
  EXPECT_EQ(offsetof(CompletionEntry, generation), 24u);
  EXPECT_EQ(offsetof(CompletionEntry, detail), 32u);
  EXPECT_EQ(sizeof(GrantEntry), 32u);
  EXPECT_EQ(offsetof(GrantEntry, data_offset), 8u);
  EXPECT_EQ(offsetof(GrantEntry, slot_bytes), 16u);
  EXPECT_EQ(PackGrant(5, GrantState::kWriting), 0x502u);
}

TEST(LayoutTest, TheIndexIsAsDocumented) {
  EXPECT_EQ(offsetof(IndexHeader, version), 8u);
  EXPECT_EQ(offsetof(IndexHeader, tenant_id), 16u);
  EXPECT_EQ(offsetof(IndexHeader, probe_limit), 20u);
  EXPECT_EQ(offsetof(IndexHeader, bucket_count), 24u);
  EXPECT_EQ(offsetof(IndexHeader, buckets_offset), 32u);
  EXPECT_EQ(offsetof(IndexHeader, slot_count), 40u);
  EXPECT_EQ(offsetof(IndexHeader, slots_offset), 48u);
  EXPECT_EQ(offsetof(IndexHeader, data_bytes), 56u);
  EXPECT_EQ(offsetof(IndexHeader, instance), 64u);
  EXPECT_EQ(sizeof(Bucket), 64u);
  EXPECT_EQ(offsetof(Bucket, overflow), 56u);
  EXPECT_EQ(sizeof(Slot), 32u);
  EXPECT_EQ(offsetof(Slot, key_low), 8u);
  EXPECT_EQ(offsetof(Slot, key_high), 16u);
  EXPECT_EQ(offsetof(Slot, place), 24u);
}

TEST(LayoutTest, AnEntryHasItsBitsWhereTheyAreDrawn) {
  const Key key{1, {2, 3, 4}};
  const std::uint64_t tag = (HashKey(key) >> 43) << 40;
  EXPECT_EQ(ResidentEntry(HashKey(key), SlotIndex(9), BlockClass::kState),
            (1ULL << 62) | (1ULL << 61) | tag | 9);
  EXPECT_EQ(ResidentEntry(HashKey(key), SlotIndex(9), BlockClass::kCache),
            (1ULL << 62) | tag | 9);
  // Of the key with its halves exchanged.
  EXPECT_EQ(FingerprintOf(key),
            HashKey(Key{3, {4, 1, 2}}) & ((1ULL << 61) - 1));
  EXPECT_EQ(BelowEntry(key, EntryKind::kInStore, BlockClass::kCache),
            (2ULL << 62) | FingerprintOf(key));
  EXPECT_EQ(BelowEntry(key, EntryKind::kInPool, BlockClass::kState),
            (3ULL << 62) | (1ULL << 61) | FingerprintOf(key));
}

TEST(LayoutTest, WhatTheStoreWritesIsAsDocumented) {
  EXPECT_EQ(kStoreKeyBytes, 20u);
  EXPECT_EQ(sizeof(RecordHeader), 64u);
  EXPECT_EQ(offsetof(RecordHeader, version), 8u);
  EXPECT_EQ(offsetof(RecordHeader, block_class), 12u);
  EXPECT_EQ(offsetof(RecordHeader, length), 16u);
  EXPECT_EQ(offsetof(RecordHeader, tenant), 20u);
  EXPECT_EQ(offsetof(RecordHeader, key), 24u);
  EXPECT_EQ(offsetof(RecordHeader, bytes_checksum), 40u);
  EXPECT_EQ(offsetof(RecordHeader, key_id), 48u);
  EXPECT_EQ(offsetof(RecordHeader, header_checksum), 56u);
  EXPECT_EQ(sizeof(LocationRecord), 16u);
  EXPECT_EQ(offsetof(LocationRecord, length), 4u);
  EXPECT_EQ(offsetof(LocationRecord, block_class), 8u);
  EXPECT_EQ(sizeof(RefHeader), 24u);
  EXPECT_EQ(offsetof(RefHeader, value_bytes), 4u);
  EXPECT_EQ(offsetof(RefHeader, version), 8u);
  EXPECT_EQ(offsetof(RefHeader, fence), 16u);
}

TEST(LayoutTest, TheRootOfAnObjectIsAsDocumented) {
  EXPECT_EQ(sizeof(ObjectHeader), 64u);
  EXPECT_EQ(offsetof(ObjectHeader, version), 8u);
  EXPECT_EQ(offsetof(ObjectHeader, header_bytes), 12u);
  EXPECT_EQ(offsetof(ObjectHeader, length), 16u);
  EXPECT_EQ(offsetof(ObjectHeader, chunk_bytes), 24u);
  EXPECT_EQ(offsetof(ObjectHeader, flags), 28u);
  EXPECT_EQ(offsetof(ObjectHeader, nonce), 32u);
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

TEST(LayoutTest, VersionsOfRegionsAreAsDocumented) {
  EXPECT_EQ(sizeof(VersionHeader), 176u);
  EXPECT_EQ(offsetof(VersionHeader, region_id), 16u);
  EXPECT_EQ(offsetof(VersionHeader, number), 24u);
  EXPECT_EQ(offsetof(VersionHeader, parent_key), 32u);
  EXPECT_EQ(offsetof(VersionHeader, parent_number), 48u);
  EXPECT_EQ(offsetof(VersionHeader, parent_bytes), 56u);
  EXPECT_EQ(offsetof(VersionHeader, flags), 60u);
  EXPECT_EQ(offsetof(VersionHeader, related_number), 64u);
  EXPECT_EQ(offsetof(VersionHeader, wall_time_ns), 72u);
  EXPECT_EQ(offsetof(VersionHeader, trace_id), 80u);
  EXPECT_EQ(offsetof(VersionHeader, region_bytes), 96u);
  EXPECT_EQ(offsetof(VersionHeader, changed_bytes), 104u);
  EXPECT_EQ(offsetof(VersionHeader, changed_pages), 112u);
  EXPECT_EQ(offsetof(VersionHeader, mapped_pages), 116u);
  EXPECT_EQ(offsetof(VersionHeader, root_key), 120u);
  EXPECT_EQ(offsetof(VersionHeader, root_bytes), 136u);
  EXPECT_EQ(offsetof(VersionHeader, tree_pages), 140u);
  EXPECT_EQ(offsetof(VersionHeader, root_level), 144u);
  EXPECT_EQ(offsetof(VersionHeader, ack), 145u);
  EXPECT_EQ(offsetof(VersionHeader, message_bytes), 146u);
  EXPECT_EQ(offsetof(VersionHeader, payload_bytes), 152u);
  EXPECT_EQ(offsetof(VersionHeader, overlay_bytes), 156u);
  EXPECT_EQ(offsetof(VersionHeader, lineages), 164u);
  EXPECT_EQ(offsetof(VersionHeader, overlay_spent), 168u);
  EXPECT_EQ(sizeof(NodeHeader), 32u);
  EXPECT_EQ(offsetof(NodeHeader, level), 12u);
  EXPECT_EQ(offsetof(NodeHeader, first_page), 16u);
  EXPECT_EQ(offsetof(NodeHeader, entries), 24u);
  EXPECT_EQ(NodeSpan(0), 256u);
  EXPECT_EQ(NodeSpan(kNodeLevelMax), kRegionPagesMax);
  EXPECT_EQ(sizeof(AgentHeader), 40u);
  EXPECT_EQ(offsetof(AgentHeader, phase), 12u);
  EXPECT_EQ(offsetof(AgentHeader, lineage), 16u);
}

TEST(LayoutTest, AKeyOfARegionIsLineageFenceAndCounter) {
  const Key key = MakeRegionKey(0x1122334455667788, 0xabcdef, 0x0102030405);
  EXPECT_EQ(key.group, 0x55667788u);
  EXPECT_EQ(key.name[0], 0x11223344u);
  EXPECT_EQ(key.name[2], 0xabcdef01u);
  EXPECT_EQ(key.name[1], 0x02030405u);
  EXPECT_EQ(LineageOf(key), 0x1122334455667788u);
  EXPECT_EQ(RegionFenceOf(key), 0xabcdefu);
  EXPECT_EQ(RegionCounterOf(key), 0x0102030405u);
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

}  // namespace
}  // namespace agentmem
