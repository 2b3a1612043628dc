#include "client/messages.h"

#include "gmock/gmock.h"

namespace agentmem::client {
namespace {

using testing::HasSubstr;

TEST(MessagesTest, BytesAreReadable) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(std::uint64_t{3} << 30), "3 GiB");
}

TEST(MessagesTest, AFullQuotaIsAnsweredWithWhatThereIsToDo) {
  CompletionEntry answer = {};
  answer.reason = Reason::kStoreQuota;
  answer.code = Code::kResourceExhausted;
  EXPECT_THAT(Explain(answer), HasSubstr("raise store_quota"));
  EXPECT_THAT(Explain(answer), HasSubstr("memctl agent delete"));
}

TEST(MessagesTest, EveryReasonHasASentenceOfItsOwn) {
  CompletionEntry answer = {};
  std::string last;
  for (std::uint16_t reason = 1; reason <= 15; ++reason) {
    answer.reason = static_cast<Reason>(reason);
    const std::string text = Explain(answer);
    EXPECT_GT(text.size(), 10u) << reason;
    EXPECT_THAT(text, Not(HasSubstr("this version of"))) << reason;
    EXPECT_NE(text, last);
    last = text;
  }
}

TEST(MessagesTest, AnotherNodesStoreIsNamedAndSaysWhatItLacks) {
  CompletionEntry answer = {};
  answer.reason = Reason::kRemoteStore;
  answer.code = Code::kResourceExhausted;
  std::memcpy(answer.detail, "store-1", 7);
  EXPECT_THAT(Explain(answer), HasSubstr("the store of node store-1"));
  EXPECT_THAT(Explain(answer), HasSubstr("no room"));
  answer.code = Code::kUnavailable;
  EXPECT_THAT(Explain(answer), HasSubstr("does not answer"));
  // All of it is a name, and none of it drives a terminal.
  std::memset(answer.detail, '\x1b', sizeof(answer.detail));
  EXPECT_THAT(Explain(answer), HasSubstr(std::string(24, '?')));
}

TEST(MessagesTest, NodesThatAreFullAreCalledSo) {
  CompletionEntry answer = {};
  answer.reason = Reason::kNoReplica;
  answer.code = Code::kUnavailable;
  answer.detail[0] = static_cast<std::uint64_t>(Code::kUnavailable);
  EXPECT_THAT(Explain(answer), HasSubstr("there is none"));
  answer.detail[0] = static_cast<std::uint64_t>(Code::kResourceExhausted);
  EXPECT_THAT(Explain(answer), HasSubstr("export is full"));
}

TEST(MessagesTest, AReasonOfANewerMemdIsNamedByItsNumber) {
  CompletionEntry answer = {};
  answer.reason = static_cast<Reason>(999);
  EXPECT_THAT(Explain(answer), HasSubstr("999"));
}

TEST(MessagesTest, AVersionMismatchNamesBothVersions) {
  EXPECT_THAT(VersionMismatch("index", 7, 1),
              AllOf(HasSubstr("version 7"), HasSubstr("version 1")));
}

}  // namespace
}  // namespace agentmem::client
