#include "memd/cluster/etcd_compactor.h"

#include <gtest/gtest.h>

#include "base/status.h"
#include "tests/unit/cluster/etcd_process.h"

namespace agentmem {
namespace {

class EtcdCompactorTest : public EtcdTest {
 protected:
  std::unique_ptr<EtcdCompactor> Make() {
    return EtcdCompactor::Make(client_.get(), {.cluster = "test"}).value();
  }
  std::int64_t Change() {
    EtcdTxn txn;
    txn.then = {{EtcdOp::Kind::kPut, "key", "value"}};
    return client().Txn(txn, Patience())->revision;
  }
  absl::StatusCode ReadAt(std::int64_t revision) {
    return client().Range({"key", "", 0, revision}, Patience()).status().code();
  }
};

TEST_F(EtcdCompactorTest, OneOfTheNodesCompactsWhatIsAnIntervalOld) {
  const auto a = Make(), b = Make(), c = Make();
  EtcdCompactor* const nodes[] = {a.get(), b.get(), c.get()};
  int compacted = 0;
  std::int64_t before_last = 0, last = 0;
  constexpr int kIntervals = 5;
  for (int interval = 0; interval < kIntervals; ++interval) {
    before_last = last;
    last = Change();
    for (int i = 0; i < 3; ++i) {
      // Whoever is first.
      const auto turn = nodes[(interval + i) % 3]->Turn();
      ASSERT_TRUE(turn.ok()) << turn.status().ToString();
      compacted += *turn != 0;
    }
  }
  // The first interval has nothing to go by, the second no mark to replace.
  EXPECT_EQ(compacted, kIntervals - 2);
  EXPECT_EQ(a->compactions() + b->compactions() + c->compactions(),
            static_cast<std::uint64_t>(compacted));
  EXPECT_EQ(ReadAt(before_last - 1), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(ReadAt(last), absl::StatusCode::kOk);
}

TEST_F(EtcdCompactorTest, ANodeThatCameLateKeepsAWholeIntervalToo) {
  const auto a = Make();
  ASSERT_EQ(a->Turn().value(), 0);
  Change();
  ASSERT_EQ(a->Turn().value(), 0);  // makes the first mark
  const std::int64_t change = Change();
  const auto b = Make();
  EXPECT_EQ(b->Turn().value(), 0);  // sees it only now
  EXPECT_EQ(ReadAt(change), absl::StatusCode::kOk);
  EXPECT_GT(b->Turn().value(), 0);
  EXPECT_EQ(ReadAt(change), absl::StatusCode::kOk);  // newer than that mark
  EXPECT_EQ(a->Turn().value(), 0);                   // b was first
}

TEST_F(EtcdCompactorTest, ItsThreadEndsAtOnceWhateverTheInterval) {
  auto a = Make();
  const TimeNs start = MonotonicNowNs();
  a->Start();
  a.reset();
  EXPECT_LT(MonotonicNowNs() - start, 10 * kSecondNs);
  EXPECT_EQ(
      EtcdCompactor::Make(client_.get(), {.cluster = "test", .interval_ns = 1})
          .status()
          .code(),
      absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace agentmem
