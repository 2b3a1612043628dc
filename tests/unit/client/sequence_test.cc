#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/client/client_test_base.h"

namespace agentmem {
namespace {

using testing::HasSubstr;

constexpr std::uint32_t kBlockTokens = 16;

class SequenceTest : public ClientTest {
 protected:
  void SetUp() override {
    ClientTest::SetUp();
    StartMemd();
    Open(&sequence_, "model");
    tokens_.resize(10 * kBlockTokens + 5);
    std::iota(tokens_.begin(), tokens_.end(), 100u);
  }
  void TearDown() override {
    agentmem_sequence_close(sequence_);
    ClientTest::TearDown();
  }
  virtual void StartMemd() { StartAndConnect(); }
  // The keys of its first blocks.
  std::vector<Key> KeysOf(agentmem_sequence* sequence, std::size_t count) {
    EXPECT_EQ(Match(sequence, 0), 0u);
    std::vector<Key> keys(count);
    for (Key& key : keys) {
      agentmem_key next = {};
      EXPECT_EQ(agentmem_sequence_next(sequence, tokens_.data(), tokens_.size(),
                                       &next, &error_),
                AGENTMEM_OK);
      key = AsKey(next);
    }
    return keys;
  }
  void Open(agentmem_sequence** sequence, const char* model) {
    const agentmem_sequence_options options = {sizeof(options), kBlockTokens,
                                               model, "fp8", 3};
    ASSERT_EQ(agentmem_sequence_open(client_, &options, sequence, &error_),
              AGENTMEM_OK)
        << error_.message;
  }
  std::size_t Match(agentmem_sequence* sequence, std::size_t token_count,
                    std::vector<agentmem_key>* keys = nullptr) {
    std::vector<agentmem_key> found(512);
    std::size_t blocks = 99;
    EXPECT_EQ(
        agentmem_sequence_match(sequence, tokens_.data(), token_count,
                                found.data(), found.size(), &blocks, &error_),
        AGENTMEM_OK);
    found.resize(blocks);
    if (keys != nullptr) *keys = found;
    return blocks;
  }
  agentmem_code Append(const std::string& bytes) {
    agentmem_put_id put = 0;
    const agentmem_code code = agentmem_sequence_append(
        sequence_, tokens_.data(), tokens_.size(), bytes.data(), bytes.size(),
        AGENTMEM_CACHE, AGENTMEM_VISIBLE, kLongNs, &put, &error_);
    if (code != AGENTMEM_OK) return code;
    return agentmem_put_wait(client_, put, kLongNs, &error_);
  }

  agentmem_sequence* sequence_ = nullptr;
  std::vector<std::uint32_t> tokens_;
};

TEST_F(SequenceTest, WhatWasAppendedIsMatchedByAnotherSequence) {
  ASSERT_EQ(Append("zero"), AGENTMEM_OK) << error_.message;
  ASSERT_EQ(Append("one"), AGENTMEM_OK);
  agentmem_sequence* other = nullptr;
  Open(&other, "model");
  EXPECT_EQ(Match(other, tokens_.size()), 2u);
  EXPECT_EQ(Match(other, 2 * kBlockTokens - 1), 1u);
  EXPECT_EQ(Match(other, 0), 0u);
  agentmem_sequence_close(other);
}

TEST_F(SequenceTest, AnotherModelOrOtherTokensMatchNothing) {
  ASSERT_EQ(Append("zero"), AGENTMEM_OK);
  agentmem_sequence* other = nullptr;
  Open(&other, "another");
  EXPECT_EQ(Match(other, tokens_.size()), 0u);
  agentmem_sequence_close(other);
  tokens_[0] ^= 1;
  EXPECT_EQ(Match(sequence_, tokens_.size()), 0u);
}

TEST_F(SequenceTest, AMatchEndsAtTheFirstBlockThatIsMissing) {
  for (int i = 0; i < 4; ++i) ASSERT_EQ(Append("x"), AGENTMEM_OK);
  std::vector<agentmem_key> keys;
  ASSERT_EQ(Match(sequence_, tokens_.size(), &keys), 4u);
  memd_->Evict(AsKey(keys[2]));
  EXPECT_EQ(Match(sequence_, tokens_.size()), 2u);
  memd_->AddBelow(AsKey(keys[2]), "x");
  EXPECT_EQ(Match(sequence_, tokens_.size()), 4u);  // any tier counts
}

TEST_F(SequenceTest, AMatchOnANodeByItselfAsksNobody) {
  const std::vector<Key> keys = KeysOf(sequence_, 3);
  memd_->AddResident(keys[0], "x");
  memd_->AddElsewhere(keys[1]);
  const std::uint64_t before = Posted();
  EXPECT_EQ(Match(sequence_, tokens_.size()), 1u);
  EXPECT_EQ(Posted(), before);
}

class SharedSequenceTest : public SequenceTest {
 protected:
  void StartMemd() override { StartAndConnectInCluster(); }
};

TEST_F(SharedSequenceTest, AMatchGoesOnWithWhatOnlyOtherNodesHave) {
  const std::vector<Key> keys = KeysOf(sequence_, 10);
  memd_->AddElsewhere(keys[0]);
  memd_->AddResident(keys[1], "x");
  for (std::size_t i = 2; i < 8; ++i) memd_->AddElsewhere(keys[i]);
  std::vector<agentmem_key> found;
  ASSERT_EQ(Match(sequence_, tokens_.size(), &found), 8u);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(AsKey(found[i]), keys[i]) << i;
  EXPECT_EQ(memd_->Count(Op::kFetch), 0) << "no bytes are brought";
  agentmem_key next;
  ASSERT_EQ(agentmem_sequence_next(sequence_, tokens_.data(), tokens_.size(),
                                   &next, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(AsKey(next), keys[8]) << "the head is behind the match";
}

TEST_F(SharedSequenceTest, AMatchEndsAtTheFirstBlockThatNobodyHas) {
  const std::vector<Key> keys = KeysOf(sequence_, 10);
  for (std::size_t i = 0; i < 10; ++i) {
    if (i != 5) memd_->AddElsewhere(keys[i]);
  }
  EXPECT_EQ(Match(sequence_, tokens_.size()), 5u);
}

TEST_F(SharedSequenceTest, AMatchThatTheIndexAnswersWholeAsksNobody) {
  const std::vector<Key> keys = KeysOf(sequence_, 10);
  for (const Key& key : keys) memd_->AddBelow(key, "x");
  const std::uint64_t before = Posted();
  EXPECT_EQ(Match(sequence_, tokens_.size()), 10u);
  EXPECT_EQ(Posted(), before);
}

// One window, and so one round trip; and a small one.
TEST_F(SharedSequenceTest, AMatchOfWhatIsNowhereAsksOnce) {
  tokens_.resize(400 * kBlockTokens);
  EXPECT_EQ(Match(sequence_, tokens_.size()), 0u);
  EXPECT_EQ(memd_->Count(Op::kFindTier), 4);
}

TEST_F(SharedSequenceTest, ALongPrefixIsFoundWithEachBlockAskedForOnce) {
  tokens_.resize(400 * kBlockTokens);
  for (const Key& key : KeysOf(sequence_, 400)) memd_->AddElsewhere(key);
  EXPECT_EQ(Match(sequence_, tokens_.size()), 400u);
  EXPECT_EQ(memd_->Count(Op::kFindTier), 400);
}

TEST_F(SharedSequenceTest, AMatchWithoutAnAnswerIsThatOfTheIndex) {
  const std::vector<Key> keys = KeysOf(sequence_, 3);
  memd_->AddResident(keys[0], "x");
  memd_->AddElsewhere(keys[1]);
  memd_->Pause();
  EXPECT_EQ(Match(sequence_, tokens_.size()), 1u);
  memd_->Resume();
  EXPECT_EQ(Match(sequence_, tokens_.size()), 2u);
}

TEST_F(SharedSequenceTest, ALoadWithoutTimeAsksNobody) {
  const std::vector<Key> keys = KeysOf(sequence_, 2);
  memd_->AddResident(keys[0], "x");
  memd_->AddElsewhere(keys[1]);
  const std::uint64_t before = Posted();
  agentmem_span spans[8];
  std::size_t loaded = 0;
  ASSERT_EQ(agentmem_sequence_load(sequence_, tokens_.data(), tokens_.size(), 0,
                                   spans, 8, &loaded, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(loaded, 1u);
  EXPECT_EQ(Posted(), before);
  agentmem_release(client_, spans, loaded);
}

TEST_F(SharedSequenceTest, ALoadBringsWhatOnlyOtherNodesHave) {
  const std::vector<Key> keys = KeysOf(sequence_, 2);
  memd_->AddElsewhere(keys[0]);
  agentmem_span spans[8];
  std::size_t loaded = 0;
  ASSERT_EQ(agentmem_sequence_load(sequence_, tokens_.data(), tokens_.size(),
                                   kLongNs, spans, 8, &loaded, &error_),
            AGENTMEM_OK);
  ASSERT_EQ(loaded, 1u);
  EXPECT_EQ(TextOf(spans[0]), "from afar");
  agentmem_release(client_, spans, loaded);
}

TEST_F(SequenceTest, AMatchLeavesNoPin) {
  ASSERT_EQ(Append("x"), AGENTMEM_OK);
  ASSERT_EQ(Match(sequence_, tokens_.size()), 1u);
  EXPECT_EQ(memd_->Pins(), 0);
}

TEST_F(SequenceTest, TheHeadStandsBehindTheMatch) {
  ASSERT_EQ(Append("zero"), AGENTMEM_OK);
  std::vector<agentmem_key> keys;
  ASSERT_EQ(Append("one"), AGENTMEM_OK);
  ASSERT_EQ(Match(sequence_, tokens_.size(), &keys), 2u);
  ASSERT_EQ(Match(sequence_, kBlockTokens), 1u);
  agentmem_key next;
  ASSERT_EQ(agentmem_sequence_next(sequence_, tokens_.data(), tokens_.size(),
                                   &next, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(AsKey(next), AsKey(keys[1]));
}

TEST_F(SequenceTest, TokensThatDoNotFillTheBlockAreOutOfRange) {
  for (int i = 0; i < 10; ++i) ASSERT_EQ(Append("x"), AGENTMEM_OK);
  agentmem_key next;
  EXPECT_EQ(agentmem_sequence_next(sequence_, tokens_.data(), tokens_.size(),
                                   &next, &error_),
            AGENTMEM_OUT_OF_RANGE);
  EXPECT_THAT(error_.message, HasSubstr("165 tokens"));
  EXPECT_THAT(error_.message, HasSubstr("ends at token 176"));
}

TEST_F(SequenceTest, AnAppendThatFailsLeavesTheHead) {
  EXPECT_EQ(Append(""), AGENTMEM_INVALID_ARGUMENT);
  ASSERT_EQ(Append("zero"), AGENTMEM_OK);
  EXPECT_EQ(Match(sequence_, tokens_.size()), 1u);
}

TEST_F(SequenceTest, LoadBringsThePrefixAndEndsItWhereABlockVanished) {
  std::vector<agentmem_key> keys;
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(Append("block " + std::to_string(i)), AGENTMEM_OK);
  }
  ASSERT_EQ(Match(sequence_, tokens_.size(), &keys), 3u);
  agentmem_span spans[8];
  std::size_t loaded = 0;
  ASSERT_EQ(agentmem_sequence_load(sequence_, tokens_.data(), tokens_.size(),
                                   kLongNs, spans, 8, &loaded, &error_),
            AGENTMEM_OK);
  ASSERT_EQ(loaded, 3u);
  EXPECT_EQ(TextOf(spans[2]), "block 2");
  agentmem_release(client_, spans, loaded);
  // In the index, and gone when memd is asked.
  memd_->Evict(AsKey(keys[1]));
  memd_->AddBelow(AsKey(keys[1]), "x");
  CompletionEntry gone = {};
  gone.code = Code::kNotFound;
  gone.reason = Reason::kNoSuchBlock;
  memd_->SetAnswer(Op::kFetch, gone);
  ASSERT_EQ(agentmem_sequence_load(sequence_, tokens_.data(), tokens_.size(),
                                   kLongNs, spans, 8, &loaded, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(loaded, 1u);
  EXPECT_EQ(memd_->Pins(), 1);
  agentmem_release(client_, spans, loaded);
  memd_->ClearAnswer(Op::kFetch);
  agentmem_key next;
  ASSERT_EQ(agentmem_sequence_next(sequence_, tokens_.data(), tokens_.size(),
                                   &next, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(AsKey(next), AsKey(keys[1]));
}

TEST_F(SequenceTest, BadOptionsAreRefusedWithTheAllowedRange) {
  agentmem_sequence* other = nullptr;
  agentmem_sequence_options options = {sizeof(options), 0, "m", nullptr, 0};
  EXPECT_EQ(agentmem_sequence_open(client_, &options, &other, &error_),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("1 to 65536"));
  options.block_tokens = 16;
  options.model = "";
  EXPECT_EQ(agentmem_sequence_open(client_, &options, &other, &error_),
            AGENTMEM_INVALID_ARGUMENT);
  options.model = "m";
  options.layout_digest = "x";
  options.layout_digest_bytes = 65;
  EXPECT_EQ(agentmem_sequence_open(client_, &options, &other, &error_),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("0 to 64"));
  EXPECT_EQ(other, nullptr);
}

}  // namespace
}  // namespace agentmem
