// A peer's messages, to a node whose store serves others and to one that has
// none: whatever they say, both go on and their books stay whole. The input is
// a list of messages: type, count, length (2 B), then that many bytes of
// entries, repeated as often as the count asks for; of type 255: a whole
// message as it stands.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "memd/pool/message_builder.h"
#include "memd/pool/pool_node.h"
#include "memd/transport/sim_network.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kLent = 8 << 20;
constexpr std::uint64_t kRoom = 1 << 20;
constexpr std::uint64_t kToken = 0x2222;

class FuzzDisk final : public ServedStore {
 public:
  StoreVerdict Admit(const ServedBlock& block) override {
    StoreVerdict verdict;
    if (block.key.group % 4 == 3) verdict.code = Code::kResourceExhausted;
    return verdict;
  }
  bool Write(const ServedBlock&, const char*,
             std::uint64_t generation) override {
    if (waiting.size() >= 4) return false;
    waiting.push_back(generation);
    return true;
  }
  void Erase(std::uint64_t, const Key&) override {}
  std::uint64_t used_bytes() const override { return 0; }
  std::uint64_t serve_bytes() const override { return 1 << 20; }
  std::vector<std::uint64_t> waiting;
};

// One of the two, with its link from the peer.
struct Side {
  std::vector<char> lent = std::vector<char>(kLent);
  std::vector<char> room = std::vector<char>(kRoom);
  std::unique_ptr<Transport> transport;
  std::unique_ptr<ExportPool> exports;
  std::unique_ptr<PoolNode> node;
  MemoryId memory;
  LinkId link;
};

class Bench {
 public:
  Bench() {
    evil_ = network_.Add("evil");
    const auto registered = evil_->Register(memory_, RemoteAccess::kReadWrite);
    for (const char* name : {"serves", "has none"}) {
      const bool serves = sides_.empty();
      Side& side = sides_.emplace_back();
      side.transport = network_.Add(name);
      PoolNodeOptions options;
      options.node = name;
      options.instance = 1;
      const auto lent =
          side.transport->Register(side.lent, RemoteAccess::kReadWrite);
      options.export_memory = lent->id;
      side.exports = std::make_unique<ExportPool>(side.lent, 1);
      side.node = std::make_unique<PoolNode>(options, side.transport.get(),
                                             side.exports.get());
      if (serves) side.node->ServeStore(&disk_);
      if (!serves) side.node->UseRemoteStore({});
      side.memory = *side.node->Register(side.room);
      PoolPeer card;
      card.node = "evil";
      card.instance = 9;
      card.fabric_address = evil_->address();
      card.token = 0x1111;
      card.token_given = kToken;
      card.export_address = registered->remote.address;
      card.export_key = registered->remote.key;
      card.export_bytes = kLent;
      card.store_version = kStoreVersion;
      card.store_bytes = 1 << 20;
      side.node->AddPeer(card, clock_.Now());
      side.link = *evil_->Connect(side.transport->address());
    }
    Run(kMillisecondNs);
  }

  void Run(DurationNs duration) {
    const TimeNs end = clock_.Now() + duration;
    while (clock_.Now() < end) {
      for (Side& side : sides_) {
        std::array<PoolCompletion, 16> done;
        std::array<PoolStoreDone, 16> stored;
        side.node->Poll(clock_.Now(), done);
        side.node->Tick(clock_.Now());
        side.node->TakeStoreDone(stored);
      }
      Pong();
      network_.RunFor(50 * kMicrosecondNs);
    }
  }
  void Say(std::uint8_t type, std::uint8_t count, const std::string& bytes) {
    std::string message = bytes;
    if (type != 255) {
      MessageBuilder builder(PoolMessage{type}, kToken, ++request_);
      const std::size_t entry = EntryBytes(PoolMessage{type});
      const std::size_t entries = count % 64 + 1;
      std::string body = bytes;
      body.resize(entries * entry);
      for (const char byte : body) builder.Add(byte);
      message = builder.Finish();
      const auto right = static_cast<std::uint32_t>(entries);
      std::memcpy(message.data() + offsetof(PoolHeader, count), &right, 4);
    }
    for (Side& side : sides_) {
      evil_->Send(side.link, message, 1, clock_.Now() + kSecondNs);
      PoolOp op;
      op.kind = static_cast<PoolOp::Kind>(type % 6);
      op.store = op.kind >= PoolOp::Kind::kKeep;
      op.key = {count, {1, 2, 3}};
      op.memory = side.memory;
      op.bytes = side.room.data();
      op.length = 4096;
      op.deadline = clock_.Now() + kSecondNs;
      side.node->Submit(op);
    }
  }
  void FinishDisk() {
    for (const std::uint64_t generation : std::exchange(disk_.waiting, {})) {
      sides_[0].node->OnStored(generation, {});
    }
  }
  void Check() {
    for (const Side& side : sides_) {
      const std::string wrong = side.node->CheckInvariants();
      if (wrong.empty()) continue;
      std::fprintf(stderr, "%s\n", wrong.c_str());
      std::abort();
    }
  }

 private:
  // It is alive, as far as they know.
  void Pong() {
    std::array<TransportEvent, 16> events;
    const std::size_t count = evil_->Poll(clock_.Now(), events);
    for (std::size_t i = 0; i < count; ++i) {
      if (events[i].kind == TransportEvent::Kind::kLost) {
        for (Side& side : sides_) {
          if (side.link != events[i].link) continue;
          evil_->Close(side.link);
          side.link = *evil_->Connect(side.transport->address());
        }
        continue;
      }
      PoolHeader header;
      if (events[i].kind != TransportEvent::Kind::kMessage) continue;
      std::memcpy(&header, events[i].message.data(), sizeof(header));
      if (header.type != PoolMessage::kPing) {
        request_ = header.request - 1;  // the next message answers it, perhaps
        continue;
      }
      MessageBuilder pong(PoolMessage::kPong, kToken, header.request);
      pong.Add(PoolPing{9, kLent});
      for (Side& side : sides_) {
        evil_->Send(side.link, pong.Finish(), 1, clock_.Now() + kSecondNs);
      }
    }
  }

  ManualClock clock_{kSecondNs};
  SimNetwork network_{SimOptions{.message_bytes_max = kPoolMessageBytesMax},
                      &clock_};
  std::vector<char> memory_ = std::vector<char>(kLent);
  std::unique_ptr<Transport> evil_;
  FuzzDisk disk_;
  std::deque<Side> sides_;
  std::uint64_t request_ = 0;
};

}  // namespace
}  // namespace agentmem

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t bytes) {
  using namespace agentmem;
  static Bench* bench = new Bench();
  for (std::size_t at = 0; at + 4 <= bytes;) {
    std::uint16_t length;
    std::memcpy(&length, data + at + 2, 2);
    const std::size_t taken =
        std::min<std::size_t>(length % 1024, bytes - at - 4);
    bench->Say(
        data[at], data[at + 1],
        std::string(reinterpret_cast<const char*>(data + at + 4), taken));
    at += 4 + taken;
    bench->Run(100 * kMicrosecondNs);
    if (length % 4 == 0) bench->FinishDisk();
  }
  bench->Check();
  return 0;
}
