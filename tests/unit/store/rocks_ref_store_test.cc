#include "memd/store/rocks_ref_store.h"

#include <gtest/gtest.h>

#include <map>

#include "base/status.h"
#include "memd/store/rocks_store.h"
#include "tests/unit/store/store_harness.h"

namespace agentmem {
namespace {

using Names = std::vector<std::string>;

class RocksRefStoreTest : public testing::Test {
 protected:
  RefStore& refs() { return store_->refs(); }

  TempDirectory directory_;
  std::unique_ptr<RocksStore> store_ = OpenStore(directory_.path());
};

TEST_F(RocksRefStoreTest, AValueAndItsVersionComeBackAlsoAfterAReopen) {
  const auto fence = refs().AcquireFence("head");
  ASSERT_TRUE(fence.ok());
  EXPECT_EQ(*fence, Fence(1));
  EXPECT_EQ(refs().CompareAndSwap("head", 0, *fence, "a").value(), 1u);
  EXPECT_EQ(refs().CompareAndSwap("head", 1, *fence, "b").value(), 2u);
  for (int pass = 0; pass < 2; ++pass) {
    const auto ref = refs().Get("head");
    ASSERT_TRUE(ref.ok()) << ref.status().ToString();
    EXPECT_EQ(ref->value, "b");
    EXPECT_EQ(ref->version, 2u);
    EXPECT_EQ(ref->fence, Fence(1));
    store_.reset();
    store_ = OpenStore(directory_.path());
  }
}

TEST_F(RocksRefStoreTest, ANameWithAFenceAndNoValueIsNotThere) {
  ASSERT_TRUE(refs().AcquireFence("head").ok());
  EXPECT_EQ(refs().Get("head").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(refs().List("").value(), Names());
}

TEST_F(RocksRefStoreTest, AnOlderFenceIsAbortedAndBothAreNamed) {
  const Fence older = refs().AcquireFence("head").value();
  const Fence newer = refs().AcquireFence("head").value();
  EXPECT_LT(older, newer);
  const auto lost = refs().CompareAndSwap("head", 0, older, "a");
  ASSERT_EQ(lost.status().code(), absl::StatusCode::kAborted);
  const std::string message = StatusMessage(lost.status());
  EXPECT_NE(message.find("'head'"), std::string::npos) << message;
  EXPECT_NE(message.find("expected fence 1"), std::string::npos) << message;
  EXPECT_NE(message.find("found fence 2"), std::string::npos) << message;
  EXPECT_EQ(refs().CompareAndSwap("head", 0, newer, "b").value(), 1u);
  // For ever: also after a reopen.
  store_.reset();
  store_ = OpenStore(directory_.path());
  EXPECT_EQ(refs().CompareAndSwap("head", 1, older, "a").status().code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(refs().AcquireFence("head").value(), Fence(3));
  EXPECT_EQ(refs().Get("head")->value, "b");
}

TEST_F(RocksRefStoreTest, AnotherVersionIsAbortedAndBothAreNamed) {
  const Fence fence = refs().AcquireFence("head").value();
  ASSERT_TRUE(refs().CompareAndSwap("head", 0, fence, "a").ok());
  const auto lost = refs().CompareAndSwap("head", 0, fence, "b");
  ASSERT_EQ(lost.status().code(), absl::StatusCode::kAborted);
  const std::string message = StatusMessage(lost.status());
  EXPECT_NE(message.find("expected version 0"), std::string::npos) << message;
  EXPECT_NE(message.find("found version 1"), std::string::npos) << message;
  EXPECT_EQ(refs().Get("head")->value, "a");
}

TEST_F(RocksRefStoreTest, ListGivesTheNamesOfAPrefixInByteOrder) {
  for (const char* name : {"b/2", "a", "b/1", "b", "b0", "b/\xff", "c"}) {
    ASSERT_TRUE(refs().CompareAndSwap(name, 0, Fence(), "x").ok());
  }
  EXPECT_EQ(refs().List("b/").value(), (Names{"b/1", "b/2", "b/\xff"}));
  EXPECT_EQ(refs().List("").value(),
            (Names{"a", "b", "b/1", "b/2", "b/\xff", "b0", "c"}));
  EXPECT_EQ(refs().List("d").value(), Names());
}

TEST_F(RocksRefStoreTest, NamesAndValuesOutOfRangeAreRefused) {
  const std::string long_name(RefStore::kNameBytesMax + 1, 'n');
  const std::string long_value(RefStore::kValueBytesMax + 1, 'v');
  constexpr auto kRefused = absl::StatusCode::kInvalidArgument;
  for (const std::string& name : {std::string(), long_name}) {
    EXPECT_EQ(refs().Get(name).status().code(), kRefused);
    EXPECT_EQ(refs().AcquireFence(name).status().code(), kRefused);
    EXPECT_EQ(refs().CompareAndSwap(name, 0, Fence(), "").status().code(),
              kRefused);
  }
  EXPECT_EQ(refs().CompareAndSwap("n", 0, Fence(), long_value).status().code(),
            kRefused);
  const std::string name(RefStore::kNameBytesMax, 'n');
  const std::string value(RefStore::kValueBytesMax, 'v');
  ASSERT_TRUE(refs().CompareAndSwap(name, 0, Fence(), value).ok());
  EXPECT_EQ(refs().Get(name)->value, value);
}

TEST_F(RocksRefStoreTest, ACommitChangesAllRefsAndBlocksOrNothing) {
  const Fence a = refs().AcquireFence("a").value();
  const std::string bytes(70000, 'x');
  const Key key = {1, {2, 3, 4}};
  const RefBlock block = {TenantId(7), key, bytes};
  RefChange changes[] = {{"a", 0, a, "one", false}, {"b", 1, Fence(0), "two"}};
  // "b" has no version 1: "a" must not move, and the block not be there.
  EXPECT_EQ(refs().Commit(changes, {&block, 1}).code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(refs().Get("a").status().code(), absl::StatusCode::kNotFound);
  const auto stored = [this] {
    std::uint64_t count = 0;
    EXPECT_TRUE(
        store_->blocks().Scan([&](const StoredBlock&) { ++count; }).ok());
    return count;
  };
  EXPECT_EQ(stored(), 0u);
  changes[1].expected_version = 0;
  ASSERT_TRUE(refs().Commit(changes, {&block, 1}).ok());
  store_.reset();
  store_ = OpenStore(directory_.path());
  EXPECT_EQ(refs().Get("a")->value, "one");
  EXPECT_EQ(refs().Get("b")->value, "two");
  EXPECT_EQ(stored(), 1u);
}

TEST_F(RocksRefStoreTest, ARemovedRefHasNoValueAndKeepsItsFence) {
  const Fence fence = refs().AcquireFence("head").value();
  ASSERT_TRUE(refs().CompareAndSwap("head", 0, fence, "a").ok());
  const RefChange gone = {"head", 1, fence, "", true};
  ASSERT_TRUE(refs().Commit({&gone, 1}, {}).ok());
  EXPECT_EQ(refs().Get("head").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(refs().List("").value(), Names());
  EXPECT_EQ(refs().Read("head")->fence, fence);
  EXPECT_EQ(refs().AcquireFence("head").value(), Fence(2));
  EXPECT_EQ(refs().CompareAndSwap("head", 0, fence, "b").status().code(),
            absl::StatusCode::kAborted);
}

TEST_F(RocksRefStoreTest, WhatAChangeDependsOnIsLookedAtAndLeftAsItIs) {
  const Fence fence = refs().AcquireFence("origin").value();
  ASSERT_TRUE(refs().CompareAndSwap("origin", 0, fence, "o").ok());
  RefChange changes[] = {{"child", 0, Fence(), "c"},
                         {.name = "origin",
                          .expected_version = 2,
                          .fence = fence,
                          .only_check = true}};
  EXPECT_EQ(refs().Commit(changes, {}).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(refs().Read("child")->version, 0u);
  changes[1].expected_version = 1;
  changes[1].fence = Fence(7);
  EXPECT_EQ(refs().Commit(changes, {}).code(), absl::StatusCode::kAborted);
  changes[1].fence = fence;
  ASSERT_TRUE(refs().Commit(changes, {}).ok());
  EXPECT_EQ(refs().Get("child")->value, "c");
  const Ref origin = refs().Get("origin").value();
  EXPECT_EQ(origin.value, "o");
  EXPECT_EQ(origin.version, 1u);
  EXPECT_EQ(origin.fence, fence);
}

TEST_F(RocksRefStoreTest, AChangeCanTakeAFence) {
  RefChange change = {.name = "head", .value = "a", .new_fence = true};
  ASSERT_TRUE(refs().Commit({&change, 1}, {}).ok());
  EXPECT_EQ(refs().Get("head")->fence, Fence(1));
  EXPECT_EQ(refs().CompareAndSwap("head", 1, Fence(0), "b").status().code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(refs().CompareAndSwap("head", 1, Fence(1), "b").value(), 2u);
}

TEST_F(RocksRefStoreTest, AllRefsOfSomePrefixesAreReadAtOnce) {
  for (const char* name : {"b/2", "a", "b/1", "b", "b0", "c/1"}) {
    ASSERT_TRUE(refs().CompareAndSwap(name, 0, Fence(), name).ok());
  }
  ASSERT_TRUE(refs().AcquireFence("b/without").ok());
  const std::string prefixes[] = {"b/", "nothing", "c"};
  std::map<std::string, std::string> read;
  const auto all = refs().ReadAll(prefixes);
  ASSERT_TRUE(all.ok()) << all.status().ToString();
  for (const NamedRef& named : *all) {
    EXPECT_EQ(named.ref.version, 1u);
    read[named.name] = named.ref.value;
  }
  EXPECT_EQ(read, (std::map<std::string, std::string>{
                      {"b/1", "b/1"}, {"b/2", "b/2"}, {"c/1", "c/1"}}));
}

}  // namespace
}  // namespace agentmem
