#include "memd/durability_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memd/write_record.h"

namespace agentmem {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr TimeNs kStart = 1000 * kSecondNs;
constexpr DurationNs kSettle = DurabilityWatch::kSettleNs;

// A node whose durable blocks need copies, with `lenders` to take them.
DurabilityFacts Copies(std::size_t lenders) {
  DurabilityFacts facts;
  facts.copies_wanted = true;
  facts.lenders = lenders;
  return facts;
}

// The trouble's text once its cause has been there for long enough.
std::string Settled(const DurabilityFacts& facts) {
  DurabilityWatch watch;
  watch.Look(facts, kStart);
  watch.Look(facts, kStart + kSettle);
  if (!watch.trouble().has_value()) return "";
  EXPECT_EQ(watch.trouble()->name, "no_durability");
  EXPECT_THAT(watch.trouble()->remedy, Not(IsEmpty()));
  return watch.trouble()->text;
}

TEST(DurabilityWatchTest, WithoutALenderNothingIsDurableAndItIsSaidOnce) {
  DurabilityWatch watch;
  DurabilityFacts facts = Copies(0);
  facts.absent = {"n2 left 3 s ago"};
  EXPECT_EQ(watch.Look(facts, kStart), "");
  EXPECT_FALSE(watch.trouble().has_value());
  EXPECT_THAT(watch.Look(facts, kStart + kSettle),
              AllOf(HasSubstr("n2 left 3 s ago"), HasSubstr("needs a copy"),
                    HasSubstr("`export` in [pool]")));
  EXPECT_EQ(watch.Look(facts, kStart + 2 * kSettle), "");
  ASSERT_TRUE(watch.trouble().has_value());
  EXPECT_EQ(watch.trouble()->since_ns, 2 * kSettle);
  EXPECT_THAT(watch.Look(Copies(1), kStart + 12 * kSecondNs),
              AllOf(HasSubstr("durable again"), HasSubstr("after 12 s")));
  EXPECT_FALSE(watch.trouble().has_value());
  EXPECT_EQ(watch.Look(Copies(1), kStart + 13 * kSecondNs), "");
}

TEST(DurabilityWatchTest, ANodeThatComesBackAtOnceIsNoTrouble) {
  DurabilityWatch watch;
  watch.Look(Copies(0), kStart);
  watch.Look(Copies(1), kStart + kSettle / 2);
  watch.Look(Copies(0), kStart + kSettle);
  EXPECT_EQ(watch.Look(Copies(0), kStart + kSettle + kSettle / 2), "");
  EXPECT_FALSE(watch.trouble().has_value());
}

TEST(DurabilityWatchTest, WhoNeedsNoCopyIsWellAlone) {
  EXPECT_EQ(Settled(DurabilityFacts()), "");
  EXPECT_EQ(Settled(Copies(1)), "");
}

TEST(DurabilityWatchTest, AMemberOfOneIsToldThatItIsAlone) {
  EXPECT_THAT(Settled(Copies(0)), HasSubstr("the only member"));
}

TEST(DurabilityWatchTest, LentMemoryThatIsFullIsNamed) {
  DurabilityWatch watch;
  DurabilityFacts facts = Copies(2);
  watch.Look(facts, kStart);
  facts.copies =
      WriteFailure{Code::kResourceExhausted, kStart + 1, kStart + 1, "ada"};
  // (One tenant may have used up its share, and the others go on.)
  EXPECT_THAT(
      watch.Look(facts, kStart + 1 + kSettle),
      AllOf(HasSubstr("of 2 that lend any none"), HasSubstr("lend is full"),
            HasSubstr("no block of tenant ada can be made durable now")));
}

TEST(DurabilityWatchTest, WhatFailedWhileANodeLeftIsNotHeldAgainstTheNext) {
  DurabilityWatch watch;
  watch.Look(Copies(1), kStart);
  DurabilityFacts facts = Copies(0);
  facts.copies =
      WriteFailure{Code::kUnavailable, kStart + 1, kStart + 1, "ada"};
  watch.Look(facts, kStart + kSecondNs);
  facts.lenders = 1;
  watch.Look(facts, kStart + 2 * kSecondNs);
  EXPECT_EQ(watch.Look(facts, kStart + 9 * kSecondNs), "");
  EXPECT_FALSE(watch.trouble().has_value());
}

TEST(DurabilityWatchTest, AFullDiskAndOneThatFailsHaveOtherRemedies) {
  DurabilityFacts facts;
  facts.store_path = "/srv/store";
  facts.store = WriteFailure{Code::kResourceExhausted, kStart, kStart, "ada"};
  EXPECT_THAT(Settled(facts),
              AllOf(HasSubstr("full"), HasSubstr("/srv/store")));
  facts.store->code = Code::kUnavailable;
  EXPECT_THAT(Settled(facts),
              AllOf(HasSubstr("fails"), Not(HasSubstr("full"))));
}

TEST(DurabilityWatchTest, ARemoteStoreCountsWhileOneNodeTakesBlocks) {
  DurabilityFacts facts;
  facts.store_remote = true;
  EXPECT_THAT(Settled(facts), HasSubstr("none serves"));
  RemoteStoreSnapshot store;
  store.node = "s1";
  store.text = "does not answer";
  facts.stores = {store};
  EXPECT_THAT(Settled(facts), HasSubstr("s1: does not answer"));
  facts.stores[0].reachable = true;
  EXPECT_EQ(Settled(facts), "");
  facts.stores[0].refuses = true;
  EXPECT_THAT(Settled(facts), HasSubstr("s1"));
}

TEST(WhyNoLenderTest, EachOtherNodeHasItsReason) {
  ClusterView cluster;
  for (const char* node : {"n1", "n3", "n4"}) {
    cluster.members.push_back({node, "", "", 0, 0});
  }
  cluster.left.push_back({"n2", kStart - 12 * kSecondNs});
  PoolPeerSnapshot up;
  up.node = "n4";
  up.state = PoolPeerState::kUp;
  EXPECT_THAT(
      WhyNoLender("n1", cluster, {up}, kStart),
      ElementsAre("n2 left 12 s ago", "n3 does not answer", "n4 lends none"));
}

TEST(WriteRecordTest, APlaceThatTakesSomeAndRefusesOthersFails) {
  WriteRecord record;
  EXPECT_FALSE(record.IsFailing(kStart));
  record.Failed(Code::kResourceExhausted, kStart);
  record.Succeeded(kStart + kSecondNs);
  record.Failed(Code::kResourceExhausted, kStart + 2 * kSecondNs);
  record.Succeeded(kStart + 3 * kSecondNs);
  EXPECT_TRUE(record.IsFailing(kStart + 3 * kSecondNs));
  EXPECT_EQ(record.since(), kStart);
  EXPECT_FALSE(record.IsFailing(kStart + 2 * kSecondNs + WriteRecord::kCalmNs));
}

TEST(WriteRecordTest, WithoutASuccessItFailsOn) {
  WriteRecord record;
  record.Succeeded(kStart - kSecondNs);
  record.Failed(Code::kUnavailable, kStart);
  EXPECT_TRUE(record.IsFailing(kStart + 3600 * kSecondNs));
}

}  // namespace
}  // namespace agentmem
