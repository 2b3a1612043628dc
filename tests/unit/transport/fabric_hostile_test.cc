// Peers that send what no transport of ours sends.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "tests/unit/transport/fabric_faults.h"
#include "tests/unit/transport/fabric_fixture.h"
#include "tests/unit/transport/fabric_raw_peer.h"

namespace agentmem {
namespace {

class FabricHostileTest : public FabricTest {
 protected:
  void SetUp() override {
    a_ = AddNode();
    b_ = AddNode();
    link_ = ConnectAndUse(b_, *a_);
    hostile_ = std::make_unique<FabricRawPeer>(Options(/*peer=*/true));
    inbox_ = hostile_->Insert(FabricRawPeer::NameIn(a_->transport->address()));
  }
  // The endpoint of a new link of a_'s.
  fi_addr_t LinkOfA() {
    const std::set<std::uint16_t> before = ListeningPorts();
    link_of_a_ = ConnectAndUse(a_, *b_);
    std::set<std::uint16_t> after = ListeningPorts();
    for (const std::uint16_t port : before) after.erase(port);
    EXPECT_EQ(after.size(), 1u);
    return hostile_->Insert(FabricRawPeer::WithPort(
        FabricRawPeer::NameIn(a_->transport->address()), *after.begin()));
  }
  // Until the hostile peer has posted `count` of them and all are over.
  template <typename Post>
  void PostAll(std::uint64_t count, Post post) {
    const std::uint64_t before = hostile_->completed() + hostile_->failed();
    std::uint64_t posted = 0;
    ASSERT_TRUE(Until([&] {
      hostile_->Poll();
      if (posted < count && post()) ++posted;
      return hostile_->completed() + hostile_->failed() - before == count;
    }));
  }
  // Both ways still work between the honest ones.
  void ExpectAlive() {
    EXPECT_EQ(ReadOne(b_, link_, a_->memory.remote), Code::kOk);
    ASSERT_TRUE(b_->transport->Send(link_, std::string("still there?"), 42,
                                    b_->Deadline()));
    ASSERT_TRUE(Until([&] {
      return std::count(a_->messages.begin(), a_->messages.end(),
                        "still there?") == 1;
    }));
    const LinkId back = ConnectAndUse(a_, *b_);
    a_->transport->Close(back);
  }

  // More than any bound, through `to`.
  void FloodWithTagged(fi_addr_t to) {
    constexpr std::uint64_t kMessages = 12'000;
    constexpr std::uint64_t kMessageBytes = 8000;
    std::uint64_t tag = 0;
    const auto send = [&] {
      return hostile_->SendTagged(to, ++tag, kMessageBytes);
    };
    PostAll(100, send);  // warm
    const std::uint64_t before = ResidentBytes();
    PostAll(kMessages, send);
    EXPECT_LT(ResidentBytes(), before + kMessages * kMessageBytes / 4);
    ASSERT_TRUE(Until([&] {
      return a_->transport->counters().messages_dropped == kMessages + 100;
    }));
    EXPECT_TRUE(a_->messages.empty());
  }
  static std::uint64_t ResidentBytes() {
    std::ifstream file("/proc/self/statm");
    std::uint64_t pages = 0;
    file >> pages >> pages;
    return pages * 4096;
  }

  FabricTestNode* a_ = nullptr;
  FabricTestNode* b_ = nullptr;
  LinkId link_;
  LinkId link_of_a_;
  std::unique_ptr<FabricRawPeer> hostile_;
  fi_addr_t inbox_ = FI_ADDR_UNSPEC;
};

TEST_F(FabricHostileTest, WritesThatCarryDataAreCountedAndNothingElse) {
  constexpr std::uint64_t kCount = 40;
  PostAll(kCount, [&] {
    return hostile_->WriteWithData(inbox_, a_->memory.remote, 64);
  });
  // Over verbs each takes a buffer for a message, and comes as one: of no token
  // that anybody was given, so the pool drops it.
  if (TestPlace().provider == "tcp") {
    ASSERT_TRUE(Until([&] {
      return a_->transport->counters().completions_unknown == kCount;
    }));
    EXPECT_TRUE(a_->messages.empty());
  }
  ExpectAlive();
}

TEST_F(FabricHostileTest, WritesThatCarryDataToALinksEndpointDoNotEndIt) {
  if (TestPlace().provider != "tcp") {
    GTEST_SKIP() << "the link's endpoint is found by its TCP port";
  }
  constexpr std::uint64_t kCount = 40;
  const fi_addr_t link = LinkOfA();
  PostAll(kCount,
          [&] { return hostile_->WriteWithData(link, a_->memory.remote, 64); });
  ASSERT_TRUE(Until(
      [&] { return a_->transport->counters().completions_unknown == kCount; }));
  EXPECT_EQ(ReadOne(a_, link_of_a_, b_->memory.remote), Code::kOk);
  EXPECT_TRUE(a_->lost.empty());
  ExpectAlive();
}

TEST_F(FabricHostileTest, WhoeverConnectsIsCountedAndALinkTakesItsDescriptors) {
  if (TestPlace().provider != "tcp") {
    GTEST_SKIP() << "connections are counted by their sockets";
  }
  EXPECT_EQ(a_->transport->CountInbound(), 1u) << "b";
  PostAll(1, [&] { return hostile_->Send(inbox_, 64); });
  EXPECT_EQ(a_->transport->CountInbound(), 2u);
  const auto open = [] {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all));
  };
  const std::ptrdiff_t before = open();
  ConnectAndUse(a_, *b_);
  // (One of b's besides: the connection's other end.)
  EXPECT_GT(open() - before, 2);
  EXPECT_LE(open() - before - 1,
            static_cast<std::ptrdiff_t>(kDescriptorsOfLink));
}

TEST_F(FabricHostileTest, ALinkThatCannotReceiveWhatItDropsIsLost) {
  if (TestPlace().provider != "tcp") {
    GTEST_SKIP() << "the link's endpoint is found by its TCP port";
  }
  const FabricFaultsScope scope;
  const fi_addr_t link = LinkOfA();
  Faults().answer = [](FabricCall call) -> ssize_t {
    return call == FabricCall::kReceive ? -FI_EINVAL : 0;
  };
  PostAll(1, [&] { return hostile_->Send(link, 64); });
  ASSERT_TRUE(Until([&] { return a_->lost.count(link_of_a_) == 1; }));
  Faults().answer = nullptr;
  ExpectAlive();
}

TEST_F(FabricHostileTest, TaggedMessagesAreDroppedAndKeptNowhere) {
  FloodWithTagged(inbox_);
  ExpectAlive();
}

TEST_F(FabricHostileTest, TaggedMessagesToALinksEndpointAreKeptNowhere) {
  if (TestPlace().provider != "tcp") {
    GTEST_SKIP() << "the link's endpoint is found by its TCP port";
  }
  FloodWithTagged(LinkOfA());
  EXPECT_EQ(ReadOne(a_, link_of_a_, b_->memory.remote), Code::kOk);
  ExpectAlive();
}

}  // namespace
}  // namespace agentmem
