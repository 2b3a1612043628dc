// The pin protocol between real threads, with plain memory behind the slots:
// under TSan a hole in the argument of docs/data-path.md is a reported race,
// without it a wrong byte.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "memd/client.h"
#include "memd/dram/index_writer.h"
#include "proto/index_reader.h"
#include "tests/unit/memd/tenant_bench.h"

namespace agentmem {
namespace {

constexpr std::uint32_t kSlots = 4;
constexpr std::uint32_t kKeys = 16;
constexpr std::uint32_t kBytes = 512;
constexpr int kReaders = 3;
constexpr int kTurns = 20'000;          // at least,
constexpr std::uint64_t kHits = 5'000;  // and until readers had so many

struct Shared {
  Shared()
      : shape(IndexWriter::ShapeFor(kSlots, 64)),
        index(IndexWriter::BytesFor(shape)),
        data(kSlots * kBytes),
        writer(index.base(), shape, TenantId(1), kSlots * kBytes, 1) {
    for (std::uint64_t i = 1; i <= kReaders; ++i) {
      files.push_back(std::make_unique<Pages>(kClientFileBytes));
      ClientIdentity identity;
      identity.id = ClientId(i);
      clients.push_back(std::make_unique<Client>(identity, files.back()->base(),
                                                 1, &signalled, 0));
    }
  }

  IndexWriter::Shape shape;
  Pages index;
  Pages data;
  IndexWriter writer;
  std::vector<ClientId> signalled;
  std::vector<std::unique_ptr<Pages>> files;
  std::vector<std::unique_ptr<Client>> clients;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> wrong{0};
};

bool Pinned(const Shared& shared, std::uint32_t slot) {
  bool pinned = false;
  for (const auto& client : shared.clients) {
    client->ForEachPin(
        [&](std::uint64_t word) { pinned = pinned || word == slot + 1; });
  }
  return pinned;
}

// As the tenant does: unpublish, look for pins, and only then write again.
void Write(Shared* shared) {
  std::uint32_t key_in[kSlots] = {};
  bool published[kSlots] = {};
  IndexWriter::Cell cells[kSlots];
  for (std::uint32_t turn = 0; turn < kTurns || shared->hits < kHits; ++turn) {
    const std::uint32_t slot = turn % kSlots;
    if (published[slot]) {
      const Key old = TestKey(key_in[slot]);
      shared->writer.Set(old, &cells[slot], 0);
      shared->writer.Unpublish(SlotIndex(slot));
      published[slot] = false;
    }
    if (Pinned(*shared, slot)) continue;  // limbo: another turn
    const std::uint32_t next = turn * 7 % kKeys;
    bool elsewhere = false;
    for (std::uint32_t i = 0; i < kSlots; ++i) {
      elsewhere = elsewhere || (published[i] && key_in[i] == next);
    }
    if (elsewhere) continue;
    std::memset(shared->data.base() + slot * kBytes, static_cast<int>(next),
                kBytes);
    const Key key = TestKey(next);
    shared->writer.Publish(SlotIndex(slot), key, slot * kBytes, kBytes,
                           BlockClass::kCache);
    shared->writer.Set(
        key, &cells[slot],
        ResidentEntry(HashKey(key), SlotIndex(slot), BlockClass::kCache));
    key_in[slot] = next;
    published[slot] = true;
  }
  shared->stop = true;
}

void Read(Shared* shared, int reader) {
  const IndexReader index(shared->index.base());
  ClientFile file(shared->files[static_cast<std::size_t>(reader)]->base());
  file.header().thread_table_mask.store(1, std::memory_order_seq_cst);
  auto& pin = file.thread_tables()[0].pins[reader];
  std::uint64_t wrong = 0;
  for (std::uint32_t n = 0; !shared->stop; ++n) {
    const Key key = TestKey(n % kKeys);
    const auto found = index.Find(key);
    if (found.kind != EntryKind::kResident) continue;
    pin.exchange(found.slot.value() + 1ULL, std::memory_order_seq_cst);
    if (index.StillPublished(found.slot, found.generation)) {
      shared->hits.fetch_add(1, std::memory_order_relaxed);
      const char* bytes = shared->data.base() +
                          index.slot(found.slot).LoadPlace().data_offset();
      for (std::uint32_t i = 0; i < kBytes; ++i) {
        wrong += bytes[i] != static_cast<char>(n % kKeys);
      }
    }
    pin.store(0, std::memory_order_release);
  }
  shared->wrong += wrong;
}

TEST(PinStressThreadTest, AConfirmedPinAlwaysSeesItsOwnBytes) {
  Shared shared;
  std::vector<std::thread> readers;
  for (int i = 0; i < kReaders; ++i) {
    readers.emplace_back([&shared, i] { Read(&shared, i); });
  }
  Write(&shared);
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(shared.wrong.load(), 0u);
}

}  // namespace
}  // namespace agentmem
