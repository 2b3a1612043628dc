// Books of two nodes over one store of refs.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "memd/agents/agent_book.h"
#include "tests/unit/memd/agents/fake_refs.h"

namespace agentmem {
namespace {

constexpr TenantId kTenant(1);

std::string StampOf(const AgentRecord& record) {
  return record.labels.empty() ? "" : record.labels[0].second;
}

RecordChange Stamping(const std::string& stamp, bool durable = true) {
  RecordChange change;
  change.durable = durable;
  change.edit = [stamp](AgentRecord* record) {
    record->labels = {{"stamp", stamp}};
    return absl::OkStatus();
  };
  return change;
}

class SharedBookTest : public ::testing::Test {
 protected:
  SharedRefs On(const std::string& node, std::uint64_t instance) {
    return {node, instance,
            [this](const std::string& other, std::uint64_t) {
              return alive_.contains(other);
            },
            [] { return true; }};
  }
  static WriterIdentity Writer(std::uint64_t token) {
    return {token, "w" + std::to_string(token), 7, 0};
  }
  absl::StatusOr<AgentBook::Opened> Open(AgentBook* book, std::uint64_t token,
                                         std::uint32_t flags) {
    return book->Open("x", flags, {}, Writer(token), 1);
  }
  std::string Seen(AgentState* state) {
    MutexLock lock(&state->mutex);
    return StampOf(state->record);
  }

  FakeRefs refs_;
  std::set<std::string> alive_ = {"a", "b"};
  AgentBook a_{&refs_, kTenant, AgentBook::RandomLineage, On("a", 1)};
  AgentBook b_{&refs_, kTenant, AgentBook::RandomLineage, On("b", 2)};
};

TEST_F(SharedBookTest, AWriterOnALiveNodeIsNamedAndOneOnADeadNodeGivesWay) {
  const auto first = Open(&a_, 1, kOpenWrite | kOpenCreate);
  ASSERT_TRUE(first.ok());
  const auto refused = Open(&b_, 2, kOpenWrite);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(StatusMessage(refused.status()).find("on node a"),
            std::string::npos);
  alive_.erase("a");
  EXPECT_TRUE(Open(&b_, 2, kOpenWrite).ok());
}

TEST_F(SharedBookTest, WhatOneNodeMadeAnotherOpens) {
  const auto first = Open(&a_, 1, kOpenWrite | kOpenCreate);
  ASSERT_TRUE(first.ok());
  const auto reader = Open(&b_, 2, 0);
  ASSERT_TRUE(reader.ok());
  ASSERT_TRUE(a_.Change(first->state.get(), 1, Stamping("one")).ok());
  a_.Release(first->state.get(), 1);
  const auto second = Open(&b_, 3, kOpenWrite);
  ASSERT_TRUE(second.ok()) << second.status().ToString();
  EXPECT_EQ(Seen(second->state.get()), "one");
  ASSERT_TRUE(b_.Change(second->state.get(), 3, Stamping("two")).ok());
  ASSERT_TRUE(a_.Find("x").ok());
  EXPECT_EQ(Seen(first->state.get()), "two");
}

TEST_F(SharedBookTest, WhoWasTakenOverElsewhereIsToldAndStopsWriting) {
  const auto first = Open(&a_, 1, kOpenWrite | kOpenCreate);
  ASSERT_TRUE(first.ok());
  AgentState* const state = first->state.get();
  ASSERT_TRUE(a_.Change(state, 1, Stamping("one")).ok());
  const auto second = Open(&b_, 2, kOpenWrite | kOpenTakeOver);
  ASSERT_TRUE(second.ok());
  ASSERT_TRUE(b_.Change(second->state.get(), 2, Stamping("theirs")).ok());
  // Visible ones need nobody's leave; the first that goes to the refs does.
  ASSERT_TRUE(a_.Change(state, 1, Stamping("phantom", false)).ok());
  EXPECT_EQ(a_.Persist(state).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(a_.Change(state, 1, Stamping("phantom", false)).code(),
            absl::StatusCode::kAborted);
  ASSERT_TRUE(a_.Find("x").ok());
  EXPECT_EQ(Seen(state), "theirs");
}

TEST_F(SharedBookTest, AnAgentThatWasMadeAgainElsewhereIsNotTheOneKnownHere) {
  const auto first = Open(&a_, 1, kOpenWrite | kOpenCreate);
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(a_.Change(first->state.get(), 1, Stamping("old")).ok());
  a_.Release(first->state.get(), 1);
  const auto theirs = Open(&b_, 2, 0);
  ASSERT_TRUE(theirs.ok());
  ASSERT_TRUE(b_.Delete(theirs->state.get()).ok());
  const auto made = Open(&b_, 3, kOpenWrite | kOpenCreate);
  ASSERT_TRUE(made.ok());
  ASSERT_TRUE(b_.Change(made->state.get(), 3, Stamping("new")).ok());
  b_.Release(made->state.get(), 3);
  // Of the same version as the one that is known here.
  const auto again = Open(&a_, 4, kOpenWrite);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(Seen(again->state.get()), "new");
}

TEST_F(SharedBookTest, AnAgentThatIsWrittenElsewhereIsNotDeletedNorAmended) {
  const auto first = Open(&a_, 1, kOpenWrite | kOpenCreate);
  ASSERT_TRUE(first.ok());
  const auto theirs = Open(&b_, 2, 0);
  ASSERT_TRUE(theirs.ok());
  EXPECT_EQ(b_.Delete(theirs->state.get()).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(b_.Amend(theirs->state.get(),
                     [](AgentRecord*) { return absl::OkStatus(); })
                .code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(a_.Change(first->state.get(), 1, Stamping("goes on")).ok());
}

TEST_F(SharedBookTest, ATakeOverOnTheSameNodeKeepsWhatIsVisible) {
  const auto first = Open(&a_, 1, kOpenWrite | kOpenCreate);
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(
      a_.Change(first->state.get(), 1, Stamping("visible", false)).ok());
  const auto next = Open(&a_, 2, kOpenWrite | kOpenTakeOver);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(Seen(next->state.get()), "visible");
  ASSERT_TRUE(a_.Persist(next->state.get()).ok());
  ASSERT_TRUE(b_.Find("x").ok());
}

TEST_F(SharedBookTest, AClaimOfAnotherVersionIsRefusedAndBothAreNamed) {
  std::string value = EncodeWriterClaim({"a", 1, "w", 7});
  EXPECT_EQ(*DecodeWriterClaim("r", value), (WriterClaim{"a", 1, "w", 7}));
  value[4] = 9;
  const auto refused = DecodeWriterClaim("r", value);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(StatusMessage(refused.status()).find("9"), std::string::npos);
  for (std::size_t n = 0; n < value.size(); ++n) {
    value[4] = 1;
    EXPECT_FALSE(DecodeWriterClaim("r", value.substr(0, n)).ok()) << n;
  }
}

}  // namespace
}  // namespace agentmem
