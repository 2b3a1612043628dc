#include <cstring>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/client/client_test_base.h"

namespace agentmem {
namespace {

using testing::HasSubstr;

using PutTest = ClientTest;

TEST_F(PutTest, APutIsReadBackByItsClient) {
  StartAndConnect();
  agentmem_put_id put = 0;
  ASSERT_EQ(Put(TestKey(1), "bytes", &put), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(agentmem_put_wait(client_, put, kLongNs, &error_), AGENTMEM_OK);
  EXPECT_EQ(memd_->BytesOf(AsKey(TestKey(1))), "bytes");
}

TEST_F(PutTest, APostedPutIsReadBeforeMemdHasLookedAtIt) {
  StartAndConnect();
  memd_->Grant(512);
  memd_->Pause();
  ASSERT_EQ(Put(TestKey(1), "mine"), AGENTMEM_OK);
  // Not visible, but not certainly nowhere.
  agentmem_span span;
  EXPECT_EQ(Get(TestKey(1), &span, 0), AGENTMEM_DEADLINE_EXCEEDED);
  memd_->Resume();
  // The fetch stands behind the publish in the ring.
  ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(TextOf(span), "mine");
  agentmem_release(client_, &span, 1);
}

TEST_F(PutTest, LengthsOutsideTheLimitsAreRefusedWithTheLimits) {
  StartAndConnect();
  EXPECT_EQ(Put(TestKey(1), ""), AGENTMEM_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("length 0"));
  EXPECT_EQ(Put(TestKey(1), std::string(AGENTMEM_BLOCK_BYTES_MAX + 1, 'x')),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("1 to 4194304"));
  EXPECT_EQ(Put(TestKey(1), std::string(AGENTMEM_BLOCK_BYTES_MAX, 'x')),
            AGENTMEM_OK);
}

TEST_F(PutTest, UnknownClassAndAcknowledgementAreRefused) {
  StartAndConnect();
  const agentmem_key key = TestKey(1);
  EXPECT_EQ(agentmem_put(client_, &key, "x", 1, 9, AGENTMEM_VISIBLE, 0, nullptr,
                         &error_),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("class 9"));
  EXPECT_EQ(agentmem_put(client_, &key, "x", 1, AGENTMEM_CACHE, 0, 0, nullptr,
                         &error_),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("acknowledgement 0"));
}

TEST_F(PutTest, TheGrantOfTheRightSizeIsTaken) {
  StartAndConnect();
  memd_->Grant(1 << 20);
  memd_->Grant(4096);
  memd_->Grant(512);
  agentmem_reservation room = {};
  ASSERT_EQ(agentmem_reserve(client_, 4000, kLongNs, &room, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(room.capacity, 4096u);
  EXPECT_EQ(memd_->GrantsIn(GrantState::kWriting), 1);
  EXPECT_EQ(memd_->Count(Op::kWantGrants), 0);
  agentmem_abandon(client_, &room);
  memd_->AwaitCount(Op::kAbandon, 1);
  EXPECT_EQ(memd_->GrantsIn(GrantState::kWriting), 0);
}

TEST_F(PutTest, AMuchTooLargeGrantIsTakenOnlyWhenMemdHasNoOther) {
  StartAndConnect();
  memd_->Grant(1 << 20);
  CompletionEntry full = {};
  full.code = Code::kResourceExhausted;
  full.reason = Reason::kPoolFull;
  memd_->SetAnswer(Op::kWantGrants, full);
  ASSERT_EQ(Put(TestKey(1), "small"), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(memd_->Count(Op::kWantGrants), 1);
}

TEST_F(PutTest, AFullPoolIsNamedWithItsPinner) {
  StartAndConnect();
  CompletionEntry full = {};
  full.code = Code::kResourceExhausted;
  full.reason = Reason::kPoolFull;
  full.detail[0] = 512ULL << 20;
  full.detail[1] = 500ULL << 20;
  full.detail[2] = 1234;
  memd_->SetAnswer(Op::kWantGrants, full);
  EXPECT_EQ(Put(TestKey(1), "x"), AGENTMEM_RESOURCE_EXHAUSTED);
  EXPECT_THAT(error_.message, HasSubstr("512 MiB"));
  EXPECT_THAT(error_.message, HasSubstr("500 MiB"));
  EXPECT_THAT(error_.message, HasSubstr("process 1234"));
}

TEST_F(PutTest, AGrantThatComesWhileWaitingIsTakenBeforeTheAnswer) {
  StartAndConnect();
  memd_->Pause();
  agentmem_code code = AGENTMEM_UNKNOWN;
  std::thread putter([&] { code = Put(TestKey(1), "x"); });
  const ClientFile file = memd_->file();
  while (file.header().waiters.load() == 0) std::this_thread::yield();
  // kWantGrants stays unanswered.
  memd_->Grant(512);
  putter.join();
  EXPECT_EQ(code, AGENTMEM_OK) << error_.message;
  EXPECT_EQ(memd_->Count(Op::kWantGrants), 0);
  memd_->Resume();
}

TEST_F(PutTest, WithoutRoomAPutEndsAtItsDeadline) {
  StartAndConnect();
  memd_->Pause();
  EXPECT_EQ(Put(TestKey(1), "x", nullptr, kShortNs),
            AGENTMEM_DEADLINE_EXCEEDED);
  memd_->Resume();
}

TEST_F(PutTest, WithoutWaitingAPutAsksForRoomForTheNext) {
  StartAndConnect();
  memd_->Pause();  // else its grant may come before the put looks again
  EXPECT_EQ(Put(TestKey(1), "x", nullptr, 0), AGENTMEM_DEADLINE_EXCEEDED);
  memd_->Resume();
  memd_->AwaitCount(Op::kWantGrants, 1);
  EXPECT_EQ(Put(TestKey(1), "x", nullptr, 0), AGENTMEM_OK);
}

TEST_F(PutTest, WaitingForAPutCanBeRepeatedAfterADeadline) {
  StartAndConnect();
  memd_->Grant(512);
  memd_->Pause();
  agentmem_put_id put = 0;
  ASSERT_EQ(Put(TestKey(1), "x", &put), AGENTMEM_OK);
  EXPECT_EQ(agentmem_put_wait(client_, put, 0, &error_),
            AGENTMEM_DEADLINE_EXCEEDED);
  EXPECT_EQ(agentmem_put_wait(client_, put, kShortNs, &error_),
            AGENTMEM_DEADLINE_EXCEEDED);
  memd_->Resume();
  EXPECT_EQ(agentmem_put_wait(client_, put, kLongNs, &error_), AGENTMEM_OK);
  EXPECT_EQ(agentmem_put_wait(client_, put, kLongNs, &error_),
            AGENTMEM_INVALID_ARGUMENT);
}

TEST_F(PutTest, AForgottenPutIsNoLongerKnown) {
  StartAndConnect();
  agentmem_put_id put = 0;
  ASSERT_EQ(Put(TestKey(1), "x", &put), AGENTMEM_OK);
  agentmem_put_forget(client_, put);
  EXPECT_EQ(agentmem_put_wait(client_, put, kLongNs, &error_),
            AGENTMEM_INVALID_ARGUMENT);
}

TEST_F(PutTest, MorePutsThanTheRingHasPlacesAreAllPosted) {
  FakeMemd::Options options;
  options.slots = 3000;
  Start(options);
  ASSERT_EQ(Connect(), AGENTMEM_OK);
  std::vector<agentmem_put_id> puts(2500);
  for (std::uint32_t i = 0; i < puts.size(); ++i) {
    ASSERT_EQ(Put(TestKey(i), std::to_string(i), &puts[i]), AGENTMEM_OK)
        << i << error_.message;
  }
  for (std::uint32_t i = 0; i < puts.size(); ++i) {
    ASSERT_EQ(agentmem_put_wait(client_, puts[i], kLongNs, &error_),
              AGENTMEM_OK);
    ASSERT_EQ(memd_->BytesOf(AsKey(TestKey(i))), std::to_string(i));
  }
}

TEST_F(PutTest, AReservationIsPublishedWithoutACopy) {
  StartAndConnect();
  agentmem_reservation room = {};
  ASSERT_EQ(agentmem_reserve(client_, 5, kLongNs, &room, &error_), AGENTMEM_OK);
  std::memcpy(room.data, "there", 5);
  const agentmem_key key = TestKey(1);
  agentmem_put_id put = 0;
  ASSERT_EQ(agentmem_publish(client_, &room, &key, 5, AGENTMEM_STATE,
                             AGENTMEM_VISIBLE, kLongNs, &put, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(room.data, nullptr);
  EXPECT_EQ(agentmem_put_wait(client_, put, kLongNs, &error_), AGENTMEM_OK);
  EXPECT_EQ(memd_->BytesOf(AsKey(key)), "there");
  EXPECT_EQ(agentmem_publish(client_, &room, &key, 5, AGENTMEM_STATE,
                             AGENTMEM_VISIBLE, kLongNs, &put, &error_),
            AGENTMEM_INVALID_ARGUMENT);
}

TEST_F(PutTest, PublishingMoreThanTheCapacityEndsTheReservation) {
  StartAndConnect();
  agentmem_reservation room = {};
  ASSERT_EQ(agentmem_reserve(client_, 5, kLongNs, &room, &error_), AGENTMEM_OK);
  const agentmem_key key = TestKey(1);
  EXPECT_EQ(agentmem_publish(client_, &room, &key, 600, AGENTMEM_STATE,
                             AGENTMEM_VISIBLE, kLongNs, nullptr, &error_),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(room.data, nullptr);
  memd_->AwaitCount(Op::kAbandon, 1);
}

TEST_F(PutTest, MemdsRefusalOfAPublishIsTheAnswerOfItsWait) {
  StartAndConnect();
  CompletionEntry failed = {};
  failed.code = Code::kResourceExhausted;
  failed.reason = Reason::kStoreQuota;
  failed.detail[0] = 1 << 30;
  failed.detail[1] = 1 << 30;
  memd_->SetAnswer(Op::kPublish, failed);
  agentmem_put_id put = 0;
  ASSERT_EQ(Put(TestKey(1), "x", &put), AGENTMEM_OK);
  EXPECT_EQ(agentmem_put_wait(client_, put, kLongNs, &error_),
            AGENTMEM_RESOURCE_EXHAUSTED);
  EXPECT_THAT(error_.message, HasSubstr("store quota of 1 GiB"));
}

}  // namespace
}  // namespace agentmem
