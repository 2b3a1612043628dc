// The store under several threads of its own and of its callers; for TSan.
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "memd/store/rocks_store.h"
#include "tests/unit/store/store_harness.h"

#if defined(__SANITIZE_THREAD__)
#define AGENTMEM_UNDER_TSAN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define AGENTMEM_UNDER_TSAN
#endif
#endif

#ifdef AGENTMEM_UNDER_TSAN
// Debian's RocksDB is not instrumented: TSan sees what it does to memory
// through libc and libstdc++, and not its atomics that order it. In turn: all
// that it calls, the group commit's copies of waiting batches into one of its
// own and that one's emptying, its threads at exit.
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:librocksdb.so\n"
         "race:rocksdb::\n"
         "race:_M_append\n"
         "race:_M_replace_aux\n"
         "race:__run_exit_handlers\n";
}
#endif

namespace agentmem {
namespace {

std::unique_ptr<RocksStore> OpenWithThreads(const std::string& path) {
  RocksStoreOptions options;
  options.path = path;
  options.read_threads = 2;
  options.write_threads = 2;
  auto store = RocksStore::Open(options);
  EXPECT_TRUE(store.ok()) << store.status().ToString();
  return store.ok() ? std::move(store).value() : nullptr;
}

TEST(RocksStoreThreads, BlocksAndRefsAreRightWhileOthersFlushAndChange) {
  constexpr int kKeys = 100;
  constexpr int kRefThreads = 3;
  constexpr int kChanges = 10;
  const TempDirectory directory;
  const auto store = OpenWithThreads(directory.path());
  ASSERT_NE(store, nullptr);

  std::vector<std::thread> others;
  for (int i = 0; i < kRefThreads; ++i) {
    others.emplace_back([&store] {
      for (int done = 0; done < kChanges;) {
        const auto ref = store->refs().Get("counter");
        const std::uint64_t version = ref.ok() ? ref->version : 0;
        done +=
            store->refs().CompareAndSwap("counter", version, Fence(), "x").ok();
      }
    });
  }
  others.emplace_back([&store] {
    for (int i = 0; i < 5; ++i) {
      EXPECT_TRUE(store->blocks().Flush().ok());
      store->disk_bytes();
    }
  });

  others.emplace_back([&store] {
    for (int i = 0; i < 50; ++i) {
      const auto key = static_cast<std::uint64_t>(i);
      std::size_t found = 0;
      EXPECT_TRUE(store->blocks()
                      .ScanPrefix(TenantId(1), key,
                                  [&](const StoredBlock& block) {
                                    EXPECT_EQ(block.key, KeyOf(key));
                                    ++found;
                                  })
                      .ok());
      EXPECT_LE(found, 1u);
    }
  });

  // Every other one in a segment.
  const auto length_of = [](std::uint64_t key) -> std::size_t {
    return key % 2 ? 8192 : 40'000;
  };
  std::vector<std::string> bytes;
  std::vector<StoreOp> ops;
  for (int key = 0; key < kKeys; ++key) {
    bytes.push_back(BytesOf(length_of(key), key));
  }
  for (int key = 0; key < kKeys; ++key) {
    const BlockClass c = key % 2 ? BlockClass::kCache : BlockClass::kState;
    ops.push_back(PutOp(key, bytes[key], c, key % 3 == 0));
    if (key % 10 == 0) ops.push_back(DeleteOp(key));
  }
  for (const StoreCompletion& done : Execute(&store->blocks(), ops)) {
    EXPECT_EQ(done.code, Code::kOk);
  }
  std::vector<std::string> rooms;
  for (int key = 0; key < kKeys; ++key) rooms.emplace_back(length_of(key), 0);
  ops.clear();
  for (int key = 0; key < kKeys; ++key) ops.push_back(GetOp(key, &rooms[key]));
  for (const StoreCompletion& done : Execute(&store->blocks(), ops)) {
    const bool deleted = done.ticket % 10 == 0;
    EXPECT_EQ(done.code, deleted ? Code::kNotFound : Code::kOk);
    EXPECT_EQ(rooms[done.ticket] == bytes[done.ticket], !deleted);
  }
  for (std::thread& other : others) other.join();
  EXPECT_EQ(store->refs().Get("counter")->version,
            static_cast<std::uint64_t>(kRefThreads * kChanges));
}

TEST(RocksStoreThreads, GetsAreRightWhileTheirBlocksAreReplacedAndReclaimed) {
  constexpr std::uint64_t kKeys = 8;
  constexpr std::size_t kBytes = 64 << 10;
  const TempDirectory directory;
  const auto store = OpenWithThreads(directory.path());
  ASSERT_NE(store, nullptr);
  // Both versions of each key, told apart by all of their bytes.
  std::vector<std::string> bytes[2];
  for (std::uint64_t key = 0; key < kKeys; ++key) {
    for (const int version : {0, 1}) {
      bytes[version].push_back(BytesOf(kBytes, key * 2 + version));
    }
  }
  std::vector<StoreOp> ops;
  for (std::uint64_t key = 0; key < kKeys; ++key) {
    ops.push_back(PutOp(key, bytes[0][key]));
  }
  Execute(&store->blocks(), ops);
  std::thread flusher([&store] {
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(store->blocks().Flush().ok());
  });
  std::vector<std::string> rooms(kKeys, std::string(kBytes, '\0'));
  for (int round = 0; round < 20; ++round) {
    ops.clear();
    for (std::uint64_t key = 0; key < kKeys; ++key) {
      ops.push_back(PutOp(key, bytes[round % 2][key]));
      ops.push_back(GetOp(key, &rooms[key]));
    }
    for (const StoreCompletion& done : Execute(&store->blocks(), ops)) {
      EXPECT_EQ(done.code, Code::kOk);
    }
    for (std::uint64_t key = 0; key < kKeys; ++key) {
      EXPECT_TRUE(rooms[key] == bytes[0][key] || rooms[key] == bytes[1][key]);
    }
  }
  flusher.join();
}

TEST(RocksStoreThreads, WhatWasAcceptedIsExecutedWhenTheStoreEnds) {
  const TempDirectory directory;
  const std::string bytes = BytesOf(40'000, 1);
  std::vector<StoreOp> ops;
  for (int key = 0; key < 200; ++key) ops.push_back(PutOp(key, bytes));
  auto store = OpenWithThreads(directory.path());
  ASSERT_NE(store, nullptr);
  ASSERT_EQ(store->blocks().Submit(ops), ops.size());
  store.reset();
  store = OpenWithThreads(directory.path());
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(ScanAll(&store->blocks()).size(), ops.size());
}

}  // namespace
}  // namespace agentmem
