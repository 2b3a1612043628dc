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

  void FollowWrites() { limits_.messages_follow_writes = true; }

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

  // A get of 4 MiB that knows where the block lies.
  void StartGet(std::uint64_t ticket) {
    PoolOp op;
    op.kind = PoolOp::Kind::kGet;
    op.key = {static_cast<std::uint32_t>(ticket), {1, 1, 1}};
    op.bytes = bytes_.data();
    op.length = static_cast<std::uint32_t>(bytes_.size());
    op.ticket = ticket;
    ASSERT_TRUE(node_.Submit(op));
    Poll();
    ASSERT_EQ(LastSent().type, PoolMessage::kFind);
    MessageBuilder answer(PoolMessage::kFound, 2, LastSent().request);
    PoolFound found = {};
    found.block_class = BlockClass::kCache;
    found.length = op.length;
    found.generation = ticket;
    answer.Add(found);
    transport_.Message(answer.Finish());
    Poll();
  }
  void AnswerLast(Code code) {
    MessageBuilder answer(AnswerOf(LastSent().type), 2, LastSent().request);
    answer.Add(PoolDone{code, {}});
    transport_.Message(answer.Finish());
    Poll();
  }
  // A put of 64 KiB; of its size many are put.
  void SubmitSmall(std::uint64_t ticket) {
    PoolOp op;
    op.kind = PoolOp::Kind::kPut;
    op.key = {static_cast<std::uint32_t>(ticket), {1, 1, 1}};
    op.bytes = bytes_.data();
    op.length = kSmall;
    op.ticket = ticket;
    ASSERT_TRUE(node_.Submit(op));
    Poll();
  }
  template <typename Entry>
  Entry LastEntry() {
    return EntryAt<Entry>(
        std::span(transport_.sent.back()).subspan(sizeof(PoolHeader)), 0);
  }
  // Answers what was asked for ahead, at places of generations from `first` on.
  void GiveRoom(std::uint64_t first) {
    ASSERT_EQ(LastSent().type, PoolMessage::kReserve);
    ASSERT_EQ(LastEntry<PoolReserve>().ahead, 1);
    MessageBuilder answer(PoolMessage::kReserved, 2, LastSent().request);
    for (std::uint64_t i = 0; i < LastSent().count; ++i) {
      answer.Add(PoolReserved{Code::kOk, {}, (first + i) << 16, first + i});
    }
    transport_.Message(answer.Finish());
    Poll();
  }
  // Two puts that ask for themselves; the second asks for more, and gets it.
  void PutTwoAndGetRoom() {
    for (const std::uint64_t ticket : {1, 2}) {
      SubmitSmall(ticket);
      std::size_t asked = transport_.sent.size() - 1;
      if (ticket == 2) {
        GiveRoom(100);
        --asked;
      }
      PoolHeader header;
      std::memcpy(&header, transport_.sent[asked].data(), sizeof(header));
      ASSERT_EQ(header.type, PoolMessage::kReserve);
      MessageBuilder answer(PoolMessage::kReserved, 2, header.request);
      answer.Add(PoolReserved{Code::kOk, {}, ticket << 16, ticket});
      transport_.Message(answer.Finish());
      Poll();
      transport_.Done(transport_.posted.back(), Code::kOk);
      Poll();
      ASSERT_EQ(LastSent().type, PoolMessage::kCommit);
      AnswerLast(Code::kOk);
      ASSERT_EQ(done_.size(), ticket);
    }
    done_.clear();
  }

  static constexpr std::uint32_t kSmall = 64 << 10;

  std::vector<char> bytes_ = std::vector<char>(4 << 20);
  HandTransport transport_;
  PoolNode node_{{.node = "a"}, &transport_, nullptr};
  TimeNs now_ = kSecondNs;
  std::vector<PoolCompletion> done_;
};

TEST_F(PoolNodeLinkTest, AGetWhosePiecesAllArrivedSoFarEndsWithItsLink) {
  transport_.takes = 3;
  StartGet(1);
  ASSERT_EQ(transport_.posted.size(), 3u);
  for (const Transfer& piece : transport_.posted) {
    transport_.Done(piece, Code::kOk);
  }
  transport_.Lost(LinkId(transport_.links));
  Poll();
  ASSERT_EQ(done_.size(), 1u) << "nothing of it is under way any more";
  EXPECT_EQ(done_[0].code, Code::kUnavailable);
}

TEST_F(PoolNodeLinkTest, AGetEndsOnlyWhenNothingOfItIsUnderWay) {
  transport_.takes = 3;
  StartGet(1);
  transport_.Lost(LinkId(transport_.links));
  Poll();
  EXPECT_TRUE(done_.empty());
  transport_.Done(transport_.posted[1], Code::kUnavailable);
  transport_.Done(transport_.posted[0], Code::kOk);
  Poll();
  EXPECT_TRUE(done_.empty());
  transport_.Done(transport_.posted[2], Code::kUnavailable);
  Poll();
  ASSERT_EQ(done_.size(), 1u);
  EXPECT_EQ(done_[0].code, Code::kUnavailable);
}

TEST_F(PoolNodeLinkTest, APutEndsOnlyWhenNothingOfItIsUnderWay) {
  StartPut(1);
  ASSERT_EQ(transport_.posted.size(), 1u);
  transport_.Lost(LinkId(transport_.links));
  Poll();
  GiveUp();
  EXPECT_TRUE(done_.empty());
  transport_.Done(transport_.posted[0], Code::kUnavailable);
  Poll();
  GiveUp();
  ASSERT_EQ(done_.size(), 1u);
  EXPECT_EQ(done_[0].code, Code::kUnavailable);
}

TEST_F(PoolNodeLinkTest, WithoutOrderACommitWaitsForItsBytes) {
  StartPut(1);
  ASSERT_EQ(transport_.posted.size(), 1u);
  EXPECT_EQ(LastSent().type, PoolMessage::kReserve);
  transport_.Done(transport_.posted[0], Code::kOk);
  Poll();
  EXPECT_EQ(LastSent().type, PoolMessage::kCommit);
}

TEST_F(PoolNodeLinkTest, ACommitGoesRightBehindItsBytes) {
  transport_.FollowWrites();
  StartPut(1);
  ASSERT_EQ(transport_.posted.size(), 1u);
  ASSERT_EQ(LastSent().type, PoolMessage::kCommit);
  const std::size_t sent = transport_.sent.size();
  AnswerLast(Code::kOk);
  EXPECT_TRUE(done_.empty()) << "its bytes are still in use";
  transport_.Done(transport_.posted[0], Code::kOk);
  Poll();
  ASSERT_EQ(done_.size(), 1u);
  EXPECT_EQ(done_[0].code, Code::kOk);
  EXPECT_EQ(transport_.sent.size(), sent) << "it was committed once";
}

TEST_F(PoolNodeLinkTest, APutIsNotDoneBeforeItsCommitIsAnswered) {
  transport_.FollowWrites();
  StartPut(1);
  transport_.Done(transport_.posted[0], Code::kOk);
  Poll();
  EXPECT_TRUE(done_.empty());
  AnswerLast(Code::kOk);
  ASSERT_EQ(done_.size(), 1u);
  EXPECT_EQ(done_[0].code, Code::kOk);
}

TEST_F(PoolNodeLinkTest, AWriteThatFailsIsNoPutWhateverItsCommitSays) {
  transport_.FollowWrites();
  StartPut(1);
  AnswerLast(Code::kOk);
  transport_.Done(transport_.posted[0], Code::kUnavailable);
  Poll();
  GiveUp();
  ASSERT_EQ(done_.size(), 1u);
  EXPECT_EQ(done_[0].code, Code::kUnavailable);
}

TEST_F(PoolNodeLinkTest, ACommitWithoutAnAnswerEndsThePut) {
  transport_.FollowWrites();
  StartPut(1);
  transport_.Done(transport_.posted[0], Code::kOk);
  Poll();
  const TimeNs end = now_ + kMoveNs + kAskNs;
  while (now_ < end) {
    EXPECT_TRUE(done_.empty());
    now_ += kPingNs;
    node_.Tick(now_);
    Pong();
  }
  ASSERT_EQ(done_.size(), 1u);
  EXPECT_EQ(done_[0].code, Code::kUnavailable);
}

TEST_F(PoolNodeLinkTest, APutOfASizeThatIsPutOftenAsksNobody) {
  PutTwoAndGetRoom();
  transport_.posted.clear();
  const std::size_t sent = transport_.sent.size();
  SubmitSmall(3);
  ASSERT_EQ(transport_.posted.size(), 1u);
  EXPECT_EQ(transport_.sent.size(), sent);
  EXPECT_EQ(transport_.posted[0].remote_address, 100u << 16);
  transport_.Done(transport_.posted[0], Code::kOk);
  Poll();
  ASSERT_EQ(LastSent().type, PoolMessage::kCommit);
  const auto commit = LastEntry<PoolCommit>();
  EXPECT_EQ(commit.generation, 100u);
  EXPECT_EQ(commit.ahead, 1);
  EXPECT_EQ(commit.length, kSmall);
  EXPECT_EQ(commit.copies, 1);
  AnswerLast(Code::kOk);
  ASSERT_EQ(done_.size(), 1u);
  EXPECT_EQ(done_[0].code, Code::kOk);
}

TEST_F(PoolNodeLinkTest, WhatWasDroppedAfterItsRoomWasReservedIsPutAnew) {
  PutTwoAndGetRoom();
  SubmitSmall(3);
  transport_.Done(transport_.posted.back(), Code::kOk);
  Poll();
  AnswerLast(Code::kNotFound);
  ASSERT_EQ(LastSent().type, PoolMessage::kReserve);
  EXPECT_EQ(LastEntry<PoolReserve>().ahead, 0);
  EXPECT_EQ(LastEntry<PoolReserve>().length, kSmall);
  EXPECT_TRUE(done_.empty());
}

TEST_F(PoolNodeLinkTest, RoomOfAnotherLinkOrOfLongAgoIsNotUsed) {
  PutTwoAndGetRoom();
  transport_.Lost(LinkId(transport_.links));
  Poll();
  now_ += kBackoffNsMin;
  node_.Tick(now_);
  Pong();
  ASSERT_EQ(node_.places(), 1u);
  const std::size_t posted = transport_.posted.size();
  SubmitSmall(3);
  SubmitSmall(4);
  EXPECT_EQ(transport_.posted.size(), posted) << "they ask first";
  GiveRoom(200);
  now_ += kAheadNs;
  SubmitSmall(5);
  EXPECT_EQ(transport_.posted.size(), posted) << "it is too old";
}

// The place may be another block's by the time that this node goes on.
TEST_F(PoolNodeLinkTest, ANodeThatStoodStillWritesIntoNoPlaceOfBefore) {
  transport_.takes = 0;
  StartPut(1);
  transport_.takes = 1000;
  now_ += kReservationNs;
  Poll();
  EXPECT_TRUE(transport_.posted.empty());
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

TEST_F(PoolNodeLinkTest, APongOfAnEarlierLinkIsNotBadAndDoesNotRaiseTheNewOne) {
  MessageBuilder pong(PoolMessage::kPong, 2, LastSent().request);
  pong.Add(PoolPing{9, 0});
  const std::string old_pong = pong.Finish();
  transport_.Lost(LinkId(transport_.links));
  Poll();
  transport_.Message(old_pong);
  Poll();
  ASSERT_EQ(node_.places(), 0u);
  now_ += kSecondNs;
  node_.Tick(now_);
  ASSERT_EQ(transport_.links, 2u);
  transport_.Message(old_pong);
  Poll();
  EXPECT_EQ(node_.places(), 0u);
  EXPECT_EQ(node_.Snapshot(now_).bad_messages, 0u);
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
