// PoolNode against a transport by hand: what a link may do between two events.
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "memd/pool/message_builder.h"
#include "memd/pool/pool_node.h"
#include "memd/pool/pool_timing.h"

namespace agentmem {
namespace {

// Takes what it is told to take, and says what it is told to say.
class HandTransport final : public Transport {
 public:
  const TransportLimits& limits() const override { return limits_; }
  absl::StatusOr<Registered> Register(std::span<char> memory,
                                      RemoteAccess) override {
    return Registered{MemoryId(1), {0, 0, memory.size()}};
  }
  const std::string& address() const override { return address_; }
  absl::StatusOr<LinkId> Connect(const std::string&) override {
    return LinkId(++links);
  }
  bool Read(const Transfer& transfer) override { return Take(transfer); }
  bool Write(const Transfer& transfer) override { return Take(transfer); }
  bool Send(LinkId, std::span<const char> message, std::uint64_t,
            TimeNs) override {
    sent.emplace_back(message.begin(), message.end());
    return true;
  }
  std::size_t Poll(TimeNs, std::span<TransportEvent> out) override {
    std::size_t count = 0;
    while (count < out.size() && !events.empty()) {
      out[count++] = events.front();
      events.pop_front();
    }
    return count;
  }
  void Close(LinkId link) override { closed.push_back(link); }
  int wait_fd() const override { return -1; }
  bool ReadyToWait() override { return events.empty(); }

  void Done(const Transfer& transfer, Code code) {
    TransportEvent event;
    event.code = code;
    event.link = transfer.link;
    event.ticket = transfer.ticket;
    events.push_back(event);
  }
  void Lost(LinkId link) {
    TransportEvent event;
    event.kind = TransportEvent::Kind::kLost;
    event.link = link;
    events.push_back(event);
  }
  void Message(const std::string& bytes) {
    messages.push_back(bytes);
    TransportEvent event;
    event.kind = TransportEvent::Kind::kMessage;
    event.message = messages.back();
    events.push_back(event);
  }

  std::size_t takes = 1000;  // so many transfers more
  std::uint64_t links = 0;
  std::vector<Transfer> posted;
  std::vector<std::string> sent;
  std::vector<LinkId> closed;
  std::deque<TransportEvent> events;
  std::deque<std::string> messages;

 private:
  bool Take(const Transfer& transfer) {
    if (takes == 0) return false;
    --takes;
    posted.push_back(transfer);
    return true;
  }

  TransportLimits limits_{"hand", kPoolMessageBytesMax, 1000};
  const std::string address_ = "hand";
};

class PoolNodeLinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PoolPeer card;
    card.node = "b";
    card.instance = 9;
    card.token = 1;
    card.token_given = 2;
    card.export_bytes = 64 << 20;
    node_.AddPeer(card, now_);
    Pong();
    ASSERT_EQ(node_.places(), 1u);
  }
  void TearDown() override { EXPECT_EQ(node_.CheckInvariants(), ""); }
  std::size_t Poll() {
    std::array<PoolCompletion, 8> out;
    const std::size_t count = node_.Poll(now_, out);
    done_.insert(done_.end(), out.begin(),
                 out.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }
  // Nobody else comes who could take a put.
  void GiveUp() {
    for (int i = 0; i < 60; ++i) {
      now_ += kPutAgainNs;
      Poll();
    }
  }
  PoolHeader LastSent() {
    PoolHeader header;
    std::memcpy(&header, transport_.sent.back().data(), sizeof(header));
    return header;
  }
  void Pong() {
    MessageBuilder pong(PoolMessage::kPong, 2, LastSent().request);
    pong.Add(PoolPing{9, 0});
    transport_.Message(pong.Finish());
    Poll();
  }
  // A put of 4 MiB that has its reservation.
  void StartPut(std::uint64_t ticket) {
    PoolOp op;
    op.kind = PoolOp::Kind::kPut;
    op.key = {static_cast<std::uint32_t>(ticket), {1, 1, 1}};
    op.bytes = bytes_.data();
    op.length = static_cast<std::uint32_t>(bytes_.size());
    op.ticket = ticket;
    ASSERT_TRUE(node_.Submit(op));
    Poll();
    ASSERT_EQ(LastSent().type, PoolMessage::kReserve);
    MessageBuilder answer(PoolMessage::kReserved, 2, LastSent().request);
    answer.Add(PoolReserved{Code::kOk, {}, ticket << 22, ticket});
    transport_.Message(answer.Finish());
    Poll();
  }

  std::vector<char> bytes_ = std::vector<char>(4 << 20);
  HandTransport transport_;
  PoolNode node_{{.node = "a"}, &transport_, nullptr};
  TimeNs now_ = kSecondNs;
  std::vector<PoolCompletion> done_;
};

TEST_F(PoolNodeLinkTest, APutWhosePiecesAllArrivedSoFarEndsWithItsLink) {
  transport_.takes = 3;
  StartPut(1);
  ASSERT_EQ(transport_.posted.size(), 3u);
  for (const Transfer& piece : transport_.posted) {
    transport_.Done(piece, Code::kOk);
  }
  transport_.Lost(LinkId(transport_.links));
  Poll();
  GiveUp();
  ASSERT_EQ(done_.size(), 1u) << "nothing of it is under way any more";
  EXPECT_EQ(done_[0].code, Code::kUnavailable);
}

TEST_F(PoolNodeLinkTest, APutEndsOnlyWhenNothingOfItIsUnderWay) {
  transport_.takes = 3;
  StartPut(1);
  transport_.Lost(LinkId(transport_.links));
  Poll();
  EXPECT_TRUE(done_.empty());
  transport_.Done(transport_.posted[1], Code::kUnavailable);
  transport_.Done(transport_.posted[0], Code::kOk);
  Poll();
  EXPECT_TRUE(done_.empty());
  transport_.Done(transport_.posted[2], Code::kUnavailable);
  Poll();
  GiveUp();
  ASSERT_EQ(done_.size(), 1u);
  EXPECT_EQ(done_[0].code, Code::kUnavailable);
}

TEST_F(PoolNodeLinkTest, APutThatWaitsForCreditEndsByItsDeadline) {
  transport_.takes = 0;
  StartPut(1);
  now_ += kPoolOpNs;
  node_.Tick(now_);
  Poll();
  ASSERT_EQ(done_.size(), 1u);
  transport_.takes = 1000;
  Poll();
  EXPECT_TRUE(transport_.posted.empty());
}

TEST_F(PoolNodeLinkTest, ATransferOutlivesANearDeadlineByALittle) {
  PoolOp op;
  op.kind = PoolOp::Kind::kPut;
  op.bytes = bytes_.data();
  op.length = 4096;
  op.deadline = now_ + kMillisecondNs;
  ASSERT_TRUE(node_.Submit(op));
  Poll();
  MessageBuilder answer(PoolMessage::kReserved, 2, LastSent().request);
  answer.Add(PoolReserved{Code::kOk, {}, 0, 1});
  transport_.Message(answer.Finish());
  Poll();
  ASSERT_EQ(transport_.posted.size(), 1u);
  EXPECT_EQ(transport_.posted[0].deadline, now_ + kMoveNsMin);
  transport_.Done(transport_.posted[0], Code::kUnavailable);
  Poll();
  EXPECT_EQ(done_.size(), 1u);
}

TEST_F(PoolNodeLinkTest, APongOfAnEarlierLinkDoesNotRaiseTheNewOne) {
  const std::uint64_t old_ping = LastSent().request;
  transport_.Lost(LinkId(transport_.links));
  Poll();
  ASSERT_EQ(node_.places(), 0u);
  now_ += kSecondNs;
  node_.Tick(now_);
  ASSERT_EQ(transport_.links, 2u);
  MessageBuilder pong(PoolMessage::kPong, 2, old_ping);
  pong.Add(PoolPing{9, 0});
  transport_.Message(pong.Finish());
  Poll();
  EXPECT_EQ(node_.places(), 0u);
  Pong();
  EXPECT_EQ(node_.places(), 1u);
}

// A node that has just started knows too little to call a block missing.
TEST_F(PoolNodeLinkTest, NothingIsMissingBeforeAllMembersWereMet) {
  PoolNode young({.node = "young", .expects_members = true}, &transport_,
                 nullptr);
  const auto find = [&](BlockClass block_class) {
    PoolOp op;
    op.kind = PoolOp::Kind::kFind;
    op.block_class = block_class;
    op.key = {1, {1, 1, 1}};
    std::array<PoolCompletion, 8> out;
    young.Poll(now_, out);
    EXPECT_TRUE(young.Submit(op));
    EXPECT_EQ(young.Poll(now_, out), 1u);
    return out[0].code;
  };
  EXPECT_EQ(find(BlockClass::kCache), Code::kUnavailable) << "who is there?";
  young.ExpectMembers({"young", "other"});
  EXPECT_EQ(find(BlockClass::kCache), Code::kUnavailable);
  PoolPeer card;
  card.node = "other";
  card.instance = 9;
  card.token = 1;
  card.token_given = 2;
  card.export_bytes = 64 << 20;
  young.AddPeer(card, now_);
  EXPECT_EQ(find(BlockClass::kCache), Code::kUnavailable)
      << "its link is not up yet";
  now_ += kMeetNs;
  EXPECT_EQ(find(BlockClass::kCache), Code::kNotFound);
  EXPECT_EQ(find(BlockClass::kState), Code::kUnavailable);
  young.ExpectMembers({"young"});
  young.RemovePeer("other", now_);
  EXPECT_EQ(find(BlockClass::kState), Code::kNotFound);
}

}  // namespace
}  // namespace agentmem
