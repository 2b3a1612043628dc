#include "memd/dram/index_writer.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "proto/index_reader.h"
#include "tests/unit/memd/tenant_bench.h"

namespace agentmem {
namespace {

struct SmallIndex {
  explicit SmallIndex(std::uint64_t entries)
      : shape(IndexWriter::ShapeFor(4096, entries)),
        memory(IndexWriter::BytesFor(shape)),
        writer(memory.base(), shape, TenantId(1), 1 << 20, 5),
        reader(memory.base()) {}

  IndexWriter::Shape shape;
  Pages memory;
  IndexWriter writer;
  IndexReader reader;
};

TEST(IndexWriterTest, AFreshIndexIsOneThatReadersTake) {
  SmallIndex index(64);
  EXPECT_EQ(IndexReader::Validate(index.memory.base(),
                                  IndexWriter::BytesFor(index.shape)),
            "");
  EXPECT_NE(IndexReader::Validate(index.memory.base(),
                                  IndexWriter::BytesFor(index.shape) - 1),
            "");
}

// Crowded on purpose: with 16 buckets of 7 most keys overflow their home.
TEST(IndexWriterTest, WhatWasSetIsFoundAndWhatWasRemovedIsNot) {
  SmallIndex index(60);
  std::mt19937_64 random(9);
  std::map<std::uint64_t, std::uint64_t> entries;  // key number -> entry
  std::map<std::uint64_t, IndexWriter::Cell> cells;
  for (int step = 0; step < 20'000; ++step) {
    const std::uint64_t n = random() % 90;
    const Key key = TestKey(n);
    const std::uint64_t old = entries.count(n) ? entries[n] : 0;
    const std::uint64_t next =
        random() % 3 == 0
            ? 0
            : BelowEntry(
                  key, random() % 2 ? EntryKind::kInStore : EntryKind::kInPool,
                  BlockClass::kState);
    if (old == next) continue;
    if (index.writer.Set(key, &cells[n], next) && next != 0) {
      entries[n] = next;
    } else {
      entries.erase(n);
    }
    for (std::uint64_t other = 0; other < 90; ++other) {
      const auto found = index.reader.Find(TestKey(other));
      const auto wanted = entries.find(other);
      ASSERT_EQ(found.kind, wanted == entries.end() ? EntryKind::kEmpty
                                                    : KindOf(wanted->second))
          << "step " << step << " key " << other;
    }
  }
  EXPECT_GT(entries.size(), 30u);
}

// With this word every key has the same fingerprint, and the other word chooses
// the bucket: equal entries of different keys, in neighbouring buckets.
TEST(IndexWriterTest, EqualEntriesOfDifferentKeysAreKeptApart) {
  SmallIndex index(60);
  std::vector<Key> keys;
  for (std::uint64_t n = 0; n < 60; ++n) {
    keys.push_back(Key::FromWords(0xa0761d6478bd642fULL, n * 77));
  }
  std::map<std::uint64_t, IndexWriter::Cell> cells;
  std::mt19937_64 random(4);
  for (int step = 0; step < 20'000; ++step) {
    const std::uint64_t n = random() % keys.size();
    const std::uint64_t to =
        random() % 2
            ? 0
            : BelowEntry(keys[n], EntryKind::kInStore, BlockClass::kCache);
    index.writer.Set(keys[n], &cells[n], to);
  }
  for (std::uint64_t n = 0; n < keys.size(); ++n) {
    index.writer.Set(keys[n], &cells[n], 0);
  }
  const auto* buckets = reinterpret_cast<const Bucket*>(index.memory.base() +
                                                        sizeof(IndexHeader));
  for (std::uint64_t b = 0; b < index.shape.bucket_count; ++b) {
    EXPECT_EQ(buckets[b].overflow.load(), 0u) << b;
    for (const auto& entry : buckets[b].entries) EXPECT_EQ(entry.load(), 0u);
  }
}

TEST(IndexWriterTest, PublishedSlotsAreFoundUnderOneGenerationOnly) {
  SmallIndex index(64);
  const Key key = TestKey(1);
  const std::uint64_t entry =
      ResidentEntry(HashKey(key), SlotIndex(3), BlockClass::kCache);
  EXPECT_EQ(
      index.writer.Publish(SlotIndex(3), key, 4096, 100, BlockClass::kCache),
      1u);
  IndexWriter::Cell cell;
  ASSERT_TRUE(index.writer.Set(key, &cell, entry));
  auto found = index.reader.Find(key);
  ASSERT_EQ(found.kind, EntryKind::kResident);
  EXPECT_EQ(found.slot, SlotIndex(3));
  EXPECT_TRUE(index.reader.StillPublished(found.slot, found.generation));
  index.writer.Unpublish(SlotIndex(3));
  EXPECT_FALSE(index.reader.StillPublished(found.slot, found.generation));
  EXPECT_EQ(index.reader.Find(key).kind, EntryKind::kEmpty);
  EXPECT_EQ(
      index.writer.Publish(SlotIndex(3), key, 4096, 100, BlockClass::kCache),
      3u);
}

// A tenant may choose keys that all fall into the same buckets. Its blocks are
// then not all in the index, but none is lost.
TEST(IndexWriterTest, BlocksThatTheIndexHasNoRoomForAreFoundByAsking) {
  TenantOptions options = TenantBench::SmallOptions();
  options.index_entries = 256;
  TenantBench bench(options);
  auto client = bench.Attach();
  const std::uint64_t mask =
      IndexWriter::ShapeFor(options.slots, options.index_entries).bucket_count -
      1;
  std::vector<Key> keys;
  for (std::uint64_t n = 0; keys.size() < 100; ++n) {
    if ((HashKey(TestKey(n)) & mask) == 0) keys.push_back(TestKey(n));
  }
  for (const Key& key : keys) {
    ASSERT_TRUE(bench.PostPut(client.get(), key, "crowded", BlockClass::kCache,
                              Ack::kVisible));
    ASSERT_EQ(client->Reap()->code, Code::kOk);
  }
  std::size_t in_index = 0;
  for (const Key& key : keys) {
    in_index += bench.reader().Find(key).kind == EntryKind::kResident;
    bench.PostFetch(client.get(), key);
    const auto fetched = client->Reap();
    ASSERT_TRUE(fetched.has_value());
    EXPECT_EQ(fetched->code, Code::kOk);
    bench.PostRelease(client.get(), *fetched);
  }
  EXPECT_EQ(in_index, kProbeLimit * kEntriesPerBucket);
  EXPECT_EQ(bench.tenant->CheckInvariants(), "");
}

}  // namespace
}  // namespace agentmem
