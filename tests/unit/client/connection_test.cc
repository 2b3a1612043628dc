#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "gmock/gmock.h"
#include "tests/unit/client/client_test_base.h"

namespace agentmem {
namespace {

using testing::HasSubstr;

using ConnectionTest = ClientTest;

TEST_F(ConnectionTest, WithoutMemdTheSocketIsNamed) {
  EXPECT_EQ(Connect(kShortNs), AGENTMEM_UNAVAILABLE);
  EXPECT_THAT(error_.message, HasSubstr(socket_path_));
  EXPECT_EQ(client_, nullptr);
}

UniqueFd Listen(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                   sizeof(address)),
            0);
  EXPECT_EQ(::listen(fd.get(), 16), 0);
  return fd;
}

TEST_F(ConnectionTest, AMemdThatIsStoppedIsNotSaidToBeAway) {
  const UniqueFd listener = Listen(socket_path_);
  EXPECT_EQ(Connect(kShortNs), AGENTMEM_UNAVAILABLE);
  EXPECT_THAT(error_.message, HasSubstr(socket_path_));
  EXPECT_THAT(error_.message, HasSubstr("has not answered before"));
  EXPECT_THAT(error_.message, Not(HasSubstr("start memd")));
}

TEST_F(ConnectionTest, OneConnectAsksLessAndLessOften) {
  const UniqueFd listener = Listen(socket_path_);
  std::atomic<int> calls = 0;
  std::thread refuser([&] {
    while (true) {
      const UniqueFd caller(::accept(listener.get(), nullptr, nullptr));
      if (!caller.valid()) return;
      ++calls;
    }
  });
  EXPECT_EQ(Connect(300'000'000), AGENTMEM_UNAVAILABLE);
  ::shutdown(listener.get(), SHUT_RDWR);
  refuser.join();
  EXPECT_GE(calls, 2);
  EXPECT_LE(calls, 12);  // behind 0, 2, 6, 14, 30, 62, 126, 254 and 300 ms
}

TEST_F(ConnectionTest, ARefusalIsPassedOn) {
  FakeMemd::Options options;
  options.refusal = "tenant blue belongs to uid 7";
  Start(options);
  EXPECT_EQ(Connect(), AGENTMEM_PERMISSION_DENIED);
  EXPECT_THAT(error_.message, HasSubstr("tenant blue belongs to uid 7"));
}

TEST_F(ConnectionTest, AnotherProtocolVersionNamesBoth) {
  FakeMemd::Options options;
  options.wire_version = 9;
  Start(options);
  EXPECT_EQ(Connect(), AGENTMEM_FAILED_PRECONDITION);
  EXPECT_THAT(error_.message, HasSubstr("version 9"));
  EXPECT_THAT(error_.message, HasSubstr("version 1"));
}

TEST_F(ConnectionTest, AnotherClientLayoutNamesBoth) {
  FakeMemd::Options options;
  options.client_layout_version = 3;
  Start(options);
  EXPECT_EQ(Connect(), AGENTMEM_FAILED_PRECONDITION);
  EXPECT_THAT(error_.message, HasSubstr("version 3"));
  EXPECT_THAT(error_.message, HasSubstr("version 1"));
}

TEST_F(ConnectionTest, AnotherIndexLayoutNamesBoth) {
  FakeMemd::Options options;
  options.index_version = 4;
  Start(options);
  EXPECT_EQ(Connect(), AGENTMEM_FAILED_PRECONDITION);
  EXPECT_THAT(error_.message, HasSubstr("version 4"));
  EXPECT_THAT(error_.message, HasSubstr("version 1"));
}

TEST_F(ConnectionTest, OptionsWithoutTheirSizeAreRefused) {
  agentmem_options options = {};
  EXPECT_EQ(agentmem_connect(&options, &client_, &error_),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("sizeof(agentmem_options)"));
}

TEST_F(ConnectionTest, ClosingTellsMemd) {
  StartAndConnect();
  Close();
  memd_->AwaitCount(Op::kClose, 1);
}

TEST_F(ConnectionTest, AThreadThatEndsGivesItsTableBack) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "hello");
  for (std::uint32_t i = 0; i < 2 * kThreadTables; ++i) {
    std::thread([this] {
      agentmem_span span;
      ASSERT_EQ(Get(TestKey(1), &span, 0), AGENTMEM_OK);
      EXPECT_EQ(memd_->file().header().thread_table_mask.load(), 1u);
      agentmem_release(client_, &span, 1);
    }).join();
    EXPECT_EQ(memd_->file().header().thread_table_mask.load(), 0u);
  }
}

TEST_F(ConnectionTest, ASpanOutlivesTheThreadThatGotIt) {
  StartAndConnect();
  const std::uint32_t slot = memd_->AddResident(AsKey(TestKey(1)), "hello");
  agentmem_span span;
  std::thread([&] { ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK); }).join();
  EXPECT_EQ(memd_->PinsOn(slot), 1);
  EXPECT_EQ(TextOf(span), "hello");
  agentmem_release(client_, &span, 1);
  EXPECT_EQ(memd_->PinsOn(slot), 0);
  EXPECT_EQ(memd_->file().header().thread_table_mask.load(), 0u);
}

TEST_F(ConnectionTest, PinsReturnedByAnotherThreadAreUsedAgain) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "hello");
  std::vector<agentmem_span> spans(kThreadPins);
  for (int round = 0; round < 3; ++round) {
    for (auto& span : spans) ASSERT_EQ(Get(TestKey(1), &span, 0), AGENTMEM_OK);
    std::thread([&] {
      agentmem_release(client_, spans.data(), spans.size());
    }).join();
    EXPECT_EQ(memd_->Pins(), 0);
  }
}

TEST_F(ConnectionTest, AThreadWithoutATableWorksWithHolds) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "hello");
  memd_->AddBelow(AsKey(TestKey(2)), "below");
  std::vector<agentmem_span> spans(kThreadTables);
  // Spans that outlive their threads keep all tables taken.
  for (auto& span : spans) {
    std::thread([&] { ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK); }).join();
  }
  agentmem_span one_more;
  ASSERT_EQ(Get(TestKey(1), &one_more), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(TextOf(one_more), "hello");
  EXPECT_EQ(memd_->holds(), 1u);
  agentmem_release(client_, &one_more, 1);
  agentmem_release(client_, spans.data(), spans.size());
  EXPECT_EQ(memd_->Pins(), 0);
  // And takes one as soon as there is one again.
  ASSERT_EQ(Get(TestKey(2), &one_more), AGENTMEM_OK);
  EXPECT_EQ(memd_->Pins(), 1);
  agentmem_release(client_, &one_more, 1);
}

TEST_F(ConnectionTest, TwoClientsInAThreadKeepApart) {
  StartAndConnect();
  const std::uint32_t slot = memd_->AddResident(AsKey(TestKey(1)), "hello");
  agentmem_client* first = client_;
  ASSERT_EQ(Connect(), AGENTMEM_OK);
  agentmem_client* second = client_;
  const agentmem_key key = TestKey(1);
  agentmem_span spans[2];
  ASSERT_EQ(agentmem_get(first, &key, 1, 0, &spans[0], nullptr), AGENTMEM_OK);
  ASSERT_EQ(agentmem_get(second, &key, 1, 0, &spans[1], nullptr), AGENTMEM_OK);
  agentmem_release(first, &spans[0], 1);
  EXPECT_EQ(memd_->PinsOn(slot), 1);
  agentmem_close(first);
  EXPECT_EQ(TextOf(spans[1]), "hello");
  agentmem_release(second, &spans[1], 1);
  EXPECT_EQ(memd_->PinsOn(slot), 0);
}

TEST_F(ConnectionTest, AClientMayBeClosedBeforeItsThreadsEnd) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "hello");
  agentmem_span span;
  ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK);
  std::thread user([this] {
    agentmem_span leaked;
    ASSERT_EQ(Get(TestKey(1), &leaked), AGENTMEM_OK);
    Close();
  });
  user.join();
  ASSERT_EQ(Connect(), AGENTMEM_OK);
  ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK);
  agentmem_release(client_, &span, 1);
}

TEST_F(ConnectionTest, AForkedChildIsRefusedAndHarmsNothing) {
  StartAndConnect();
  const std::uint32_t slot = memd_->AddResident(AsKey(TestKey(1)), "hello");
  agentmem_span span;
  ASSERT_EQ(Get(TestKey(1), &span), AGENTMEM_OK);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    agentmem_span other = {};
    int wrong = Get(TestKey(1), &other) != AGENTMEM_FAILED_PRECONDITION;
    wrong += Put(TestKey(2), "x") != AGENTMEM_FAILED_PRECONDITION;
    agentmem_release(client_, &span, 1);
    agentmem_close(client_);
    client_ = nullptr;
    // Its own connection is its own.
    wrong += Connect() != AGENTMEM_OK;
    wrong += Get(TestKey(1), &other) != AGENTMEM_OK;
    // memd takes back what a closed client leaves when it comes to it; the
    // parent counts at once.
    agentmem_release(client_, &other, 1);
    agentmem_close(client_);
    _exit(wrong);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(TextOf(span), "hello");
  agentmem_release(client_, &span, 1);
  EXPECT_EQ(memd_->PinsOn(slot), 0);
}

TEST_F(ConnectionTest, AfterMemdsDeathResidentBlocksAreStillRead) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "hello");
  agentmem_span before;
  ASSERT_EQ(Get(TestKey(1), &before), AGENTMEM_OK);
  Kill();
  agentmem_span after;
  ASSERT_EQ(Get(TestKey(1), &after), AGENTMEM_OK);
  EXPECT_EQ(TextOf(before), "hello");
  EXPECT_EQ(TextOf(after), "hello");
  agentmem_release(client_, &before, 1);
  agentmem_release(client_, &after, 1);
}

TEST_F(ConnectionTest, WithMemdGoneEverythingElseIsUnavailableByItsDeadline) {
  StartAndConnect();
  ASSERT_EQ(Put(TestKey(1), "x"), AGENTMEM_OK);  // there are grants now
  memd_->AwaitCount(Op::kPublish, 1);
  agentmem_reservation room = {};
  ASSERT_EQ(agentmem_reserve(client_, 5, kLongNs, &room, &error_), AGENTMEM_OK);
  Kill();
  agentmem_span span;
  EXPECT_EQ(Get(TestKey(9), &span, kShortNs), AGENTMEM_UNAVAILABLE);
  EXPECT_THAT(error_.message, HasSubstr(socket_path_));
  EXPECT_EQ(Put(TestKey(2), "x", nullptr, kShortNs), AGENTMEM_UNAVAILABLE);
  const agentmem_key key = TestKey(3);
  EXPECT_EQ(agentmem_publish(client_, &room, &key, 5, AGENTMEM_CACHE,
                             AGENTMEM_VISIBLE, kShortNs, nullptr, &error_),
            AGENTMEM_UNAVAILABLE);
  agentmem_reservation more = {};
  EXPECT_EQ(agentmem_reserve(client_, 5, kShortNs, &more, &error_),
            AGENTMEM_UNAVAILABLE);
  EXPECT_EQ(more.data, nullptr);
}

TEST_F(ConnectionTest, APutInFlightWhenMemdDiesIsUnavailable) {
  StartAndConnect();
  memd_->Grant(512);
  memd_->Pause();
  agentmem_put_id put = 0;
  ASSERT_EQ(Put(TestKey(1), "x", &put), AGENTMEM_OK);
  Kill();
  EXPECT_EQ(agentmem_put_wait(client_, put, kLongNs, &error_),
            AGENTMEM_UNAVAILABLE);
}

TEST_F(ConnectionTest, AnAnswerGivenBeforeDeathCounts) {
  StartAndConnect();
  agentmem_put_id put = 0;
  ASSERT_EQ(Put(TestKey(1), "x", &put), AGENTMEM_OK);
  memd_->AwaitCount(Op::kPublish, 1);
  Kill();
  EXPECT_EQ(agentmem_put_wait(client_, put, kLongNs, &error_), AGENTMEM_OK)
      << error_.message;
}

TEST_F(ConnectionTest, TheClientReconnectsByItselfAndOldSpansStay) {
  StartAndConnect();
  memd_->AddResident(AsKey(TestKey(1)), "old");
  agentmem_span old;
  ASSERT_EQ(Get(TestKey(1), &old), AGENTMEM_OK);
  Kill();
  Start();
  memd_->AddBelow(AsKey(TestKey(2)), "new");
  agentmem_span fresh;
  ASSERT_EQ(Get(TestKey(2), &fresh), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(TextOf(fresh), "new");
  EXPECT_EQ(TextOf(old), "old");
  EXPECT_EQ(memd_->connections(), 1);
  ASSERT_EQ(Put(TestKey(3), "again"), AGENTMEM_OK) << error_.message;
  agentmem_release(client_, &old, 1);
  agentmem_release(client_, &fresh, 1);
  EXPECT_EQ(memd_->Pins(), 0);
}

TEST_F(ConnectionTest, AGetThatWaitsWhenMemdDiesIsAskedAgainOfTheNext) {
  StartAndConnect();
  memd_->Pause();
  agentmem_code code = AGENTMEM_UNKNOWN;
  agentmem_span span;
  std::thread waiter([&] { code = Get(TestKey(1), &span); });
  const ClientFile file = memd_->file();
  while (file.header().submission_tail.load() == 0) std::this_thread::yield();
  Kill();
  Start();
  memd_->AddBelow(AsKey(TestKey(1)), "answer");
  waiter.join();
  // It may have asked the new memd before the block was there.
  if (code == AGENTMEM_OK) {
    EXPECT_EQ(TextOf(span), "answer");
    agentmem_release(client_, &span, 1);
  } else {
    EXPECT_EQ(code, AGENTMEM_NOT_FOUND);
  }
  EXPECT_EQ(memd_->connections(), 1);
}

}  // namespace
}  // namespace agentmem
