#include "memd/agents/agent_book.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/memd/agents/fake_refs.h"

namespace agentmem {
namespace {

constexpr TenantId kTenant(1);
const char kRef[] = "agent/1/a";

AgentBook::LineageMaker CountingLineages() {
  return [last = std::uint64_t{0}]() mutable { return ++last; };
}

std::string StampOf(const AgentRecord& record) {
  return record.labels.empty() ? "" : record.labels[0].second;
}

// Writes `stamp`, and says what was there.
RecordChange Stamping(const std::string& stamp, std::string* before,
                      bool durable = true) {
  RecordChange change;
  change.durable = durable;
  change.edit = [stamp, before](AgentRecord* record) {
    *before = StampOf(*record);
    record->labels = {{"stamp", stamp}};
    return absl::OkStatus();
  };
  return change;
}

class BookTest : public ::testing::Test {
 protected:
  AgentBook::Opened Open(AgentBook* book, std::uint64_t token,
                         std::uint32_t flags) {
    auto opened = book->Open("a", flags, {},
                             {token, "w" + std::to_string(token), 7, 0}, 1);
    EXPECT_TRUE(opened.ok()) << opened.status().ToString();
    return opened.ok() ? *opened : AgentBook::Opened();
  }
  std::string StoredStamp() {
    const auto ref = refs_.Read(kRef);
    const auto record = DecodeAgentRecord("a", ref->value);
    return record.ok() ? StampOf(*record) : "";
  }

  FakeRefs refs_;
  AgentBook book_{&refs_, kTenant, CountingLineages()};
};

TEST_F(BookTest, TheSecondWriterIsToldWhoIsTheFirst) {
  const auto first = Open(&book_, 1, kOpenWrite | kOpenCreate);
  const auto second = book_.Open("a", kOpenWrite, {}, {2, "w2", 8, 0}, 1);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(StatusMessage(second.status()).find("\"w1\" (process 7)"),
            std::string::npos);
  book_.Release(first.state.get(), 1);
  EXPECT_TRUE(book_.Open("a", kOpenWrite, {}, {2, "w2", 8, 0}, 1).ok());
}

TEST_F(BookTest, WhoWasTakenOverChangesNothing) {
  const auto first = Open(&book_, 1, kOpenWrite | kOpenCreate);
  const auto second = Open(&book_, 2, kOpenWrite | kOpenTakeOver);
  EXPECT_GT(second.fence.value(), first.fence.value());
  std::string before;
  const absl::Status late =
      book_.Change(first.state.get(), 1, Stamping("late", &before));
  EXPECT_EQ(late.code(), absl::StatusCode::kAborted);
  EXPECT_NE(StatusMessage(late).find("\"w2\""), std::string::npos);
  EXPECT_EQ(StoredStamp(), "");
}

TEST_F(BookTest, ADurableChangeWaitsForTheBlocksOfVisibleOnes) {
  const auto opened = Open(&book_, 1, kOpenWrite | kOpenCreate);
  AgentState* const state = opened.state.get();
  std::string before;
  RecordChange visible = Stamping("visible", &before, false);
  const Key block = Key::FromWords(1, 2);
  visible.unsettled = {&block, 1};
  ASSERT_TRUE(book_.Change(state, 1, visible).ok());
  EXPECT_EQ(StoredStamp(), "");
  EXPECT_TRUE(
      IsNotSettled(book_.Change(state, 1, Stamping("durable", &before))));
  EXPECT_TRUE(IsNotSettled(book_.Persist(state)));
  EXPECT_TRUE(IsNotSettled(book_.Fork(state, "b", {}, 1)));
  EXPECT_TRUE(IsNotSettled(
      book_.Amend(state, [](AgentRecord*) { return absl::OkStatus(); })));
  EXPECT_EQ(StoredStamp(), "");
  {
    MutexLock lock(&state->mutex);
    state->unsettled.clear();
  }
  ASSERT_TRUE(book_.Persist(state).ok());
  EXPECT_EQ(StoredStamp(), "visible");
}

TEST_F(BookTest, AChangeThatTheStoreRefusesIsNotSeen) {
  const auto opened = Open(&book_, 1, kOpenWrite | kOpenCreate);
  std::string before;
  refs_.failures = 1;
  EXPECT_EQ(
      book_.Change(opened.state.get(), 1, Stamping("lost", &before)).code(),
      absl::StatusCode::kUnavailable);
  ASSERT_TRUE(
      book_.Change(opened.state.get(), 1, Stamping("next", &before)).ok());
  EXPECT_EQ(before, "");
}

TEST_F(BookTest, AChangeWhoseAnswerIsLostIsFoundInTheStore) {
  const auto opened = Open(&book_, 1, kOpenWrite | kOpenCreate);
  std::string before;
  refs_.lost_answers = 1;
  EXPECT_TRUE(
      book_.Change(opened.state.get(), 1, Stamping("one", &before)).ok());
  EXPECT_TRUE(
      book_.Change(opened.state.get(), 1, Stamping("two", &before)).ok());
  EXPECT_EQ(before, "one");
  EXPECT_EQ(StoredStamp(), "two");
}

TEST_F(BookTest, WhereTheStoreDoesNotSayEitherItIsAskedBeforeTheNextChange) {
  const auto opened = Open(&book_, 1, kOpenWrite | kOpenCreate);
  AgentState* const state = opened.state.get();
  std::string before;
  refs_.lost_answers = 1;
  refs_.failing_reads = 2;
  const auto change = [&](const std::string& stamp) {
    return book_.Change(state, 1, Stamping(stamp, &before)).code();
  };
  EXPECT_EQ(change("one"), absl::StatusCode::kUnavailable);
  EXPECT_EQ(change("two"), absl::StatusCode::kUnavailable);
  EXPECT_EQ(change("three"), absl::StatusCode::kOk);
  EXPECT_EQ(before, "one");
  EXPECT_EQ(StoredStamp(), "three");
  // And what was not made, is not.
  refs_.failures = 1;
  refs_.failing_reads = 1;
  EXPECT_EQ(change("four"), absl::StatusCode::kUnavailable);
  EXPECT_EQ(change("five"), absl::StatusCode::kOk);
  EXPECT_EQ(before, "three");
}

TEST_F(BookTest, AForkAndADeletionWhoseAnswersAreLostAreThere) {
  const auto opened = Open(&book_, 1, kOpenWrite | kOpenCreate);
  const auto fork = [&](const std::string& name) {
    return book_.Fork(opened.state.get(), name, {}, 5).code();
  };
  refs_.lost_answers = 1;
  EXPECT_EQ(fork("b"), absl::StatusCode::kOk);
  EXPECT_TRUE(book_.Find("b").ok());
  refs_.lost_answers = 1;
  refs_.failing_reads = 1;
  const auto lost = fork("c");
  EXPECT_EQ(lost, absl::StatusCode::kUnavailable);
  EXPECT_TRUE(book_.Find("c").ok());
  refs_.lost_answers = 1;
  EXPECT_TRUE(book_.Delete(book_.Find("b")->get()).ok());
  EXPECT_EQ(book_.Find("b").status().code(), absl::StatusCode::kNotFound);
  refs_.lost_answers = 1;
  refs_.failing_reads = 1;
  EXPECT_FALSE(book_.Delete(book_.Find("c")->get()).ok());
  EXPECT_EQ(book_.Find("c").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(BookTest, AForkBeginsAsItsOriginAndGoesItsOwnWay) {
  const auto opened = Open(&book_, 1, kOpenWrite | kOpenCreate);
  std::string before;
  ASSERT_TRUE(
      book_.Change(opened.state.get(), 1, Stamping("one", &before)).ok());
  ASSERT_TRUE(book_.Fork(opened.state.get(), "b", {}, 5).ok());
  EXPECT_EQ(book_.Fork(opened.state.get(), "b", {}, 5).code(),
            absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(
      book_.Change(opened.state.get(), 1, Stamping("two", &before)).ok());
  const auto fork = book_.Find("b");
  ASSERT_TRUE(fork.ok());
  MutexLock lock(&(*fork)->mutex);
  EXPECT_EQ(StampOf((*fork)->record), "one");
  EXPECT_EQ((*fork)->record.origin->agent, "a");
}

TEST_F(BookTest, ADeletedAgentIsMadeAnewWithAnotherLineage) {
  auto opened = Open(&book_, 1, kOpenWrite | kOpenCreate);
  EXPECT_EQ(book_.Delete(opened.state.get()).code(),
            absl::StatusCode::kFailedPrecondition)
      << "somebody writes it";
  book_.Release(opened.state.get(), 1);
  ASSERT_TRUE(book_.Delete(opened.state.get()).ok());
  EXPECT_EQ(book_.Find("a").status().code(), absl::StatusCode::kNotFound);
  opened = Open(&book_, 2, kOpenWrite | kOpenCreate);
  EXPECT_TRUE(opened.made);
  MutexLock lock(&opened.state->mutex);
  EXPECT_EQ(opened.state->record.lineage, 2u);
}

// Writers of one agent in two books over one store, as on two nodes, in any
// order: the changes that were acknowledged are one sequence, each made upon
// the one before, and the store holds the last.
TEST_F(BookTest, AHundredThousandInterleavingsAreLinearizable) {
  std::mt19937 random(1);
  const auto roll = [&](std::uint32_t below) { return random() % below; };
  struct Writer {
    std::optional<AgentBook::Opened> opened;
    std::uint64_t token = 0;
  };
  std::uint64_t token = 0;
  std::uint64_t stamp = 0;
  std::uint64_t acknowledged = 0;
  std::uint64_t fenced_off = 0;
  std::uint64_t unknown = 0;
  std::string last;  // acknowledged
  std::vector<std::unique_ptr<AgentBook>> books(2);
  Writer writers[2][2];  // of a book
  for (int step = 0; step < 100'000; ++step) {
    const std::uint32_t node = roll(2);
    if (books[node] == nullptr || roll(200) == 0) {
      // memd is restarted there.
      for (Writer& writer : writers[node]) writer.opened.reset();
      books[node] =
          std::make_unique<AgentBook>(&refs_, kTenant, CountingLineages());
    }
    AgentBook* const book = books[node].get();
    Writer& writer = writers[node][roll(2)];
    if (!writer.opened.has_value()) {
      writer.token = ++token;
      const std::uint32_t flags =
          kOpenWrite | kOpenCreate | (roll(3) == 0 ? kOpenTakeOver : 0);
      refs_.failures = roll(50) == 0;
      auto opened = book->Open("a", flags, {}, {writer.token, "w", 1, 0}, step);
      refs_.failures = 0;
      if (opened.ok()) writer.opened = std::move(*opened);
      continue;
    }
    AgentState* const state = writer.opened->state.get();
    if (roll(20) == 0) {
      book->Release(state, writer.token);
      writer.opened.reset();
      continue;
    }
    const std::string mine = std::to_string(++stamp);
    std::string before;
    const std::uint32_t trouble = roll(50);
    refs_.failures = trouble == 0;
    refs_.lost_answers = trouble == 1;
    refs_.failing_reads = static_cast<int>(roll(3));
    const absl::Status status =
        book->Change(state, writer.token, Stamping(mine, &before));
    refs_.failures = refs_.lost_answers = refs_.failing_reads = 0;
    if (status.code() == absl::StatusCode::kUnavailable) {
      // It was made, or it was not.
      const std::string stored = StoredStamp();
      if (stored == mine) last = mine;
      ++unknown;
    }
    if (status.ok()) {
      ASSERT_EQ(before, last) << "step " << step;
      ASSERT_EQ(refs_.Read(kRef)->fence, writer.opened->fence)
          << "step " << step << ": a writer that was fenced off";
      last = mine;
      ++acknowledged;
    } else if (status.code() == absl::StatusCode::kAborted) {
      ++fenced_off;
      book->Release(state, writer.token);
      writer.opened.reset();
      // What it knows of the agent is old: its memd reads it anew.
      if (roll(2) == 0) {
        for (Writer& other : writers[node]) other.opened.reset();
        books[node].reset();
      }
    }
    ASSERT_EQ(StoredStamp(), last) << "step " << step;
  }
  EXPECT_GT(acknowledged, 10'000u);
  EXPECT_GT(fenced_off, 1'000u);
  EXPECT_GT(unknown, 1'000u);
}

}  // namespace
}  // namespace agentmem
