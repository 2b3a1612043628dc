// The pin protocol, with memd's steps put between the reader's two looks.
#include "client/client.h"
#include "tests/unit/client/client_test_base.h"

namespace agentmem {
namespace {

class PinTest : public ClientTest {
 protected:
  void SetUp() override {
    ClientTest::SetUp();
    StartAndConnect();
    slot_ = memd_->AddResident(key_, std::string(64, 'a'));
  }
  template <typename BetweenLooks>
  std::size_t Pin(BetweenLooks between_looks) {
    return client_->reader().PinResident(&key_, 1, &span_, between_looks);
  }

  const Key key_ = AsKey(TestKey(1));
  std::uint32_t slot_ = 0;
  agentmem_span span_ = {};
};

TEST_F(PinTest, ASlotThatChangesBetweenTheLooksIsLookedUpAgain) {
  int looks = 0;
  EXPECT_EQ(Pin([&] {
              if (++looks == 1) {
                EXPECT_TRUE(memd_->Rewrite(key_, 'b'));
              }
            }),
            0u);
  EXPECT_EQ(looks, 2);
  EXPECT_EQ(TextOf(span_), std::string(64, 'b'));
  EXPECT_EQ(memd_->PinsOn(slot_), 1);
  // Pinned: memd leaves the bytes alone from here on.
  EXPECT_FALSE(memd_->Rewrite(key_, 'c'));
  agentmem_release(client_, &span_, 1);
}

TEST_F(PinTest, ABlockEvictedBetweenTheLooksIsAMissAndLeavesNoPin) {
  EXPECT_EQ(Pin([&] { memd_->Evict(key_); }), 1u);
  EXPECT_EQ(span_.data, nullptr);
  EXPECT_EQ(memd_->PinsOn(slot_), 0);
}

TEST_F(PinTest, AReaderDoesNotRetryForEver) {
  int looks = 0;
  EXPECT_EQ(Pin([&] {
              ++looks;
              memd_->Rewrite(key_, 'b');
            }),
            1u);
  EXPECT_EQ(looks, 8);
  EXPECT_EQ(memd_->PinsOn(slot_), 0);
}

TEST_F(PinTest, ASlotOutsideTheDataIsNotReadButAMiss) {
  const Key wild = AsKey(TestKey(2));
  memd_->AddResidentAt(wild, ~0ULL - 100, 4096);
  memd_->AddResidentAt(AsKey(TestKey(3)), (64ULL << 20) - 512, 513);
  EXPECT_EQ(client_->reader().PinResident(&wild, 1, &span_), 1u);
  const Key beyond = AsKey(TestKey(3));
  EXPECT_EQ(client_->reader().PinResident(&beyond, 1, &span_), 1u);
  EXPECT_EQ(memd_->Pins(), 0);
}

}  // namespace
}  // namespace agentmem
