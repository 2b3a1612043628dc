// A peer that lies about what is to be kept, to a node whose store serves; and
// a store that lies, to a node without a disk.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "memd/pool/message_builder.h"
#include "memd/pool/pool_timing.h"
#include "tests/unit/pool/pool_cluster.h"

namespace agentmem {
namespace {

constexpr std::uint32_t kLength = 4096;
constexpr std::uint64_t kLent = 8 << 20;
constexpr std::uint64_t kTenant = 3;
constexpr Key kKey = {1, {2, 3, 4}};
constexpr std::uint64_t kInstance = 666;
constexpr std::uint64_t kTokenToEvil = 0x1111;
constexpr std::uint64_t kTokenOfEvil = 0x2222;

// A disk without end that is done at once, or when it is told to.
class QuickDisk final : public ServedStore {
 public:
  StoreVerdict Admit(const ServedBlock&) override { return {}; }
  bool Write(const ServedBlock& block, const char* bytes,
             std::uint64_t generation) override {
    written.emplace_back(bytes, block.length);
    waiting.push_back(generation);
    return true;
  }
  bool Erase(std::uint64_t, const Key&, BlockClass) override {
    ++erased;
    return true;
  }
  std::uint64_t used_bytes() const override { return 0; }
  std::uint64_t serve_bytes() const override { return 1 << 30; }
  void FinishAll(PoolNode* node) {
    for (const std::uint64_t generation : std::exchange(waiting, {})) {
      node->OnStored(generation, {});
    }
  }

  std::vector<std::string> written;
  std::vector<std::uint64_t> waiting;
  int erased = 0;
};

// "a" serves its store, or has none; "evil" has shown it a proper card, and is
// a transport in this test's hands.
class PoolKeepHostileTest : public ::testing::Test {
 protected:
  void Make(bool serves, std::uint64_t seed = 1) {
    SimOptions options;
    options.seed = seed;
    options.message_bytes_max = kPoolMessageBytesMax;
    evil_ = nullptr;
    answers_.clear();
    answer_ = nullptr;
    cluster_ = std::make_unique<PoolCluster>(options);
    cluster_->Start("a", serves ? kLent : 0);
    if (serves) {
      Node().ServeStore(&disk_);
    } else {
      Node().UseRemoteStore({});
    }
    evil_ = cluster_->network().Add("evil");
    memory_.assign(kLent, 'm');
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
    card.store_version = kStoreVersion;
    card.store_bytes = 1 << 30;
    Node().AddPeer(card, cluster_->now());
    link_ = *evil_->Connect(cluster_->at("a").transport->address());
    Run(kMillisecondNs);
  }
  void TearDown() override {
    EXPECT_EQ(cluster_->CheckInvariants(), "");
    evil_ = nullptr;
  }
  PoolNode& Node() { return *cluster_->at("a").node; }
  PoolSnapshot Snapshot() { return Node().Snapshot(cluster_->now()); }

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
    std::memcpy(&header, message.data(), sizeof(header));
    const auto body = message.subspan(sizeof(header));
    if (header.type == PoolMessage::kPing) {
      MessageBuilder pong(PoolMessage::kPong, kTokenOfEvil, header.request);
      pong.Add(PoolPing{kInstance, kLent});
      Send(pong.Finish());
    } else if (answer_ && static_cast<int>(header.type) % 2 == 1) {
      answer_(header, body);
    } else {
      answers_.emplace_back(header.type, std::string(body.begin(), body.end()));
    }
  }
  void Send(const std::string& message) {
    evil_->Send(link_, message, 1, cluster_->now() + kSecondNs);
  }
  template <typename Entry>
  void Say(PoolMessage type, const Entry& entry, std::uint64_t request = 1) {
    MessageBuilder message(type, kTokenOfEvil, request);
    message.Add(entry);
    Send(message.Finish());
    Run(kMillisecondNs);
  }
  StoreStage StageOf(std::uint32_t length = kLength) {
    return {{kTenant, kKey}, length, BlockClass::kState, 1, 0};
  }
  StoreStaged Staged() {
    EXPECT_EQ(answers_.size(), 1u);
    if (answers_.empty()) return {};
    const auto staged = EntryAt<StoreStaged>(answers_[0].second, 0);
    answers_.clear();
    return staged;
  }
  // What a keep is answered; kUnknown: nothing yet.
  StoreKept Kept(const StoreKeep& keep) {
    Say(PoolMessage::kKeep, keep);
    StoreKept kept = {};
    kept.code = Code::kUnknown;
    if (!answers_.empty()) kept = EntryAt<StoreKept>(answers_[0].second, 0);
    answers_.clear();
    return kept;
  }
  // As it ought to be of the bytes that lie there now.
  StoreKeep KeepOf(const StoreStaged& staged) {
    StoreKeep keep = {};
    keep.name = {kTenant, kKey};
    keep.generation = staged.generation;
    keep.checksum = PoolChecksum(
        PieceDigest::Of(PoolSeed(kTenant, kKey),
                        cluster_->at("a").lent.get() + staged.offset, kLength),
        staged.generation);
    return keep;
  }
  Code Do(PoolOp::Kind kind) {
    PoolOp op;
    op.kind = kind;
    op.store = true;
    op.tenant = kTenant;
    op.key = kKey;
    op.memory = cluster_->at("a").memory_id;
    op.bytes = cluster_->at("a").memory.get();
    op.length = kLength;
    op.deadline = cluster_->now() + kSecondNs;
    EXPECT_TRUE(Node().Submit(op));
    Run(2 * kSecondNs);
    auto& done = cluster_->at("a").store_done;
    EXPECT_EQ(done.size(), 1u);
    const Code code = done.empty() ? Code::kUnknown : done[0].code;
    done.clear();
    return code;
  }
  template <typename Entry>
  void Answer(const PoolHeader& header, const Entry& entry) {
    MessageBuilder message(AnswerOf(header.type), kTokenOfEvil, header.request);
    message.Add(entry);
    Send(message.Finish());
  }

  QuickDisk disk_;
  std::vector<char> memory_;
  std::unique_ptr<PoolCluster> cluster_;
  std::unique_ptr<Transport> evil_;
  LinkId link_;
  std::function<void(const PoolHeader&, std::span<const char>)> answer_;
  std::vector<std::pair<PoolMessage, std::string>> answers_;
};

TEST_F(PoolKeepHostileTest, AHeaderOfAnotherVersionIsCountedAndAnswersNothing) {
  Make(true);
  for (const std::uint16_t version : {0, 2, 65535}) {
    MessageBuilder message(PoolMessage::kStage, kTokenOfEvil, 1);
    message.Add(StageOf());
    std::string bytes = message.Finish();
    std::memcpy(bytes.data() + offsetof(PoolHeader, version), &version, 2);
    const std::uint64_t before = Snapshot().bad_messages;
    Send(bytes);
    Run(kMillisecondNs);
    EXPECT_EQ(Snapshot().bad_messages, before + 1);
    EXPECT_TRUE(answers_.empty());
  }
}

TEST_F(PoolKeepHostileTest, AWrongLengthOrClassTakesNoPlace) {
  Make(true);
  StoreStage stage = StageOf();
  stage.block_class = BlockClass{9};
  for (const StoreStage& wrong :
       {StageOf(0), StageOf(kMaxBlockBytes + 1), StageOf(0xffffffff), stage}) {
    Say(PoolMessage::kStage, wrong);
    EXPECT_EQ(Staged().code, Code::kInvalidArgument);
  }
  EXPECT_EQ(cluster_->at("a").exports->used_bytes(), 0u);
}

TEST_F(PoolKeepHostileTest, OnlyWhatWasStagedAndFitsItsChecksumIsWritten) {
  Make(true);
  Say(PoolMessage::kStage, StageOf());
  const StoreStaged staged = Staged();
  ASSERT_EQ(staged.code, Code::kOk);
  std::memset(cluster_->at("a").lent.get() + staged.offset, 'k', kLength);
  StoreKeep other = KeepOf(staged);
  other.generation += 1;
  EXPECT_EQ(Kept(other).code, Code::kNotFound);
  other = KeepOf(staged);
  other.name.tenant += 1;
  EXPECT_EQ(Kept(other).code, Code::kNotFound);
  other = KeepOf(staged);
  other.name.key.name[0] += 1;
  EXPECT_EQ(Kept(other).code, Code::kNotFound);
  EXPECT_TRUE(disk_.written.empty());
  const StoreKeep right = KeepOf(staged);
  EXPECT_EQ(Kept(right).code, Code::kUnknown) << "the disk has not ended";
  EXPECT_EQ(Kept(right).code, Code::kNotFound) << "twice";
  ASSERT_EQ(disk_.written.size(), 1u);
  disk_.FinishAll(&Node());
  Run(kMillisecondNs);
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(EntryAt<StoreKept>(answers_[0].second, 0).code, Code::kOk);
  answers_.clear();
  // The next one has other bytes than it says.
  Say(PoolMessage::kStage, StageOf());
  StoreKeep wrong = KeepOf(Staged());
  wrong.checksum ^= 1;
  const StoreKept kept = Kept(wrong);
  EXPECT_EQ(kept.code, Code::kDataLoss);
  EXPECT_EQ(kept.refusal, StoreRefusal::kWrongBytes);
  EXPECT_EQ(disk_.written.size(), 1u);
  EXPECT_EQ(cluster_->at("a").exports->reservations(), 0u);
}

TEST_F(PoolKeepHostileTest, SealedBytesAreRefusedWhereNobodySeals) {
  Make(true);
  Say(PoolMessage::kStage, StageOf());
  StoreKeep keep = KeepOf(Staged());
  keep.seal[0] = 1;
  std::memset(keep.seal, 1, sizeof(keep.seal));
  EXPECT_EQ(Kept(keep).refusal, StoreRefusal::kSealing);
  EXPECT_TRUE(disk_.written.empty());
}

TEST_F(PoolKeepHostileTest, AFloodIsHeldToItsShareAndComesBackByItself) {
  Make(true);
  for (std::uint32_t i = 0; i < 64; ++i) {
    MessageBuilder message(PoolMessage::kStage, kTokenOfEvil, i);
    for (std::uint32_t j = 0; j < kPoolEntriesMax; ++j) {
      message.Add(StoreStage{
          {9, Key{i, {j, 0, 0}}}, 1 << 20, BlockClass::kState, 1, 0});
    }
    Send(message.Finish());
    Run(kMillisecondNs);
  }
  ExportPool& exports = *cluster_->at("a").exports;
  EXPECT_EQ(exports.used_bytes(), kMaxBlockBytes);
  Run(kReservationNs + 100 * kMillisecondNs);
  EXPECT_EQ(exports.used_bytes(), 0u);
  EXPECT_EQ(Snapshot().served.under_way, 0u);
}

TEST_F(PoolKeepHostileTest, ANodeThatServesNobodySaysSo) {
  Make(false);
  Say(PoolMessage::kStage, StageOf());
  EXPECT_EQ(Staged().refusal, StoreRefusal::kNotServed);
  EXPECT_EQ(Kept(StoreKeep{}).refusal, StoreRefusal::kNotServed);
  Say(PoolMessage::kErase, StoreErase{{kTenant, kKey}, BlockClass::kState, {}});
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(EntryAt<PoolDone>(answers_[0].second, 0).code,
            Code::kFailedPrecondition);
}

TEST_F(PoolKeepHostileTest, APlaceBeyondTheExportIsNotWritten) {
  for (const std::uint64_t offset :
       {kLent, kLent - kLength + 1, UINT64_MAX, UINT64_MAX - kLength + 1}) {
    Make(false);
    answer_ = [&](const PoolHeader& header, std::span<const char>) {
      StoreStaged staged = {};
      staged.offset = offset;
      Answer(header, staged);
    };
    EXPECT_EQ(Do(PoolOp::Kind::kKeep), Code::kUnavailable);
    EXPECT_EQ(Snapshot().bad_messages, 1u);
    EXPECT_EQ(cluster_->network().counters().refused, 0u);
  }
}

TEST_F(PoolKeepHostileTest, OnlyAKeptOfItsOwnIsAnAcknowledgement) {
  Make(false);
  answer_ = [&](const PoolHeader& header, std::span<const char>) {
    if (header.type == PoolMessage::kStage) {
      Answer(header, StoreStaged{});
      // Ahead of its turn, and of another request.
      Answer(PoolHeader{.type = PoolMessage::kKeep, .request = header.request},
             StoreKept{});
    } else {
      Answer(header, StoreKept{static_cast<Code>(999),
                               static_cast<StoreRefusal>(999), 0, 1, 2});
    }
  };
  EXPECT_EQ(Do(PoolOp::Kind::kKeep), Code::kUnavailable);
  ASSERT_EQ(Snapshot().stores.size(), 1u);
  EXPECT_EQ(Snapshot().stores[0].text,
            "for a reason that this memd does not know");
}

TEST_F(PoolKeepHostileTest, AStoreThatIsAlwaysBusyCostsNoMoreThanTheDeadline) {
  Make(false);
  int asked = 0;
  answer_ = [&](const PoolHeader& header, std::span<const char>) {
    StoreStaged staged = {};
    staged.code = Code::kUnavailable;
    staged.refusal = StoreRefusal::kBusy;
    ++asked;
    Answer(header, staged);
  };
  EXPECT_EQ(Do(PoolOp::Kind::kKeep), Code::kUnavailable);
  EXPECT_GT(asked, 10);
  EXPECT_LT(asked, 60);
}

// Noise, half-right messages and answers to what is really asked; both ways.
TEST_F(PoolKeepHostileTest, NoNoiseStopsANode) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const bool serves = seed % 2 == 0;
    Make(serves, seed);
    std::mt19937_64 random(seed);
    std::vector<std::uint64_t> generations = {1};
    const auto noise = [&](PoolMessage type, std::uint64_t request) {
      MessageBuilder message(type, kTokenOfEvil, request);
      const std::size_t count = random() % 8 == 0 ? random() % 65 : 1;
      for (std::size_t i = 0; i < count; ++i) {
        // Tenant, key, generation or length: small numbers among them.
        std::array<std::uint64_t, 12> words;
        for (auto& word : words) {
          word = random() % 3 == 0 ? random() : random() % 4;
        }
        if (random() % 2 == 0)
          words[3] = generations[random() % 1] + random() % 64;
        if (type == PoolMessage::kStage && random() % 2 == 0) {
          words[3] = (1ULL << 32 | 2ULL << 32) | random() % 100'000;
        }
        if (random() % 2 == 0) words[0] &= ~std::uint64_t{0xffff};
        const std::string entry(reinterpret_cast<const char*>(words.data()),
                                EntryBytes(type));
        for (const char byte : entry) message.Add(byte);
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
      noise(PoolMessage{static_cast<std::uint16_t>(13 + random() % 6)},
            random() % 64);
      for (const auto& [type, body] : answers_) {
        if (type != PoolMessage::kStaged || body.size() < sizeof(StoreStaged)) {
          continue;
        }
        generations[0] = EntryAt<StoreStaged>(body, 0).generation - 8;
      }
      answers_.clear();
      PoolOp op;
      const PoolOp::Kind kinds[] = {PoolOp::Kind::kKeep, PoolOp::Kind::kErase,
                                    PoolOp::Kind::kGet};
      op.kind = kinds[random() % 3];
      op.store = true;
      op.key = {static_cast<std::uint32_t>(random() % 64), {0, 0, 0}};
      op.memory = cluster_->at("a").memory_id;
      op.bytes = cluster_->at("a").memory.get();
      op.length = kLength;
      op.deadline = cluster_->now() + 2 * kSecondNs;
      submitted += !serves && Node().Submit(op);
      Run(300 * kMicrosecondNs);
      if (random() % 4 == 0) disk_.FinishAll(&Node());
      ASSERT_EQ(cluster_->CheckInvariants(), "");
    }
    Run(kReservationNs + kSecondNs);
    disk_.FinishAll(&Node());
    Run(kSecondNs);
    disk_.written.clear();
    EXPECT_EQ(cluster_->at("a").store_done.size(), submitted);
    EXPECT_EQ(Snapshot().queued, 0u);
    EXPECT_EQ(Snapshot().served.under_way, 0u);
    EXPECT_GT(Snapshot().bad_messages, 0u);
  }
}

}  // namespace
}  // namespace agentmem
