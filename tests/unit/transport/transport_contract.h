// What every transport must do (memd/transport/transport.h), whatever moves its
// bytes. A Harness makes the nodes and lets time pass:
//
//   struct Harness {
//     std::unique_ptr<Transport> Add(const std::string& node);
//     TimeNs Now();
//     bool GoOn();  // a little; false: nothing will happen any more
//   };
#ifndef AGENTMEM_TESTS_UNIT_TRANSPORT_TRANSPORT_CONTRACT_H_
#define AGENTMEM_TESTS_UNIT_TRANSPORT_TRANSPORT_CONTRACT_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "memd/transport/transport.h"

namespace agentmem {

// A node with two memories: one that peers may name, one for its own reads.
struct ContractNode {
  static constexpr std::size_t kBytes = 256 << 10;

  std::vector<char> shared = std::vector<char>(kBytes, 's');
  std::vector<char> own = std::vector<char>(kBytes, 'o');
  std::unique_ptr<Transport> transport;  // dies before its memory
  Registered shared_memory;
  Registered own_memory;

  // What has happened so far.
  std::map<std::uint64_t, std::vector<Code>> done;  // by ticket
  std::vector<std::string> messages;
  std::vector<LinkId> lost;
  std::uint64_t done_after_lost = 0;
  std::function<void()> on_message;

  void Start(std::unique_ptr<Transport> made) {
    transport = std::move(made);
    auto registered = transport->Register(shared, RemoteAccess::kReadWrite);
    ASSERT_TRUE(registered.ok()) << registered.status();
    shared_memory = *registered;
    registered = transport->Register(own, RemoteAccess::kNone);
    ASSERT_TRUE(registered.ok()) << registered.status();
    own_memory = *registered;
  }
  LinkId Connect(const ContractNode& peer) {
    const auto link = transport->Connect(peer.transport->address());
    EXPECT_TRUE(link.ok()) << link.status();
    return link.ok() ? *link : LinkId();
  }
  void Poll(TimeNs now) {
    TransportEvent events[3];  // few, so that Poll is called with some left
    const std::size_t count = transport->Poll(now, events);
    for (std::size_t i = 0; i < count; ++i) {
      const TransportEvent& event = events[i];
      switch (event.kind) {
        case TransportEvent::Kind::kDone:
          done[event.ticket].push_back(event.code);
          done_after_lost += static_cast<std::uint64_t>(
              std::count(lost.begin(), lost.end(), event.link));
          break;
        case TransportEvent::Kind::kMessage:
          messages.emplace_back(event.message.begin(), event.message.end());
          if (on_message) on_message();
          break;
        case TransportEvent::Kind::kLost:
          lost.push_back(event.link);
          break;
      }
    }
  }
  // Between `own` here and `shared` there, at the same offset.
  Transfer Between(LinkId link, const ContractNode& peer, std::uint64_t ticket,
                   std::uint64_t offset, std::uint64_t length) {
    Transfer transfer;
    transfer.link = link;
    transfer.memory = own_memory.id;
    transfer.local = own.data() + offset;
    transfer.length = length;
    transfer.remote_address = peer.shared_memory.remote.address + offset;
    transfer.remote_key = peer.shared_memory.remote.key;
    transfer.ticket = ticket;
    return transfer;
  }
};

template <typename Harness>
class TransportContract : public ::testing::Test {
 protected:
  void SetUp() override {
    a_.Start(harness_.Add("a"));
    b_.Start(harness_.Add("b"));
    link_ = a_.Connect(b_);
  }

  template <typename Condition>
  bool Until(Condition condition) {
    while (!condition()) {
      const bool more = harness_.GoOn();
      a_.Poll(harness_.Now());
      if (b_.transport) b_.Poll(harness_.Now());
      if (!more && !condition()) return false;
    }
    return true;
  }
  bool UntilDone(std::size_t tickets) {
    return Until([&] { return a_.done.size() >= tickets; });
  }
  // Goes on until the transport takes it.
  template <typename Post>
  bool Posted(Post post) {
    return Until([&] { return post(); });
  }

  Harness harness_;
  ContractNode a_, b_;
  LinkId link_;
};

TYPED_TEST_SUITE_P(TransportContract);

TYPED_TEST_P(TransportContract, AReadBringsThePeersBytesAndOnlyThose) {
  auto& a = this->a_;
  const Transfer read = a.Between(this->link_, this->b_, 7, 100, 5000);
  ASSERT_TRUE(this->Posted([&] { return a.transport->Read(read); }));
  ASSERT_TRUE(this->UntilDone(1));
  EXPECT_EQ(a.done[7], std::vector<Code>{Code::kOk});
  const std::string own(a.own.data(), 6000);
  EXPECT_EQ(own, std::string(100, 'o') + std::string(5000, 's') +
                     std::string(900, 'o'));
}

TYPED_TEST_P(TransportContract, AWritesBytesAreThereWhenItCompletes) {
  auto& a = this->a_;
  const Transfer write =
      a.Between(this->link_, this->b_, 1, 0, ContractNode::kBytes);
  ASSERT_TRUE(this->Posted([&] { return a.transport->Write(write); }));
  ASSERT_TRUE(this->Until([&] { return a.done.contains(1); }));
  EXPECT_EQ(a.done[1], std::vector<Code>{Code::kOk});
  EXPECT_EQ(this->b_.shared, a.own);
}

TYPED_TEST_P(TransportContract, AMessageArrivesOnceAndItsBytesWereCopied) {
  auto& a = this->a_;
  std::string message(this->a_.transport->limits().message_bytes_max, 'm');
  const std::string sent = message;
  ASSERT_TRUE(this->Posted(
      [&] { return a.transport->Send(this->link_, message, 3, kNoDeadline); }));
  std::fill(message.begin(), message.end(), 'x');
  ASSERT_TRUE(this->Until(
      [&] { return a.done.contains(3) && !this->b_.messages.empty(); }));
  EXPECT_EQ(a.done[3], std::vector<Code>{Code::kOk});
  EXPECT_EQ(this->b_.messages, std::vector<std::string>{sent});
}

TYPED_TEST_P(TransportContract, AMessageArrivesAfterWhatWasWrittenBeforeIt) {
  constexpr int kRounds = 40;
  auto& a = this->a_;
  auto& b = this->b_;
  if (!a.transport->limits().messages_follow_writes) {
    GTEST_SKIP() << "this transport does not promise it";
  }
  int wrong = 0;
  b.on_message = [&] {
    const char now = b.messages.back()[0];
    wrong += std::count(b.shared.begin(), b.shared.end(), now) !=
             std::ptrdiff_t{ContractNode::kBytes};
  };
  for (int i = 0; i < kRounds; ++i) {
    std::fill(a.own.begin(), a.own.end(), static_cast<char>(i));
    const std::string message(1, static_cast<char>(i));
    const auto ticket = static_cast<std::uint64_t>(3 * i);
    constexpr std::size_t kHalf = ContractNode::kBytes / 2;
    for (const std::uint64_t half : {0, 1}) {
      const Transfer write =
          a.Between(this->link_, b, ticket + half, half * kHalf, kHalf);
      ASSERT_TRUE(this->Posted([&] { return a.transport->Write(write); }));
    }
    ASSERT_TRUE(this->Posted([&] {
      return a.transport->Send(this->link_, message, ticket + 2, kNoDeadline);
    }));
    ASSERT_TRUE(
        this->Until([&] { return b.messages.size() > std::size_t(i); }));
    ASSERT_TRUE(this->UntilDone(ticket + 3));
  }
  EXPECT_EQ(wrong, 0);
}

TYPED_TEST_P(TransportContract, AllThatIsPostedCompletesOnce) {
  auto& a = this->a_;
  constexpr std::uint64_t kCount = 300;
  for (std::uint64_t ticket = 0; ticket < kCount; ++ticket) {
    const Transfer transfer =
        a.Between(this->link_, this->b_, ticket, ticket * 64, 64);
    ASSERT_TRUE(this->Posted([&] {
      if (ticket % 3 == 0) return a.transport->Read(transfer);
      if (ticket % 3 == 1) return a.transport->Write(transfer);
      const std::string text = std::to_string(ticket);
      return a.transport->Send(this->link_, text, ticket, kNoDeadline);
    })) << ticket;
  }
  ASSERT_TRUE(this->Until([&] {
    return a.done.size() == kCount && this->b_.messages.size() == kCount / 3;
  }));
  for (const auto& [ticket, codes] : a.done) {
    EXPECT_EQ(codes, std::vector<Code>{Code::kOk}) << ticket;
  }
  EXPECT_TRUE(a.lost.empty());
}

TYPED_TEST_P(TransportContract, NoMoreThanTheLimitIsInFlight) {
  auto& a = this->a_;
  const std::uint64_t limit = a.transport->limits().transfers_in_flight;
  const Transfer read = a.Between(this->link_, this->b_, 5, 0, 64);
  std::uint64_t posted = 0;
  while (posted <= limit && a.transport->Read(read)) ++posted;
  EXPECT_LE(posted, limit);
  ASSERT_TRUE(this->Until([&] { return a.done[5].size() == posted; }));
  EXPECT_TRUE(this->Posted([&] { return a.transport->Read(read); }));
}

TYPED_TEST_P(TransportContract, AWrongKeyLosesThatLinkAndNoOther) {
  auto& a = this->a_;
  const LinkId good = a.Connect(this->b_);
  Transfer wrong = a.Between(this->link_, this->b_, 1, 0, 64);
  wrong.remote_key ^= 1ULL << 20;
  ASSERT_TRUE(this->Posted([&] { return a.transport->Write(wrong); }));
  ASSERT_TRUE(this->Until([&] { return !a.lost.empty(); }));
  EXPECT_EQ(a.lost, std::vector<LinkId>{this->link_});
  EXPECT_EQ(a.done[1], std::vector<Code>{Code::kUnavailable});
  EXPECT_EQ(a.done_after_lost, 0u);
  EXPECT_EQ(this->b_.shared, std::vector<char>(ContractNode::kBytes, 's'));
  EXPECT_FALSE(a.transport->Read(a.Between(this->link_, this->b_, 2, 0, 64)));

  const Transfer read = a.Between(good, this->b_, 3, 0, 64);
  ASSERT_TRUE(this->Posted([&] { return a.transport->Read(read); }));
  ASSERT_TRUE(this->Until([&] { return a.done.contains(3); }));
  EXPECT_EQ(a.done[3], std::vector<Code>{Code::kOk});
}

TYPED_TEST_P(TransportContract, OutOfBoundsTouchesNothingAndLosesTheLink) {
  auto& a = this->a_;
  const LinkId other = a.Connect(this->b_);
  Transfer beyond = a.Between(this->link_, this->b_, 1, 0, 128);
  beyond.remote_address += ContractNode::kBytes - 127;
  ASSERT_TRUE(this->Posted([&] { return a.transport->Read(beyond); }));
  ASSERT_TRUE(this->Until([&] { return a.lost.size() == 1; }));
  EXPECT_EQ(a.done[1], std::vector<Code>{Code::kUnavailable});
  EXPECT_EQ(a.own, std::vector<char>(ContractNode::kBytes, 'o'));

  beyond.link = other;
  beyond.ticket = 2;
  ASSERT_TRUE(this->Posted([&] { return a.transport->Write(beyond); }));
  ASSERT_TRUE(this->Until([&] { return a.lost.size() == 2; }));
  EXPECT_EQ(a.done[2], std::vector<Code>{Code::kUnavailable});
  EXPECT_EQ(this->b_.shared, std::vector<char>(ContractNode::kBytes, 's'));
}

TYPED_TEST_P(TransportContract, AWriteThatWrapsLosesTheLinkBeforeAMessage) {
  auto& a = this->a_;
  Transfer wraps = a.Between(this->link_, this->b_, 1, 0, 128);
  wraps.remote_address = ~std::uint64_t{0} - 100;
  ASSERT_TRUE(this->Posted([&] { return a.transport->Write(wraps); }));
  const std::string message = "the write before this one is there";
  const bool posted = a.transport->Send(this->link_, message, 2, kNoDeadline);
  ASSERT_TRUE(this->Until([&] { return !a.lost.empty(); }));
  EXPECT_EQ(a.done[1], std::vector<Code>{Code::kUnavailable});
  EXPECT_EQ(a.done.contains(2), posted);
  EXPECT_EQ(this->b_.shared, std::vector<char>(ContractNode::kBytes, 's'));
  // What is on its way comes before an answer on another link.
  const LinkId other = a.Connect(this->b_);
  const Transfer read = a.Between(other, this->b_, 3, 0, 64);
  ASSERT_TRUE(this->Posted([&] { return a.transport->Read(read); }));
  ASSERT_TRUE(this->Until([&] { return a.done.contains(3); }));
  if (a.transport->limits().messages_follow_writes) {
    EXPECT_TRUE(this->b_.messages.empty());
  }
}

TYPED_TEST_P(TransportContract, ALostLinkIsReplacedByANewOne) {
  auto& a = this->a_;
  Transfer wrong = a.Between(this->link_, this->b_, 1, 0, 64);
  wrong.remote_key ^= 2;
  ASSERT_TRUE(this->Posted([&] { return a.transport->Read(wrong); }));
  ASSERT_TRUE(this->Until([&] { return !a.lost.empty(); }));
  a.transport->Close(this->link_);
  const LinkId next = a.Connect(this->b_);
  EXPECT_NE(next, this->link_);
  const Transfer read = a.Between(next, this->b_, 2, 0, 64);
  ASSERT_TRUE(this->Posted([&] { return a.transport->Read(read); }));
  ASSERT_TRUE(this->Until([&] { return a.done.contains(2); }));
  EXPECT_EQ(a.done[2], std::vector<Code>{Code::kOk});
}

TYPED_TEST_P(TransportContract, WhatIsInFlightOnAClosedLinkCompletesOnce) {
  auto& a = this->a_;
  for (std::uint64_t ticket = 0; ticket < 8; ++ticket) {
    const Transfer read =
        a.Between(this->link_, this->b_, ticket, ticket * 64, 64);
    ASSERT_TRUE(this->Posted([&] { return a.transport->Read(read); }));
  }
  a.transport->Close(this->link_);
  EXPECT_FALSE(a.transport->Read(a.Between(this->link_, this->b_, 9, 0, 64)));
  ASSERT_TRUE(this->UntilDone(8));
  for (const auto& [ticket, codes] : a.done) {
    EXPECT_EQ(codes.size(), 1u) << ticket;
    EXPECT_TRUE(codes[0] == Code::kOk || codes[0] == Code::kUnavailable);
  }
}

TYPED_TEST_P(TransportContract, APeersEndFailsWhatIsOnItsWayAndLosesTheLink) {
  auto& a = this->a_;
  const Transfer first = a.Between(this->link_, this->b_, 1, 0, 64);
  ASSERT_TRUE(this->Posted([&] { return a.transport->Read(first); }));
  ASSERT_TRUE(this->UntilDone(1));
  const Transfer second = a.Between(this->link_, this->b_, 2, 0, 64);
  this->b_.transport = nullptr;
  ASSERT_TRUE(a.transport->Read(second));
  ASSERT_TRUE(this->Until([&] { return !a.lost.empty(); }));
  EXPECT_EQ(a.done[2], std::vector<Code>{Code::kUnavailable});
}

TYPED_TEST_P(TransportContract, WhatIsNoAddressIsRefused) {
  for (const std::string address : {"", "b", "sim:", "sim:b:99", "no such"}) {
    const auto link = this->a_.transport->Connect(address);
    ASSERT_FALSE(link.ok()) << address;
    EXPECT_EQ(link.status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TYPED_TEST_P(TransportContract, AnUnknownLinkTakesNothing) {
  auto& a = this->a_;
  const LinkId none(12345);
  EXPECT_FALSE(a.transport->Read(a.Between(none, this->b_, 1, 0, 64)));
  EXPECT_FALSE(a.transport->Write(a.Between(none, this->b_, 1, 0, 64)));
  EXPECT_FALSE(a.transport->Send(none, {}, 1, kNoDeadline));
  a.transport->Close(none);
}

REGISTER_TYPED_TEST_SUITE_P(
    TransportContract, AReadBringsThePeersBytesAndOnlyThose,
    AWritesBytesAreThereWhenItCompletes,
    AMessageArrivesOnceAndItsBytesWereCopied,
    AMessageArrivesAfterWhatWasWrittenBeforeIt, AllThatIsPostedCompletesOnce,
    NoMoreThanTheLimitIsInFlight, AWrongKeyLosesThatLinkAndNoOther,
    OutOfBoundsTouchesNothingAndLosesTheLink,
    AWriteThatWrapsLosesTheLinkBeforeAMessage, ALostLinkIsReplacedByANewOne,
    WhatIsInFlightOnAClosedLinkCompletesOnce,
    APeersEndFailsWhatIsOnItsWayAndLosesTheLink, WhatIsNoAddressIsRefused,
    AnUnknownLinkTakesNothing);

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_TRANSPORT_TRANSPORT_CONTRACT_H_
