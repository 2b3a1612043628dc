#include <algorithm>
#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/client/client_test_base.h"

namespace agentmem {
namespace {

using testing::HasSubstr;

using GetTest = ClientTest;

TEST_F(GetTest, AResidentBlockIsReadWithoutAskingMemd) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "hello");
  agentmem_span span;
  ASSERT_EQ(Get(TestKey(1), &span, 0), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(TextOf(span), "hello");
  EXPECT_EQ(span.tier, AGENTMEM_TIER_DRAM);
  EXPECT_EQ(memd_->Count(Op::kFetch), 0);
  agentmem_release(client_, &span, 1);
}

TEST_F(GetTest, APinStandsUntilItsSpanIsReleased) {
  StartAndConnect();
  const std::uint32_t slot = memd_->AddResident(AsKey(TestKey(1)), "hello");
  agentmem_span span;
  ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK);
  EXPECT_EQ(memd_->PinsOn(slot), 1);
  agentmem_release(client_, &span, 1);
  EXPECT_EQ(memd_->PinsOn(slot), 0);
  EXPECT_EQ(span.data, nullptr);
}

TEST_F(GetTest, ReleasingAClearedSpanDoesNothing) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "hello");
  agentmem_span spans[2];
  ASSERT_EQ(Get(TestKey(1), &spans[0]), AGENTMEM_OK);
  ASSERT_EQ(Get(TestKey(1), &spans[1]), AGENTMEM_OK);
  agentmem_release(client_, &spans[0], 1);
  agentmem_release(client_, &spans[0], 1);
  EXPECT_EQ(memd_->Pins(), 1);
  agentmem_release(client_, &spans[1], 1);
}

TEST_F(GetTest, EveryHitLeavesANote) {
  StartAndConnect();
  const std::uint32_t slot = memd_->AddResident(AsKey(TestKey(1)), "hello");
  for (int i = 0; i < 300; ++i) {
    agentmem_span span;
    ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK);
    agentmem_release(client_, &span, 1);
  }
  const ThreadTable& table = memd_->file().thread_tables()[0];
  EXPECT_EQ(table.note_tail.load(), 300u);
  EXPECT_EQ(table.notes[299 % kThreadNotes].load(),
            slot | (std::uint64_t{1} << 32));
}

TEST_F(GetTest, ABlockBelowIsFetchedAndNamesItsTier) {
  StartAndConnect();
  memd_->AddBelow(AsKey(TestKey(1)), "from below");
  agentmem_span span;
  ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(TextOf(span), "from below");
  EXPECT_EQ(span.tier, AGENTMEM_TIER_STORE);
  // The hold that it came with became a pin.
  memd_->AwaitCount(Op::kRelease, 1);
  EXPECT_EQ(memd_->Pins(), 1);
  EXPECT_EQ(memd_->holds(), 0u);
  agentmem_release(client_, &span, 1);
}

TEST_F(GetTest, ABlockThatIsNowhereIsNotFoundAndNamed) {
  StartAndConnect();
  agentmem_span span;
  EXPECT_EQ(Get(TestKey(0xabc), &span), AGENTMEM_NOT_FOUND);
  EXPECT_THAT(error_.message, HasSubstr("00000abc:"));
  EXPECT_EQ(error_.code, AGENTMEM_NOT_FOUND);
  EXPECT_EQ(span.data, nullptr);
}

TEST_F(GetTest, AMixedBatchBringsWhatThereIsAndCountsTheRest) {
  StartAndConnect();
  std::vector<agentmem_key> keys;
  for (std::uint32_t i = 0; i < 150; ++i) {
    keys.push_back(TestKey(i));
    if (i % 3 == 0) memd_->AddResident(AsKey(keys[i]), "r" + std::to_string(i));
    if (i % 3 == 1) memd_->AddBelow(AsKey(keys[i]), "b" + std::to_string(i));
  }
  std::vector<agentmem_span> spans(keys.size());
  EXPECT_EQ(agentmem_get(client_, keys.data(), keys.size(), kLongNs,
                         spans.data(), &error_),
            AGENTMEM_NOT_FOUND);
  EXPECT_THAT(error_.message, HasSubstr("50 of 150"));
  for (std::uint32_t i = 0; i < 150; ++i) {
    const std::string expected[] = {"r" + std::to_string(i),
                                    "b" + std::to_string(i), "(none)"};
    EXPECT_EQ(TextOf(spans[i]), expected[i % 3]);
  }
  agentmem_release(client_, spans.data(), spans.size());
  EXPECT_EQ(memd_->Pins(), 0);
}

TEST_F(GetTest, MoreSpansThanPinsAreHeldByMemd) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "hello");
  std::vector<agentmem_key> keys(kThreadPins + 5, TestKey(1));
  std::vector<agentmem_span> spans(keys.size());
  ASSERT_EQ(agentmem_get(client_, keys.data(), keys.size(), kLongNs,
                         spans.data(), &error_),
            AGENTMEM_OK)
      << error_.message;
  EXPECT_EQ(memd_->Pins(), static_cast<int>(kThreadPins));
  EXPECT_EQ(memd_->holds(), 5u);
  EXPECT_TRUE(std::all_of(spans.begin(), spans.end(), [](const auto& span) {
    return TextOf(span) == "hello";
  }));
  agentmem_release(client_, spans.data(), spans.size());
  memd_->AwaitCount(Op::kRelease, 5);
  EXPECT_EQ(memd_->holds(), 0u);
  EXPECT_EQ(memd_->Pins(), 0);
}

TEST_F(GetTest, WithoutPinsAndWithoutWaitingAResidentBlockIsExhaustion) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "hello");
  std::vector<agentmem_span> spans(kThreadPins);
  for (auto& span : spans) ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK);
  agentmem_span one_more;
  EXPECT_EQ(Get(TestKey(1), &one_more, 0), AGENTMEM_RESOURCE_EXHAUSTED);
  EXPECT_THAT(error_.message, HasSubstr("128 pins"));
  agentmem_release(client_, &spans[7], 1);
  EXPECT_EQ(Get(TestKey(1), &one_more, 0), AGENTMEM_OK);
  agentmem_release(client_, &one_more, 1);
  agentmem_release(client_, spans.data(), spans.size());
}

TEST_F(GetTest, WithoutWaitingTheIndexIsTheAnswer) {
  StartAndConnect();
  memd_->AddBelow(AsKey(TestKey(1)), "below");
  agentmem_span span;
  EXPECT_EQ(Get(TestKey(1), &span, 0), AGENTMEM_DEADLINE_EXCEEDED);
  EXPECT_EQ(Get(TestKey(2), &span, 0), AGENTMEM_NOT_FOUND);
  EXPECT_EQ(memd_->Count(Op::kFetch), 0);
}

TEST_F(GetTest, AFetchThatComesTooLateIsReleased) {
  StartAndConnect();
  memd_->AddBelow(AsKey(TestKey(1)), "late");
  memd_->Pause();
  agentmem_span span;
  EXPECT_EQ(Get(TestKey(1), &span, kShortNs), AGENTMEM_DEADLINE_EXCEEDED);
  EXPECT_EQ(span.data, nullptr);
  memd_->Resume();
  memd_->AwaitCount(Op::kFetch, 1);
  // The next call takes the late answer off the ring and gives its hold back.
  EXPECT_EQ(Get(TestKey(2), &span), AGENTMEM_NOT_FOUND);
  memd_->AwaitCount(Op::kRelease, 1);
  EXPECT_EQ(memd_->holds(), 0u);
}

TEST_F(GetTest, AQuotaIsNamedWithItsNumbersAndTheOwner) {
  StartAndConnect();
  CompletionEntry answer = {};
  answer.code = Code::kResourceExhausted;
  answer.reason = Reason::kHoldQuota;
  answer.detail[0] = 64 << 20;
  answer.detail[1] = 63 << 20;
  answer.detail[2] = 4711;
  memd_->SetAnswer(Op::kFetch, answer);
  agentmem_span span;
  EXPECT_EQ(Get(TestKey(1), &span), AGENTMEM_RESOURCE_EXHAUSTED);
  EXPECT_THAT(error_.message, HasSubstr("64 MiB"));
  EXPECT_THAT(error_.message, HasSubstr("63 MiB"));
  EXPECT_THAT(error_.message, HasSubstr("4711"));
}

TEST_F(GetTest, AHeldSpanNeedsNoPin) {
  StartAndConnect();
  const std::uint32_t slot = memd_->AddResident(AsKey(TestKey(1)), "hello");
  agentmem_span span;
  ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK);
  ASSERT_EQ(agentmem_hold(client_, &span, 1, kLongNs, &error_), AGENTMEM_OK);
  EXPECT_EQ(memd_->PinsOn(slot), 0);
  EXPECT_EQ(memd_->holds(), 1u);
  EXPECT_EQ(TextOf(span), "hello");
  // Holding it again changes nothing.
  EXPECT_EQ(agentmem_hold(client_, &span, 1, kLongNs, &error_), AGENTMEM_OK);
  EXPECT_EQ(memd_->holds(), 1u);
  agentmem_release(client_, &span, 1);
  memd_->AwaitCount(Op::kRelease, 1);
  EXPECT_EQ(memd_->holds(), 0u);
}

TEST_F(GetTest, ARefusedHoldLeavesThePin) {
  StartAndConnect();
  const std::uint32_t slot = memd_->AddResident(AsKey(TestKey(1)), "hello");
  CompletionEntry answer = {};
  answer.code = Code::kFailedPrecondition;
  answer.reason = Reason::kStaleSlot;
  memd_->SetAnswer(Op::kHold, answer);
  agentmem_span span;
  ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK);
  EXPECT_EQ(agentmem_hold(client_, &span, 1, kLongNs, &error_),
            AGENTMEM_FAILED_PRECONDITION);
  EXPECT_EQ(memd_->PinsOn(slot), 1);
  EXPECT_EQ(TextOf(span), "hello");
  agentmem_release(client_, &span, 1);
}

TEST_F(GetTest, ContainsNamesTheTier) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "x");
  memd_->AddBelow(AsKey(TestKey(2)), "x");
  const agentmem_key keys[] = {TestKey(1), TestKey(2), TestKey(3)};
  agentmem_tier tiers[3];
  ASSERT_EQ(agentmem_contains(client_, keys, 3, tiers, &error_), AGENTMEM_OK);
  EXPECT_THAT(tiers,
              testing::ElementsAre(AGENTMEM_TIER_DRAM, AGENTMEM_TIER_STORE,
                                   AGENTMEM_TIER_NONE));
}

TEST_F(GetTest, ContainsOfANodeByItselfAsksNobody) {
  StartAndConnect();
  memd_->AddElsewhere(AsKey(TestKey(1)));
  const std::uint64_t before = Posted();
  const agentmem_key key = TestKey(1);
  agentmem_tier tier = AGENTMEM_TIER_DRAM;
  ASSERT_EQ(agentmem_contains(client_, &key, 1, &tier, &error_), AGENTMEM_OK);
  EXPECT_EQ(tier, AGENTMEM_TIER_NONE);
  EXPECT_EQ(Posted(), before);
}

TEST_F(GetTest, ContainsAsksForWhatTheIndexDoesNotKnowAndForNothingElse) {
  StartAndConnectInCluster();
  memd_->AddResident(AsKey(TestKey(1)), "x");
  memd_->AddBelow(AsKey(TestKey(2)), "x");
  memd_->AddElsewhere(AsKey(TestKey(3)));
  const agentmem_key keys[] = {TestKey(1), TestKey(3), TestKey(2), TestKey(4)};
  agentmem_tier tiers[4];
  ASSERT_EQ(agentmem_contains(client_, keys, 4, tiers, &error_), AGENTMEM_OK);
  EXPECT_THAT(tiers,
              testing::ElementsAre(AGENTMEM_TIER_DRAM, AGENTMEM_TIER_POOL,
                                   AGENTMEM_TIER_STORE, AGENTMEM_TIER_NONE));
  EXPECT_EQ(memd_->Count(Op::kFindTier), 2);
  EXPECT_EQ(memd_->Count(Op::kFetch), 0) << "no bytes are brought";
}

TEST_F(GetTest, ContainsAsksForMoreKeysThanABatchHas) {
  StartAndConnectInCluster();
  std::vector<agentmem_key> keys;
  for (std::uint32_t n = 0; n < 300; ++n) keys.push_back(TestKey(n));
  memd_->AddElsewhere(AsKey(keys[0]));
  memd_->AddElsewhere(AsKey(keys[299]));
  std::vector<agentmem_tier> tiers(keys.size(), AGENTMEM_TIER_HBM);
  ASSERT_EQ(agentmem_contains(client_, keys.data(), keys.size(), tiers.data(),
                              &error_),
            AGENTMEM_OK);
  EXPECT_EQ(tiers[0], AGENTMEM_TIER_POOL);
  EXPECT_EQ(tiers[299], AGENTMEM_TIER_POOL);
  EXPECT_EQ(std::count(tiers.begin(), tiers.end(), AGENTMEM_TIER_NONE), 298);
  EXPECT_EQ(memd_->Count(Op::kFindTier), 300);
}

TEST_F(GetTest, ContainsDoesNotRememberAMiss) {
  StartAndConnectInCluster();
  const agentmem_key key = TestKey(1);
  agentmem_tier tier = AGENTMEM_TIER_DRAM;
  ASSERT_EQ(agentmem_contains(client_, &key, 1, &tier, &error_), AGENTMEM_OK);
  EXPECT_EQ(tier, AGENTMEM_TIER_NONE);
  memd_->AddElsewhere(AsKey(key));
  ASSERT_EQ(agentmem_contains(client_, &key, 1, &tier, &error_), AGENTMEM_OK);
  EXPECT_EQ(tier, AGENTMEM_TIER_POOL);
}

TEST_F(GetTest, ContainsOfAMemdThatIsSilentOrGoneSaysWhatTheIndexSays) {
  StartAndConnectInCluster();
  memd_->AddResident(AsKey(TestKey(1)), "x");
  memd_->AddElsewhere(AsKey(TestKey(2)));
  const agentmem_key keys[] = {TestKey(1), TestKey(2)};
  agentmem_tier tiers[2];
  memd_->Pause();
  ASSERT_EQ(agentmem_contains(client_, keys, 2, tiers, &error_), AGENTMEM_OK);
  EXPECT_THAT(tiers,
              testing::ElementsAre(AGENTMEM_TIER_DRAM, AGENTMEM_TIER_NONE));
  Kill();
  ASSERT_EQ(agentmem_contains(client_, keys, 2, tiers, &error_), AGENTMEM_OK);
  EXPECT_THAT(tiers,
              testing::ElementsAre(AGENTMEM_TIER_DRAM, AGENTMEM_TIER_NONE));
}

TEST_F(GetTest, PrefetchAsksOnlyForWhatIsNotInDram) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "x");
  memd_->AddBelow(AsKey(TestKey(2)), "x");
  memd_->AddBelow(AsKey(TestKey(3)), "x");
  const agentmem_key keys[] = {TestKey(1), TestKey(2), TestKey(3)};
  ASSERT_EQ(agentmem_prefetch(client_, keys, 3, &error_), AGENTMEM_OK);
  memd_->AwaitCount(Op::kPrefetch, 2);
  agentmem_span span;
  EXPECT_EQ(Get(TestKey(9), &span), AGENTMEM_NOT_FOUND);  // behind them
  EXPECT_EQ(memd_->Count(Op::kPrefetch), 2);
}

TEST_F(GetTest, AnEvictedBlockIsNotReadFromItsOldSlot) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "old");
  memd_->Evict(AsKey(TestKey(1)));
  memd_->AddBelow(AsKey(TestKey(1)), "new");
  agentmem_span span;
  ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK);
  EXPECT_EQ(TextOf(span), "new");
  agentmem_release(client_, &span, 1);
}

TEST_F(GetTest, NullArgumentsAreAnswered) {
  StartAndConnect();
  const agentmem_key key = TestKey(1);
  agentmem_span span;
  EXPECT_EQ(agentmem_get(nullptr, &key, 1, 0, &span, &error_),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(agentmem_get(client_, nullptr, 1, 0, &span, &error_),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(agentmem_get(client_, &key, 1, 0, nullptr, nullptr),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(agentmem_get(client_, nullptr, 0, 0, nullptr, nullptr),
            AGENTMEM_OK);
}

}  // namespace
}  // namespace agentmem
