#include "memd/cluster/etcd_ref_store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <thread>

#include "base/status.h"
#include "memd/cluster/cluster_keys.h"
#include "tests/unit/cluster/etcd_process.h"

namespace agentmem {
namespace {

using Names = std::vector<std::string>;

class EtcdRefStoreTest : public EtcdTest {
 protected:
  void SetUp() override {
    EtcdTest::SetUp();
    if (client_ != nullptr) refs_ = MakeRefs();
  }

  std::unique_ptr<EtcdRefStore> MakeRefs() {
    EtcdRefStoreOptions options;
    options.cluster = "test";
    options.write_blocks = [this](std::span<const RefBlock> blocks) {
      blocks_written_ += blocks.size();
      return blocks_status_;
    };
    return EtcdRefStore::Make(client_.get(), options).value();
  }
  RefStore& refs() { return *refs_; }

  int blocks_written_ = 0;
  absl::Status blocks_status_;
  std::unique_ptr<EtcdRefStore> refs_;
};

TEST_F(EtcdRefStoreTest, AValueAndItsVersionComeBackAlsoAfterEtcdWasKilled) {
  const auto fence = refs().AcquireFence("head");
  ASSERT_TRUE(fence.ok()) << fence.status().ToString();
  EXPECT_EQ(*fence, Fence(1));
  EXPECT_EQ(refs().CompareAndSwap("head", 0, *fence, "a").value(), 1u);
  EXPECT_EQ(refs().CompareAndSwap("head", 1, *fence, "b").value(), 2u);
  for (int pass = 0; pass < 2; ++pass) {
    const auto ref = refs().Get("head");
    ASSERT_TRUE(ref.ok()) << ref.status().ToString();
    EXPECT_EQ(ref->value, "b");
    EXPECT_EQ(ref->version, 2u);
    EXPECT_EQ(ref->fence, Fence(1));
    etcd_->Kill();
    etcd_->Start();
  }
}

TEST_F(EtcdRefStoreTest, ANameWithAFenceAndNoValueIsNotThere) {
  ASSERT_TRUE(refs().AcquireFence("head").ok());
  EXPECT_EQ(refs().Get("head").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(refs().List("").value(), Names());
  EXPECT_EQ(refs().Read("never")->fence, Fence());
}

TEST_F(EtcdRefStoreTest, AnOlderFenceIsAbortedAndBothAreNamed) {
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
  // For ever, and for every node.
  refs_ = MakeRefs();
  EXPECT_EQ(refs().CompareAndSwap("head", 1, older, "a").status().code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(refs().AcquireFence("head").value(), Fence(3));
  EXPECT_EQ(refs().Get("head")->value, "b");
}

TEST_F(EtcdRefStoreTest, AnotherVersionIsAbortedAndBothAreNamed) {
  const Fence fence = refs().AcquireFence("head").value();
  ASSERT_TRUE(refs().CompareAndSwap("head", 0, fence, "a").ok());
  const auto lost = refs().CompareAndSwap("head", 0, fence, "b");
  ASSERT_EQ(lost.status().code(), absl::StatusCode::kAborted);
  const std::string message = StatusMessage(lost.status());
  EXPECT_NE(message.find("expected version 0"), std::string::npos) << message;
  EXPECT_NE(message.find("found version 1"), std::string::npos) << message;
  EXPECT_EQ(refs().Get("head")->value, "a");
}

TEST_F(EtcdRefStoreTest, ListGivesTheNamesOfAPrefixInByteOrder) {
  const std::string zero("b/\0", 3);
  for (const std::string& name :
       {std::string("b/2"), std::string("a"), std::string("b/1"),
        std::string("b"), std::string("b0"), std::string("b/\xff"),
        std::string("b/\xff\xff/"), std::string("c"), zero}) {
    ASSERT_TRUE(refs().CompareAndSwap(name, 0, Fence(), "x").ok());
  }
  EXPECT_EQ(refs().List("b/").value(),
            (Names{zero, "b/1", "b/2", "b/\xff", "b/\xff\xff/"}));
  EXPECT_EQ(refs().List("b/\xff").value(), (Names{"b/\xff", "b/\xff\xff/"}));
  EXPECT_EQ(refs().List("").value(),
            (Names{"a", "b", zero, "b/1", "b/2", "b/\xff", "b/\xff\xff/", "b0",
                   "c"}));
  EXPECT_EQ(refs().List("d").value(), Names());
  EXPECT_EQ(refs().Get(zero)->value, "x");
}

TEST_F(EtcdRefStoreTest, ListGoesThroughAllItsPages) {
  Names expected;
  for (int batch = 0; batch < 3; ++batch) {
    std::vector<RefChange> changes;
    for (int i = 0; i < 128; ++i) {
      const std::string number = std::to_string(1000 + batch * 128 + i);
      changes.push_back({"agent/" + number, 0, Fence(), number, false});
      expected.push_back("agent/" + number);
    }
    ASSERT_TRUE(refs().Commit(changes, {}).ok());
  }
  EXPECT_EQ(refs().List("agent/").value(), expected);
}

TEST_F(EtcdRefStoreTest, NamesAndValuesOutOfRangeAreRefused) {
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

TEST_F(EtcdRefStoreTest, ACommitAtEtcdsLimitsIsTakenAndBeyondThemRefused) {
  std::vector<RefChange> changes;
  for (int i = 0; i < 128; ++i) {
    changes.push_back({"small/" + std::to_string(i), 0, Fence(), "v", false});
  }
  EXPECT_TRUE(refs().Commit(changes, {}).ok());
  changes.push_back({"small/128", 0, Fence(), "v", false});
  absl::Status status = refs().Commit(changes, {});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(StatusMessage(status).find("129 refs"), std::string::npos);

  changes.clear();
  const std::string value(RefStore::kValueBytesMax, 'v');
  for (int i = 0; i < 23; ++i) {  // 23 * 64 KiB and their names: the most
    changes.push_back({"large/" + std::to_string(i), 0, Fence(), value, false});
  }
  status = refs().Commit(changes, {});
  EXPECT_TRUE(status.ok()) << status.ToString();
  for (RefChange& change : changes) change.expected_version = 1;
  changes.push_back({"large/24", 0, Fence(), value, false});
  status = refs().Commit(changes, {});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refs().Get("large/0")->version, 1u);

  const RefChange twice[] = {{"a", 0, Fence(), "1", false},
                             {"a", 0, Fence(), "2", false}};
  EXPECT_EQ(refs().Commit(twice, {}).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(EtcdRefStoreTest, ACommitChangesAllRefsOrNothingAndItsBlocksComeFirst) {
  const Fence a = refs().AcquireFence("a").value();
  const std::string bytes(70000, 'x');
  const RefBlock block = {TenantId(7), {1, {2, 3, 4}}, bytes};
  RefChange changes[] = {{"a", 0, a, "one", false}, {"b", 1, Fence(0), "two"}};
  // "b" has no version 1: "a" must not move, nor blocks be written.
  EXPECT_EQ(refs().Commit(changes, {&block, 1}).code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(refs().Get("a").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(blocks_written_, 0);
  changes[1].expected_version = 0;
  // Blocks that were not written: no ref speaks of them.
  blocks_status_ = Unavailable("no place");
  EXPECT_EQ(refs().Commit(changes, {&block, 1}).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(refs().Get("a").status().code(), absl::StatusCode::kNotFound);
  blocks_status_ = absl::OkStatus();
  ASSERT_TRUE(refs().Commit(changes, {&block, 1}).ok());
  EXPECT_EQ(blocks_written_, 2);
  EXPECT_EQ(refs().Get("a")->value, "one");
  EXPECT_EQ(refs().Get("b")->value, "two");
}

TEST_F(EtcdRefStoreTest, ARemovedRefHasNoValueAndKeepsItsFence) {
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

TEST_F(EtcdRefStoreTest, ARemovedRefThatNeverHadAFenceLeavesNothingBehind) {
  ASSERT_TRUE(refs().CompareAndSwap("gone/1", 0, Fence(), "a").ok());
  const RefChange gone = {"gone/1", 1, Fence(), "", true};
  ASSERT_TRUE(refs().Commit({&gone, 1}, {}).ok());
  EXPECT_EQ(client()
                .Range({RefsPrefix("test") + "gone/1"}, Patience())
                ->values.size(),
            0u);
  EXPECT_EQ(refs().CompareAndSwap("gone/1", 0, Fence(), "b").value(), 1u);
}

TEST_F(EtcdRefStoreTest, ARecordOfAnotherFormatIsNeitherReadNorOverwritten) {
  EtcdTxn txn;
  std::string record(24, '\0');
  record[0] = 9;
  txn.then = {{EtcdOp::Kind::kPut, RefsPrefix("test") + "head", record}};
  ASSERT_TRUE(client().Txn(txn, Patience()).ok());
  for (const absl::Status& status :
       {refs().Get("head").status(), refs().AcquireFence("head").status(),
        refs().CompareAndSwap("head", 0, Fence(), "v").status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    const std::string message = StatusMessage(status);
    EXPECT_NE(message.find("'head'"), std::string::npos) << message;
    EXPECT_NE(message.find("9"), std::string::npos) << message;
  }
  EXPECT_EQ(client()
                .Range({RefsPrefix("test") + "head"}, Patience())
                ->values[0]
                .value,
            record);
}

TEST_F(EtcdRefStoreTest, ClustersDoNotSeeEachOthersRefs) {
  const auto other =
      EtcdRefStore::Make(client_.get(), {.cluster = "other"}).value();
  ASSERT_TRUE(refs().CompareAndSwap("head", 0, Fence(), "x").ok());
  EXPECT_EQ(other->List("").value(), Names());
  EXPECT_EQ(
      EtcdRefStore::Make(client_.get(), {.cluster = "a/b"}).status().code(),
      absl::StatusCode::kInvalidArgument);
}

TEST_F(EtcdRefStoreTest, WhatAChangeDependsOnIsLookedAtAndLeftAsItIs) {
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

TEST_F(EtcdRefStoreTest, AChangeCanTakeAFence) {
  RefChange change = {.name = "head", .value = "a", .new_fence = true};
  ASSERT_TRUE(refs().Commit({&change, 1}, {}).ok());
  EXPECT_EQ(refs().Get("head")->fence, Fence(1));
  EXPECT_EQ(refs().CompareAndSwap("head", 1, Fence(0), "b").status().code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(refs().CompareAndSwap("head", 1, Fence(1), "b").value(), 2u);
}

TEST_F(EtcdRefStoreTest, AllRefsOfSomePrefixesAreReadAtOnce) {
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

// Pages of a prefix, and the prefixes after it, are as the first page was.
TEST_F(EtcdRefStoreTest, AllRefsThatAreReadAreOfOneMoment) {
  std::vector<RefChange> changes;
  for (int i = 0; i < 128; ++i) {
    changes.push_back({"a/" + std::to_string(1000 + i), 0, Fence(), "1"});
  }
  ASSERT_TRUE(refs().Commit(changes, {}).ok());
  // A second one moves what stands last in the first prefix to the second.
  std::atomic<bool> stop = false;
  std::thread mover([&] {
    const auto others = MakeRefs();
    std::string from = "a/1127";
    std::string to = "b/1127";
    std::uint64_t moved = 0;
    while (!stop.load() || moved == 0) {
      const RefChange move[] = {{from, 1, Fence(), "", true},
                                {to, 0, Fence(), "1"}};
      if (others->Commit(move, {}).ok()) ++moved;
      std::swap(from, to);
    }
  });
  const std::string prefixes[] = {"a/", "b/"};
  for (int i = 0; i < 50; ++i) {
    const auto all = refs().ReadAll(prefixes);
    ASSERT_TRUE(all.ok()) << all.status().ToString();
    EXPECT_EQ(all->size(), 128u) << i;
  }
  stop = true;
  mover.join();
}

}  // namespace
}  // namespace agentmem
