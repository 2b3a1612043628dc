// The wire is cut, and mended; packets are lost. In the virtual machine alone.
#include <algorithm>

#include "tests/rdma/lossy_wire.h"
#include "tests/unit/transport/fabric_fixture.h"

namespace agentmem {
namespace {

class FabricWireTest : public FabricTest {
 protected:
  void SetUp() override {
    a_ = AddNode();
    b_ = AddNode();
    b_->bytes.assign(kBytes, 'b');
    link_ = ConnectAndUse(a_, *b_);
  }
  // Until it is so, or `bound` has passed.
  template <typename Condition>
  bool Within(DurationNs bound, Condition is_so) {
    const TimeNs end = MonotonicNowNs() + bound;
    return Until([&] { return is_so() || MonotonicNowNs() > end; }) && is_so();
  }

  LossyWire wire_;
  FabricTestNode* a_ = nullptr;
  FabricTestNode* b_ = nullptr;
  LinkId link_;
};

TEST_F(FabricWireTest, ACutWireLosesTheLinkByTheDeadlineAndMendedIsUsedAgain) {
  const RemoteMemory& remote = b_->memory.remote;
  wire_.Cut();
  a_->deadline_in = 2 * kSecondNs;
  const TimeNs cut = MonotonicNowNs();
  for (std::uint64_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(
        a_->transport->Read(a_->Make(link_, remote, 0, 256 << 10, 0, i)));
  }
  ASSERT_TRUE(Until([&] { return a_->lost.count(link_) > 0; }));
  // The deadline, and what the emulated machine takes for a Poll.
  EXPECT_LT(MonotonicNowNs() - cut, a_->deadline_in + 3 * kSecondNs);
  for (std::uint64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(a_->done[i], Code::kUnavailable) << i;
  }
  // To connect anew is as futile, and as bounded.
  a_->transport->Close(link_);
  const LinkId futile = Connect(a_, b_->transport->address());
  ASSERT_TRUE(a_->transport->Read(a_->Make(futile, remote, 0, 64, 0, 8)));
  const TimeNs began = MonotonicNowNs();
  ASSERT_TRUE(Until([&] { return a_->lost.count(futile) > 0; }));
  EXPECT_LT(MonotonicNowNs() - began, a_->deadline_in + 3 * kSecondNs);
  EXPECT_NE(a_->done[8], Code::kOk);
  a_->transport->Close(futile);

  wire_.Mend();
  a_->deadline_in = 20 * kSecondNs;
  std::fill(a_->bytes.begin(), a_->bytes.end(), 'a');
  const LinkId again = ConnectAndUse(a_, *b_);
  ASSERT_TRUE(a_->transport->Read(a_->Make(again, remote, 0, 256 << 10, 0, 9)));
  ASSERT_TRUE(Until([&] { return a_->done.count(9) > 0; }));
  EXPECT_EQ(a_->done[9], Code::kOk);
  EXPECT_EQ(std::count(a_->bytes.begin(), a_->bytes.end(), 'b'), 256 << 10);
}

TEST_F(FabricWireTest, LostPacketsCostTimeAndNoBytes) {
  wire_.Lose("1%");
  a_->done.clear();
  a_->deadline_in = 90 * kSecondNs;
  constexpr std::uint64_t kLength = 64 << 10;
  constexpr std::uint64_t kReads = 16;
  for (std::uint64_t i = 0; i < kReads * kLength; ++i) {
    b_->bytes[i] = static_cast<char>(i * 131 + (i >> 10));
  }
  for (std::uint64_t i = 0; i < kReads; ++i) {
    ASSERT_TRUE(a_->transport->Read(a_->Make(
        link_, b_->memory.remote, i * kLength, kLength, i * kLength, i)));
  }
  // Either all arrive, or the link is given up and says so.
  ASSERT_TRUE(Until([&] { return a_->done.size() >= kReads; }));
  std::uint64_t read = 0;
  for (std::uint64_t i = 0; i < kReads; ++i) {
    ASSERT_EQ(a_->done.count(i), 1u);
    if (a_->done[i] != Code::kOk) continue;
    ++read;
    EXPECT_TRUE(std::equal(a_->bytes.begin() + i * kLength,
                           a_->bytes.begin() + (i + 1) * kLength,
                           b_->bytes.begin() + i * kLength))
        << i;
  }
  EXPECT_TRUE(read == kReads || a_->lost.count(link_) > 0);
}

}  // namespace
}  // namespace agentmem
