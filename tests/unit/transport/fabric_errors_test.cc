// What goes wrong on one link, and what does not because of it.
#include <algorithm>
#include <memory>

#include "tests/unit/transport/fabric_fixture.h"

namespace agentmem {
namespace {

class FabricErrorsTest : public FabricTest {
 protected:
  void SetUp() override {
    a_ = AddNode();
    b_ = AddNode();
    link_ = ConnectAndUse(a_, *b_);
  }
  // A request that the peer refuses takes `link_` with it, and only it.
  void ExpectRefused(const Transfer& transfer, bool write) {
    const LinkId other = ConnectAndUse(a_, *b_);
    const std::uint64_t ticket = transfer.ticket;
    ASSERT_TRUE(write ? a_->transport->Write(transfer)
                      : a_->transport->Read(transfer));
    std::uint64_t posted = 0;
    ASSERT_TRUE(Until([&] {
      // Traffic on the other link all the while, and some after.
      if (a_->transport->Read(a_->Make(other, b_->memory.remote, 4096, 8192,
                                       4096, 5000 + posted))) {
        ++posted;
      }
      return a_->lost.count(link_) > 0 && posted > 200;
    }));
    EXPECT_EQ(a_->done[ticket], Code::kUnavailable);
    EXPECT_FALSE(a_->transport->Read(
        a_->Make(link_, b_->memory.remote, 0, 1, 0, ticket + 1)));
    ASSERT_TRUE(Until([&] { return a_->done.count(4999 + posted) > 0; }));
    for (std::uint64_t i = 0; i < posted; ++i) {
      EXPECT_EQ(a_->done[5000 + i], Code::kOk) << i;
    }
    EXPECT_EQ(a_->lost.count(other), 0u);
    EXPECT_EQ(a_->transport->counters().links_lost, 1u);
    a_->transport->Close(link_);
    ConnectAndUse(a_, *b_);
  }

  FabricTestNode* a_ = nullptr;
  FabricTestNode* b_ = nullptr;
  LinkId link_;
};

TEST_F(FabricErrorsTest, AReadWithAWrongKeyLosesItsLinkAlone) {
  Transfer transfer = a_->Make(link_, b_->memory.remote, 0, 4096, 0, 1);
  transfer.remote_key ^= 0x10;
  ExpectRefused(transfer, /*write=*/false);
}

TEST_F(FabricErrorsTest, AWriteWithAWrongKeyLosesItsLinkAloneAndWritesNothing) {
  const std::vector<char> before = b_->bytes;
  a_->bytes.assign(kBytes, 'w');
  Transfer transfer = a_->Make(link_, b_->memory.remote, 0, 4096, 0, 1);
  transfer.remote_key ^= 0x10;
  ExpectRefused(transfer, /*write=*/true);
  EXPECT_TRUE(before == b_->bytes);
}

TEST_F(FabricErrorsTest, AReadBeyondTheMemoryLosesItsLinkAlone) {
  ExpectRefused(a_->Make(link_, b_->memory.remote, 0, 4096, kBytes - 4095, 1),
                false);
}

TEST_F(FabricErrorsTest, AWriteIntoMemoryForReadersLosesItsLinkAlone) {
  std::vector<char> memory(64 << 10, 'r');
  const auto readable = b_->transport->Register(memory, RemoteAccess::kRead);
  ASSERT_TRUE(readable.ok());
  a_->bytes.assign(kBytes, 'w');
  ExpectRefused(a_->Make(link_, readable->remote, 0, 4096, 0, 1), true);
  EXPECT_TRUE(memory == std::vector<char>(memory.size(), 'r'));
}

TEST_F(FabricErrorsTest, ARangeThatWrapsAroundIsNeverSent) {
  Transfer transfer = a_->Make(link_, b_->memory.remote, 0, 4096, 0, 1);
  transfer.remote_address = ~std::uint64_t{0} - 100;
  ExpectRefused(transfer, /*write=*/false);
}

TEST_F(FabricErrorsTest, NothingAtAllIsDoneAtOnce) {
  ASSERT_TRUE(
      a_->transport->Read(a_->Make(link_, b_->memory.remote, 0, 0, 0, 1)));
  a_->Poll();
  EXPECT_EQ(a_->done[1], Code::kOk);
}

TEST_F(FabricErrorsTest, CloseEndsWhatIsInFlightAndNothingElse) {
  const LinkId other = ConnectAndUse(a_, *b_);
  a_->done.clear();
  constexpr std::uint64_t kCount = 10;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(a_->transport->Read(
        a_->Make(link_, b_->memory.remote, i << 20, 1 << 20, 0, i)));
    ASSERT_TRUE(a_->transport->Read(
        a_->Make(other, b_->memory.remote, (10 + i) << 20, 4096, 0, 100 + i)));
  }
  ASSERT_TRUE(
      a_->transport->Send(link_, std::string("m"), kCount, a_->Deadline()));
  a_->transport->Close(link_);
  // From here on nobody writes into it, whatever the peer does.
  a_->bytes.assign(kBytes, 'c');
  a_->Poll(100);
  std::uint64_t done = 0;
  for (std::uint64_t i = 0; i <= kCount; ++i) done += a_->done.count(i);
  EXPECT_EQ(done, kCount + 1);
  // On TCP the peer, which was not polled, can have answered nothing.
  if (TestPlace().provider == "tcp") {
    EXPECT_EQ(a_->done[0], Code::kUnavailable);
  }
  ASSERT_TRUE(Until([&] { return a_->done.size() == 2 * kCount + 1; }));
  for (std::uint64_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(a_->done[100 + i], Code::kOk) << i;
  }
  EXPECT_EQ(ReadOne(a_, other, b_->memory.remote), Code::kOk);
  EXPECT_TRUE(std::all_of(a_->bytes.begin() + 1,
                          a_->bytes.begin() + (kCount << 20),
                          [](char byte) { return byte == 'c'; }));
  EXPECT_TRUE(a_->lost.empty()) << "it was closed, not lost";
  EXPECT_FALSE(
      a_->transport->Read(a_->Make(link_, b_->memory.remote, 0, 1, 0, 999)));
  a_->transport->Close(link_);  // of nothing
}

TEST_F(FabricErrorsTest, TheDestructorEndsWithOperationsInFlight) {
  if (TestPlace().provider != "tcp") {
    GTEST_SKIP() << "its NIC answers for a peer that is not polled";
  }
  constexpr std::uint64_t kWrites = 10;
  std::fill(a_->bytes.begin(), a_->bytes.end(), 'w');
  for (std::uint64_t i = 0; i < kWrites; ++i) {
    ASSERT_TRUE(a_->transport->Write(
        a_->Make(link_, b_->memory.remote, 0, 1 << 20, i << 20, i)));
  }
  a_->Poll();
  ASSERT_EQ(a_->done.size(), 1u) << "they are in flight (the other is SetUp's)";
  // From its end on nothing is sent of the memory, which has another use.
  a_->transport.reset();
  std::fill(a_->bytes.begin(), a_->bytes.end(), 'x');
  FabricTestNode* const gone = a_;
  std::unique_ptr<FabricTestNode> memory = std::move(nodes_.front());
  nodes_.erase(nodes_.begin());
  // The peer goes on.
  a_ = AddNode();
  ConnectAndUse(a_, *b_);
  ASSERT_EQ(memory.get(), gone);
  EXPECT_EQ(std::count(b_->bytes.begin(), b_->bytes.end(), 'x'), 0);
  EXPECT_EQ(std::count_if(b_->bytes.begin() + (kWrites << 20), b_->bytes.end(),
                          [](char byte) { return byte != 0; }),
            0);
  EXPECT_LT(std::count(b_->bytes.begin(), b_->bytes.end(), 'w'),
            std::ptrdiff_t{kWrites << 20})
      << "the peer was not polled meanwhile";
}

TEST_F(FabricErrorsTest, WhereNobodyListensTheLinkIsLostByTheDeadline) {
  FabricTestNode* const gone = AddNode();
  const std::string address = gone->transport->address();
  const RemoteMemory remote = gone->memory.remote;
  nodes_.pop_back();
  const LinkId nobody = Connect(a_, address);
  ASSERT_TRUE(a_->transport->Read(a_->Make(nobody, remote, 0, 4096, 0, 1)));
  ASSERT_TRUE(a_->transport->Send(nobody, std::string("m"), 2, a_->Deadline()));
  for (int i = 0; i < 100; ++i) a_->Poll();
  // The provider may tell sooner than the deadline, never later.
  a_->ahead = a_->deadline_in;
  a_->Poll();
  ASSERT_EQ(a_->done.count(1), 1u);
  ASSERT_EQ(a_->done.count(2), 1u);
  for (const std::uint64_t ticket : {1, 2}) {
    EXPECT_TRUE(a_->done[ticket] == Code::kDeadlineExceeded ||
                a_->done[ticket] == Code::kUnavailable);
  }
  EXPECT_EQ(a_->lost.count(nobody), 1u);
  EXPECT_EQ(ReadOne(a_, link_, b_->memory.remote), Code::kOk);
}

// Over verbs they are there without its Poll.
TEST_F(FabricErrorsTest, ATransportMayEndWithMessagesThatItNeverRead) {
  const std::string message(100, 'm');
  for (std::uint64_t i = 0; i < 16; ++i) {
    ASSERT_TRUE(
        a_->transport->Send(link_, {message}, 2000 + i, a_->Deadline()));
  }
  const TimeNs end = MonotonicNowNs() + kSecondNs / 2;
  while (MonotonicNowNs() < end) a_->Poll();
  b_->transport.reset();
  nodes_.pop_back();
  // Its peer notices, or has nothing more to do with it.
  a_->transport->Close(link_);
  a_->Poll();
}

}  // namespace
}  // namespace agentmem
