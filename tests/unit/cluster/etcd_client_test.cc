#include "memd/cluster/etcd_client.h"

#include <gtest/gtest.h>

#include "base/status.h"
#include "memd/cluster/etcd_watch.h"
#include "tests/unit/cluster/etcd_process.h"

namespace agentmem {
namespace {

constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

class EtcdClientTest : public EtcdTest {
 protected:
  static TimeNs In(DurationNs ns) { return MonotonicNowNs() + ns; }

  absl::StatusOr<EtcdTxnResult> Put(const std::string& key,
                                    const std::string& value, TimeNs deadline) {
    EtcdTxn txn;
    txn.then = {{EtcdOp::Kind::kPut, key, value}};
    return client().Txn(txn, deadline);
  }
};

// Expect: an error that says what is wrong with the options.
TEST(EtcdOptionsTest, WrongEndpointsAndFilesAreRefusedByName) {
  struct {
    EtcdOptions options;
    const char* says;
  } const cases[] = {
      {{}, "no endpoint"},
      {{.endpoints = {"127.0.0.1:2379"}}, "127.0.0.1:2379"},
      {{.endpoints = {"http://127.0.0.1"}}, "http://host:port"},
      {{.endpoints = {"http://:2379"}}, "http://host:port"},
      {{.endpoints = {"http://h:2379/v3"}}, "http://host:port"},
      {{.endpoints = {"http://h:1", "https://h:2"}}, "all are http"},
      {{.endpoints = {"http://h:1"}, .ca_file = "/ca"}, "use https"},
      {{.endpoints = {"https://h:1"}, .ca_file = "/no/such"}, "/no/such"},
      {{.endpoints = {"https://h:1"}, .certificate_file = "/c"}, "one is"},
  };
  for (const auto& wrong : cases) {
    const auto client = EtcdClient::Make(wrong.options);
    ASSERT_EQ(client.status().code(), absl::StatusCode::kInvalidArgument)
        << wrong.says;
    EXPECT_NE(StatusMessage(client.status()).find(wrong.says),
              std::string::npos)
        << client.status().ToString();
  }
}

TEST(EtcdPrefixTest, ThePrefixesEndIsTheNextOneInByteOrder) {
  EXPECT_EQ(EtcdPrefixEnd("a/"), "a0");
  EXPECT_EQ(EtcdPrefixEnd("a\xff\xff"), "b");
  EXPECT_EQ(EtcdPrefixEnd(std::string("a\0", 2)), "a\x01");
}

TEST_F(EtcdClientTest, ATransactionHoldsOnlyIfNothingChangedSince) {
  const auto put = Put("key", "one", Patience());
  ASSERT_TRUE(put.ok());
  EtcdTxn txn;
  txn.unchanged = {{"key", 0}};
  txn.then = {{EtcdOp::Kind::kPut, "key", "two"}};
  txn.otherwise = {{EtcdOp::Kind::kGet, "key"}, {EtcdOp::Kind::kGet, "no"}};
  auto result = client().Txn(txn, Patience());
  ASSERT_TRUE(result.ok());
  EXPECT_FALSE(result->held);
  ASSERT_EQ(result->values.size(), 1u);
  EXPECT_EQ(result->values[0].value, "one");
  EXPECT_EQ(result->values[0].mod_revision, put->revision);
  txn.unchanged[0].second = put->revision;
  result = client().Txn(txn, Patience());
  EXPECT_TRUE(result->held);
  EXPECT_EQ(client().Range({"key"}, Patience())->values[0].value, "two");
}

TEST_F(EtcdClientTest, AnEtcdThatStandsStillIsUnavailableByTheDeadline) {
  ASSERT_TRUE(Put("key", "one", Patience()).ok());
  etcd_->Stop();
  const TimeNs start = MonotonicNowNs();
  EXPECT_EQ(client().Range({"key"}, In(200 * kMillisecondNs)).status().code(),
            kUnavailable);
  EXPECT_EQ(Put("key", "two", In(200 * kMillisecondNs)).status().code(),
            kUnavailable);
  EXPECT_EQ(client().GrantLease(1, In(200 * kMillisecondNs)).status().code(),
            kUnavailable);
  EXPECT_GE(MonotonicNowNs() - start, 500 * kMillisecondNs);
  EXPECT_LT(MonotonicNowNs() - start, 2 * kSecondNs);
  etcd_->Continue();
  EXPECT_TRUE(Put("key", "three", Patience()).ok());
}

TEST_F(EtcdClientTest, AnEtcdThatIsGoneIsUnavailableByTheDeadlineAndComesBack) {
  ASSERT_TRUE(Put("key", "one", Patience()).ok());
  etcd_->Kill();
  const TimeNs start = MonotonicNowNs();
  EXPECT_EQ(client().Range({"key"}, In(300 * kMillisecondNs)).status().code(),
            kUnavailable);
  EXPECT_LT(MonotonicNowNs() - start, 2 * kSecondNs);
  // A call that begins before etcd is back is served when it is.
  etcd_->Start();
  EXPECT_EQ(client().Range({"key"}, Patience())->values.at(0).value, "one");
}

TEST_F(EtcdClientTest, AnotherEndpointIsTakenWhenOneIsGoneOrStandsStill) {
  // Two etcds that know nothing of each other: what one answers tells which.
  EtcdProcess other;
  const auto both =
      EtcdClient::Make({.endpoints = {etcd_->options().endpoints[0],
                                      other.options().endpoints[0]}})
          .value();
  ASSERT_TRUE(Put("here", "yes", Patience()).ok());
  const auto is_first = [&](TimeNs deadline) {
    const auto range = both->Range({"here"}, deadline);
    EXPECT_TRUE(range.ok()) << range.status().ToString();
    return range.ok() && !range->values.empty();
  };
  EXPECT_TRUE(is_first(Patience()));
  etcd_->Stop();
  EXPECT_FALSE(is_first(In(2 * kSecondNs)));
  etcd_->Continue();
  EXPECT_FALSE(is_first(Patience()));  // stays where it was answered
  other.Kill();
  EXPECT_TRUE(is_first(Patience()));
}

TEST_F(EtcdClientTest, AnEtcdWhoseAddressIsWrongIsNamed) {
  const auto nobody =
      EtcdClient::Make({.endpoints = {"http://127.0.0.1:1"}}).value();
  const auto range = nobody->Range({"key"}, In(200 * kMillisecondNs));
  EXPECT_EQ(range.status().code(), kUnavailable);
  EXPECT_NE(StatusMessage(range.status()).find("http://127.0.0.1:1"),
            std::string::npos);
}

TEST_F(EtcdClientTest, AWatchTellsChangesInOrderAndWakesForOthers) {
  const auto first = Put("a/1", "x", Patience());
  auto watch =
      EtcdWatch::Open(client().channels(), "a/", first->revision, Patience());
  ASSERT_TRUE(watch.ok()) << watch.status().ToString();
  ASSERT_TRUE(Put("b/1", "x", Patience()).ok());
  ASSERT_TRUE(Put("a/2", "x", Patience()).ok());
  std::string seen;
  while (seen.size() < 6) {
    const auto events = (*watch)->Next(Patience());
    ASSERT_TRUE(events.ok() && !events->empty());
    for (const EtcdEvent& event : *events) seen += event.value.key;
  }
  EXPECT_EQ(seen, "a/1a/2");
  (*watch)->Wake();
  (*watch)->Wake();
  EXPECT_TRUE((*watch)->Next(Patience())->empty());
  const TimeNs start = MonotonicNowNs();
  EXPECT_TRUE((*watch)->Next(In(20 * kMillisecondNs))->empty());
  EXPECT_GE(MonotonicNowNs() - start, 20 * kMillisecondNs);
}

TEST_F(EtcdClientTest, AWatchFromACompactedRevisionSaysSo) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Put("a/1", "x", Patience()).ok());
  const std::int64_t revision = Put("a/1", "y", Patience())->revision;
  ASSERT_TRUE(client().Compact(revision, Patience()).ok());
  EXPECT_EQ(client().Compact(revision, Patience()).code(),
            absl::StatusCode::kOutOfRange);
  auto watch =
      EtcdWatch::Open(client().channels(), "a/", revision - 2, Patience());
  absl::Status status = watch.status();
  while (status.ok()) status = (*watch)->Next(Patience()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status.ToString();
}

TEST_F(EtcdClientTest, ALeaseThatWasRevokedIsNotFoundAndItsKeysAreGone) {
  const auto lease = client().GrantLease(1, Patience());
  ASSERT_TRUE(lease.ok());
  EXPECT_EQ(lease->ttl_ns, kSecondNs);
  EtcdTxn txn;
  txn.then = {{EtcdOp::Kind::kPut, "key", "value", lease->id}};
  ASSERT_TRUE(client().Txn(txn, Patience()).ok());
  ASSERT_TRUE(client().RevokeLease(lease->id, Patience()).ok());
  EXPECT_TRUE(client().Range({"key"}, Patience())->values.empty());
  EXPECT_EQ(client().RevokeLease(lease->id, Patience()).code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace agentmem
