// What a peer sends is checked: lies and noise are counted and answered by
// nothing, and the node goes on with its other peers.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "memd/pool/message_builder.h"
#include "memd/pool/pool_node.h"
#include "memd/pool/pool_timing.h"
#include "tests/unit/pool/pool_cluster.h"

namespace agentmem {
namespace {

constexpr std::uint32_t kLength = 4096;
constexpr std::uint64_t kLent = 8 << 20;

// Node "a" is honest, and so is "b"; "evil" has shown a proper card to both,
// and is a transport in this test's hands.
class PoolHostileTest : public ::testing::Test {
 protected:
  void Make(std::uint64_t seed = 1, bool alone = true) {
    SimOptions options;
    options.seed = seed;
    options.message_bytes_max = kPoolMessageBytesMax;
    evil_ = nullptr;
    cluster_ = std::make_unique<PoolCluster>(options);
    cluster_->Start("a", alone ? 0 : kLent);
    cluster_->Start("b", alone ? 0 : kLent);
    memory_.assign(kLent, 'm');
    evil_ = cluster_->network().Add("evil");
    const auto registered = evil_->Register(memory_, RemoteAccess::kReadWrite);
    ASSERT_TRUE(registered.ok());
    PoolPeer card;
    card.node = "evil";
    card.instance = kInstance;
    card.fabric_address = evil_->address();
    card.token = kTokenToEvil;
    card.token_given = kTokenOfEvil;
    card.export_address = registered->remote.address;
    card.export_key = registered->remote.key;
    card.export_bytes = kLent;
    Node().AddPeer(card, cluster_->now());
    cluster_->Introduce("a", "b");
    link_ = *evil_->Connect(cluster_->at("a").transport->address());
    Run(kMillisecondNs);
    // The second: a pong came.
    ASSERT_EQ(Node().places(), alone ? 1u : 3u);
  }
  void TearDown() override {
    if (cluster_ == nullptr) return;
    EXPECT_EQ(cluster_->CheckInvariants(), "");
    evil_ = nullptr;
  }
  PoolNode& Node() { return *cluster_->at("a").node; }
  PoolSnapshot Snapshot() { return Node().Snapshot(cluster_->now()); }
  std::uint64_t Bad() { return Snapshot().bad_messages; }

  // Lets time go on; pings are answered as they should, all else by `answer`.
  void Run(DurationNs duration) {
    cluster_->RunFor(duration, [this] {
      std::array<TransportEvent, 16> events;
      const std::size_t count = evil_->Poll(cluster_->now(), events);
      for (std::size_t i = 0; i < count; ++i) {
        if (events[i].kind == TransportEvent::Kind::kMessage) {
          Take(events[i].message);
        } else if (events[i].kind == TransportEvent::Kind::kLost) {
          evil_->Close(link_);
          link_ = *evil_->Connect(cluster_->at("a").transport->address());
        }
      }
      return false;
    });
  }
  void Take(std::span<const char> message) {
    PoolHeader header;
    ASSERT_GE(message.size(), sizeof(header));
    std::memcpy(&header, message.data(), sizeof(header));
    EXPECT_EQ(header.token, kTokenToEvil);
    if (header.type == PoolMessage::kPing && silent_) return;
    if (header.type == PoolMessage::kPing) {
      MessageBuilder pong(PoolMessage::kPong, kTokenOfEvil, header.request);
      pong.Add(PoolPing{kInstance, kLent});
      Send(pong.Finish());
    } else if (answer_ && static_cast<int>(header.type) % 2 == 1) {
      answer_(header, message.subspan(sizeof(header)));
    } else {
      answers_.emplace_back(header.type,
                            std::string(message.begin(), message.end()));
    }
  }
  void Send(const std::string& message) {
    // A link that is full or lost: hostile peers have no right to more.
    evil_->Send(link_, message, 1, cluster_->now() + kSecondNs);
  }
  // Before `op` on "a" ends.
  Code Do(PoolOp op) {
    op.tenant = 3;
    op.key = {1, {2, 3, 4}};
    op.memory = cluster_->at("a").memory_id;
    op.bytes = cluster_->at("a").memory.get();
    if (op.length == 0) op.length = kLength;
    op.deadline = cluster_->now() + 2 * kSecondNs;
    EXPECT_TRUE(Node().Submit(op));
    Run(3 * kSecondNs);
    EXPECT_EQ(cluster_->at("a").done.size(), 1u);
    if (cluster_->at("a").done.empty()) return Code::kInternal;
    const Code code = cluster_->at("a").done[0].code;
    cluster_->at("a").done.clear();
    return code;
  }
  template <typename Entry>
  void Answer(const PoolHeader& header, const Entry& entry,
              std::uint32_t count = 1) {
    MessageBuilder message(AnswerOf(header.type), kTokenOfEvil, header.request);
    for (std::uint32_t i = 0; i < count; ++i) message.Add(entry);
    Send(message.Finish());
  }

  static constexpr std::uint64_t kInstance = 666;
  static constexpr std::uint64_t kTokenToEvil = 0x1111;
  static constexpr std::uint64_t kTokenOfEvil = 0x2222;

  std::vector<char> memory_;
  std::unique_ptr<PoolCluster> cluster_;
  std::unique_ptr<Transport> evil_;
  LinkId link_;
  bool silent_ = false;  // not even pings are answered
  std::function<void(const PoolHeader&, std::span<const char>)> answer_;
  std::vector<std::pair<PoolMessage, std::string>> answers_;
};

TEST_F(PoolHostileTest, EachWrongFieldOfAHeaderIsCountedAndAnswersNothing) {
  Make(1, /*alone=*/false);
  const auto message = [](auto change) {
    MessageBuilder builder(PoolMessage::kFind, kTokenOfEvil, 5);
    builder.Add(PoolName{});
    std::string bytes = builder.Finish();
    PoolHeader header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    change(&header);
    std::memcpy(bytes.data(), &header, sizeof(header));
    return bytes;
  };
  const std::vector<std::string> wrong = {
      message([](PoolHeader* h) { h->magic ^= 1; }),
      message([](PoolHeader* h) { h->version = kPoolVersion + 1; }),
      message([](PoolHeader* h) { h->type = PoolMessage{0}; }),
      message([](PoolHeader* h) { h->type = PoolMessage{12}; }),
      message([](PoolHeader* h) { h->type = PoolMessage{65535}; }),
      message([](PoolHeader* h) { h->type = PoolMessage::kCommit; }),
      message([](PoolHeader* h) { h->count = 0; }),
      message([](PoolHeader* h) { h->count = 2; }),
      message([](PoolHeader* h) { h->count = 0xffffffff; }),
      message([](PoolHeader* h) { h->bytes += 1; }),
      message([](PoolHeader* h) { h->bytes = 0; }),
      message([](PoolHeader* h) { h->token = kTokenToEvil; }),
      message([](PoolHeader* h) { h->token = 0; }),
      message([](PoolHeader*) {}).substr(0, 55),
      message([](PoolHeader*) {}).substr(0, 31),
      message([](PoolHeader*) {}) + "x",
      "",
      "x"};
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    const std::uint64_t before = Bad();
    Send(wrong[i]);
    Run(kMillisecondNs);
    EXPECT_EQ(Bad(), before + 1) << i;
    EXPECT_TRUE(answers_.empty()) << i;
  }
  Send(message([](PoolHeader*) {}));
  Run(kMillisecondNs);
  EXPECT_EQ(answers_.size(), 1u) << "the message itself is good";
}

TEST_F(PoolHostileTest, AFindThatLiesAboutWhereABlockLiesIsNotFollowed) {
  struct Lie {
    std::uint64_t offset;
    std::uint32_t length;
    BlockClass block_class;
  };
  for (const Lie& lie :
       {Lie{kLent, kLength, BlockClass::kCache},
        Lie{kLent - kLength + 1, kLength, BlockClass::kCache},
        Lie{UINT64_MAX, kLength, BlockClass::kCache},
        Lie{UINT64_MAX - kLength + 1, kLength, BlockClass::kCache},
        Lie{0, 0, BlockClass::kCache}, Lie{0, 0xffffffff, BlockClass::kCache},
        Lie{0, kLength, BlockClass{0}}, Lie{0, kLength, BlockClass{77}}}) {
    Make();
    answer_ = [&](const PoolHeader& header, std::span<const char>) {
      PoolFound found = {};
      found.offset = lie.offset;
      found.length = lie.length;
      found.block_class = lie.block_class;
      Answer(header, found);
    };
    EXPECT_EQ(Do({.kind = PoolOp::Kind::kGet}), Code::kUnavailable);
    EXPECT_EQ(Bad(), 1u);
    EXPECT_EQ(cluster_->network().counters().refused, 0u);
  }
}

TEST_F(PoolHostileTest, BytesThatDoNotFitTheirChecksumAreNeverGiven) {
  Make();
  answer_ = [&](const PoolHeader& header, std::span<const char>) {
    PoolFound found = {};
    found.length = kLength;
    found.block_class = BlockClass::kCache;
    found.checksum = 1234;
    Answer(header, found);
  };
  EXPECT_EQ(Do({.kind = PoolOp::Kind::kGet}), Code::kDataLoss);
  // Right bytes, of another block.
  answer_ = [&](const PoolHeader& header, std::span<const char>) {
    PoolFound found = {};
    found.length = kLength;
    found.block_class = BlockClass::kCache;
    found.checksum =
        PoolChecksum(PieceDigest::Of(PoolSeed(3, Key{9, {9, 9, 9}}),
                                     memory_.data(), kLength),
                     0);
    Answer(header, found);
  };
  EXPECT_EQ(Do({.kind = PoolOp::Kind::kGet}), Code::kDataLoss);
}

TEST_F(PoolHostileTest, AReservationBeyondTheExportIsNotWritten) {
  for (const std::uint64_t offset :
       {kLent, kLent - kLength + 1, UINT64_MAX, UINT64_MAX - kLength + 1}) {
    Make();
    answer_ = [&](const PoolHeader& header, std::span<const char>) {
      PoolReserved reserved = {};
      reserved.offset = offset;
      Answer(header, reserved);
    };
    EXPECT_EQ(Do({.kind = PoolOp::Kind::kPut}), Code::kUnavailable);
    EXPECT_EQ(Bad(), 1u);
    EXPECT_EQ(cluster_->network().counters().refused, 0u);
  }
}

TEST_F(PoolHostileTest, AnswersThatNobodyAskedForChangeNothing) {
  Make();
  for (std::uint64_t request = 0; request < 50; ++request) {
    MessageBuilder message(PoolMessage::kFound, kTokenOfEvil, request);
    message.Add(PoolFound{});
    Send(message.Finish());
    Run(100 * kMicrosecondNs);
  }
  // Of another type, or of another count, than was asked.
  answer_ = [&](const PoolHeader& header, std::span<const char>) {
    MessageBuilder other(PoolMessage::kDropped, kTokenOfEvil, header.request);
    other.Add(PoolDone{});
    Send(other.Finish());
    Answer(header, PoolFound{}, 2);
  };
  const std::uint64_t before = Bad();
  EXPECT_EQ(Do({.kind = PoolOp::Kind::kGet}), Code::kUnavailable);
  EXPECT_EQ(Bad(), before + 2);
}

TEST_F(PoolHostileTest, APutOnlySucceedsByACommitOfItsOwn) {
  Make();
  // The bytes are taken; then nothing that it should say comes.
  answer_ = [&](const PoolHeader& header, std::span<const char>) {
    if (header.type == PoolMessage::kReserve) {
      Answer(header, PoolReserved{Code::kOk, {}, 4096, 7});
      Answer(header, PoolReserved{Code::kOk, {}, 8192, 8});  // twice
    } else {
      Answer(header, PoolDone{static_cast<Code>(999), {}});
    }
  };
  EXPECT_EQ(Do({.kind = PoolOp::Kind::kPut}), Code::kUnavailable);
}

TEST_F(PoolHostileTest, APeerThatAsksAndNeverAnswersIsDown) {
  Make();
  silent_ = true;
  for (int i = 0; i < 12; ++i) {
    MessageBuilder ping(PoolMessage::kPing, kTokenOfEvil, 1);
    ping.Add(PoolPing{kInstance, 0});
    Send(ping.Finish());
    Run(100 * kMillisecondNs);
  }
  EXPECT_EQ(Node().places(), 0u);
  silent_ = false;
  Run(3 * kSecondNs);
  EXPECT_EQ(Node().places(), 1u);
}

TEST_F(PoolHostileTest, APeerThatOnlyAnswersPingsCostsNoMoreThanTheDeadline) {
  Make();
  answer_ = [](const PoolHeader&, std::span<const char>) {};
  PoolOp op;
  op.memory = cluster_->at("a").memory_id;
  op.bytes = cluster_->at("a").memory.get();
  op.length = kLength;
  for (const auto kind : {PoolOp::Kind::kGet, PoolOp::Kind::kPut,
                          PoolOp::Kind::kFind, PoolOp::Kind::kDrop}) {
    op.kind = kind;
    op.deadline = cluster_->now() + 50 * kMillisecondNs;
    ASSERT_TRUE(Node().Submit(op));
    Run(70 * kMillisecondNs);
    ASSERT_EQ(cluster_->at("a").done.size(), 1u);
    EXPECT_EQ(cluster_->at("a").done[0].code, Code::kUnavailable);
    cluster_->at("a").done.clear();
  }
  EXPECT_EQ(Node().places(), 1u) << "its link is not to blame";
}

// A block may move from who is asked last to who was asked first.
TEST_F(PoolHostileTest, StateIsAskedForTwiceBeforeItIsCalledLost) {
  Make();
  memory_.assign(kLent, 'm');
  int asked = 0;
  answer_ = [&](const PoolHeader& header, std::span<const char>) {
    PoolFound found = {};
    found.code = ++asked == 1 ? Code::kNotFound : Code::kOk;
    found.length = kLength;
    found.block_class = BlockClass::kState;
    found.checksum =
        PoolChecksum(PieceDigest::Of(PoolSeed(3, Key{1, {2, 3, 4}}),
                                     memory_.data(), kLength),
                     0);
    Answer(header, found);
  };
  EXPECT_EQ(Do({.kind = PoolOp::Kind::kGet}), Code::kNotFound);
  asked = 0;
  EXPECT_EQ(Do({.kind = PoolOp::Kind::kGet, .block_class = BlockClass::kState}),
            Code::kOk);
  EXPECT_EQ(asked, 2);
}

TEST_F(PoolHostileTest, AFloodOfReservationsComesBackByItself) {
  Make(1, /*alone=*/false);
  for (std::uint32_t i = 0; i < 64; ++i) {
    MessageBuilder message(PoolMessage::kReserve, kTokenOfEvil, i);
    for (std::uint32_t j = 0; j < kPoolEntriesMax; ++j) {
      message.Add(PoolReserve{{9, Key{i, {j, 0, 0}}},
                              1 << 20,
                              j % 3 == 0 ? BlockClass{9} : BlockClass::kState,
                              static_cast<std::uint8_t>(j),
                              {}});
    }
    Send(message.Finish());
    Run(kMillisecondNs);
  }
  ExportPool& exports = *cluster_->at("a").exports;
  EXPECT_GE(exports.used_bytes(), exports.capacity_bytes() * 8 / 9 - (1 << 20));
  Run(kReservationNs + 100 * kMillisecondNs);
  EXPECT_EQ(exports.used_bytes(), 0u);
}

TEST_F(PoolHostileTest, RoomReservedAheadIsOfWhoeverAskedAndForItsSize) {
  Make(1, /*alone=*/false);
  const auto ask = [&](PoolMessage type, const auto& entry) {
    MessageBuilder message(type, kTokenOfEvil, 77);
    message.Add(entry);
    answers_.clear();
    Send(message.Finish());
    Run(kMillisecondNs);
    EXPECT_EQ(answers_.size(), 1u);
    return std::span<const char>(answers_.front().second)
        .subspan(sizeof(PoolHeader));
  };
  PoolReserve reserve = {};
  reserve.ahead = 1;
  for (const std::uint64_t length : {0UL, kMaxBlockBytes + 1, 0xffffffffUL}) {
    reserve.length = static_cast<std::uint32_t>(length);
    EXPECT_EQ(
        EntryAt<PoolReserved>(ask(PoolMessage::kReserve, reserve), 0).code,
        Code::kInvalidArgument);
  }
  reserve.length = kLength;
  const auto room =
      EntryAt<PoolReserved>(ask(PoolMessage::kReserve, reserve), 0);
  ASSERT_EQ(room.code, Code::kOk);
  PoolCommit commit = {};
  commit.name = {3, Key{1, {2, 3, 4}}};
  commit.generation = room.generation;
  commit.ahead = 1;
  const auto committed = [&](std::uint32_t length, int block_class) {
    commit.length = length;
    commit.block_class = static_cast<BlockClass>(block_class);
    return EntryAt<PoolDone>(ask(PoolMessage::kCommit, commit), 0).code;
  };
  const std::uint64_t bad = Bad();
  EXPECT_EQ(committed(kLength, 9), Code::kInvalidArgument);
  EXPECT_EQ(committed(1 << 20, 1), Code::kInvalidArgument);
  EXPECT_EQ(Bad(), bad + 2);
  EXPECT_EQ(cluster_->at("a").exports->blocks(), 0u);
  EXPECT_EQ(committed(kLength, 1), Code::kOk);
  EXPECT_EQ(cluster_->at("a").exports->blocks(), 1u);
}

// Noise, half-right messages and answers to what is really asked.
TEST_F(PoolHostileTest, NoNoiseStopsANode) {
  constexpr std::uint16_t kTypes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Make(seed, /*alone=*/seed % 2 == 0);
    std::mt19937_64 random(seed);
    const auto noise = [&](PoolMessage type, std::uint64_t request) {
      MessageBuilder message(type, kTokenOfEvil, request);
      const std::size_t count = random() % 8 == 0 ? random() % 129 : 1;
      for (std::size_t i = 0; i < count; ++i) {
        // Entries of about the right size, with small numbers among them.
        std::array<std::uint64_t, 5> words;
        for (auto& word : words) {
          word = random() % 3 == 0 ? random() : random() % 4096;
        }
        if (random() % 2 == 0) words[0] &= ~std::uint64_t{0xffff};
        std::string entry(reinterpret_cast<const char*>(words.data()),
                          sizeof(words));
        entry.resize(std::min(EntryBytes(type), entry.size()));
        std::string padded = entry;
        for (const char byte : padded) message.Add(byte);
      }
      std::string bytes = message.Finish();
      const auto right = static_cast<std::uint32_t>(count);
      std::memcpy(bytes.data() + offsetof(PoolHeader, count), &right, 4);
      if (random() % 4 == 0) {
        bytes[random() % bytes.size()] = static_cast<char>(random());
      }
      if (random() % 16 == 0) bytes.resize(random() % bytes.size());
      Send(bytes);
    };
    answer_ = [&](const PoolHeader& header, std::span<const char>) {
      noise(AnswerOf(header.type), header.request);
    };
    std::uint64_t submitted = 0;
    for (int step = 0; step < 100; ++step) {
      const auto type = PoolMessage{kTypes[random() % 12]};
      noise(type, random() % 64);
      PoolOp op;
      op.kind = static_cast<PoolOp::Kind>(random() % 4);
      op.key = {static_cast<std::uint32_t>(random() % 64), {0, 0, 0}};
      op.memory = cluster_->at("a").memory_id;
      op.bytes = cluster_->at("a").memory.get();
      op.length = kLength;
      op.copies = static_cast<std::uint8_t>(1 + random() % 2);
      submitted += Node().Submit(op);
      Run(300 * kMicrosecondNs);
      ASSERT_EQ(cluster_->CheckInvariants(), "");
    }
    Run(kPoolOpNs + kSecondNs);
    EXPECT_EQ(cluster_->at("a").done.size(), submitted);
    EXPECT_EQ(Snapshot().queued, 0u);
    EXPECT_GT(Bad(), 0u);
  }
}

}  // namespace
}  // namespace agentmem
