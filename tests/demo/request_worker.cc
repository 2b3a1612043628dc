#include "tests/demo/request_worker.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <utility>

#include "base/clock.h"
#include "tests/demo/protocol.h"

namespace agentmem::demo {
namespace {

using std::chrono::seconds;

constexpr std::size_t kBatch = 32;
// Puts whose outcome is not known yet.
constexpr std::size_t kPutsPosted = 8;
constexpr std::uint64_t kDurableEvery = 4;  // requests
constexpr std::uint64_t kObjectEvery = 16;  // requests
// One put in so many is written into shared memory by its producer.
constexpr std::uint64_t kReserveEvery = 4;
constexpr Timeout kReadTimeout = seconds(5);
constexpr Timeout kPutTimeout = seconds(15);
constexpr std::uint64_t kObjectWord = 0x6f626a6563740000ULL;

}  // namespace

ContentId ContentOf(const Key& key) {
  return {key.group | std::uint64_t{key.name[0]} << 32,
          key.name[1] | std::uint64_t{key.name[2]} << 32};
}

RequestWorker::RequestWorker(Client* client, const Workload& workload,
                             Scoreboard* board, Lane* lane, int demo_socket)
    : client_(client),
      workload_(workload),
      board_(board),
      lane_(lane),
      demo_socket_(demo_socket),
      sequence_(
          client->Sequence({.model = "demo", .block_tokens = kBlockTokens})),
      scratch_(workload.header().block_bytes) {}

void RequestWorker::Run(std::uint64_t request) {
  request_ = request;
  blocks_ = workload_.BlocksOf(request);
  misses_.clear();
  const std::vector<std::uint32_t> tokens = workload_.TokensOf(request);

  lane_->stage = Stage::kMatching;
  const TimeNs start = MonotonicNowNs();
  const Match match = sequence_.Match(tokens);
  lane_->Of(Operation::kMatch).Record(MonotonicNowNs() - start);
  if (!match.status().ok()) Trouble("match: " + match.status().ToString());
  keys_.assign(match.keys().begin(), match.keys().end());
  while (keys_.size() < blocks_.size()) {
    const Result<Key> key = sequence_.Next(tokens);
    if (!key.ok()) return Trouble("next: " + key.status().ToString());
    keys_.push_back(*key);
  }

  lane_->stage = Stage::kReading;
  Read(0, match.blocks());
  ReadTail(match.blocks());
  lane_->stage = Stage::kPutting;
  PutMisses();
  if (request % kDurableEvery == 0) PutDurable(keys_.size() - 1);
  if (request % kObjectEvery == 0) {
    lane_->stage = Stage::kObject;
    WorkOnObject();
  }
}

// First and last alone, to measure one block; the rest in batches.
void RequestWorker::Read(std::size_t from, std::size_t to) {
  if (from == to) return;
  ReadBatch(from, from + 1);
  for (std::size_t at = from + 1; at + 1 < to; at += kBatch) {
    ReadBatch(at, std::min(at + kBatch, to - 1));
  }
  if (to - from > 1) ReadBatch(to - 1, to);
}

void RequestWorker::ReadBatch(std::size_t from, std::size_t to) {
  const std::span<const Key> keys(keys_.data() + from, to - from);
  const TimeNs start = MonotonicNowNs();
  const Blocks blocks = client_->Get(keys, kReadTimeout);
  const DurationNs took = MonotonicNowNs() - start;
  bool all_in_dram = true;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (!blocks.has(i)) {
      all_in_dram = false;
      CountMiss(from + i, blocks.status().code());
      continue;
    }
    const bool in_dram = blocks.tier(i) == Tier::kDram;
    all_in_dram = all_in_dram && in_dram;
    board_->Count(in_dram ? Counter::kHitsDram : Counter::kHitsStore);
    const ContentId id = ContentOf(keys[i]);
    Check(id, blocks[i], "block");
    CountStored(from + i, blocks[i].size());
  }
  if (!blocks.complete() && blocks.status().code() != Code::kNotFound) {
    Trouble("get: " + blocks.status().ToString());
  }
  const bool one = keys.size() == 1;
  lane_
      ->Of(all_in_dram
               ? (one ? Operation::kGetDram : Operation::kGetDramBatch)
               : (one ? Operation::kGetStore : Operation::kGetStoreBatch))
      .Record(took);
}

// Behind the match: what is there all the same is read, the rest was missing.
void RequestWorker::ReadTail(std::size_t from) {
  if (from == keys_.size()) return;
  const std::span<const Key> keys(keys_.data() + from, keys_.size() - from);
  const Result<std::vector<Tier>> tiers = client_->Contains(keys);
  if (!tiers.ok()) return Trouble("contains: " + tiers.status().ToString());
  std::size_t at = from;
  while (at < keys_.size()) {
    std::size_t end = at;
    while (end < keys_.size() && end - at < kBatch &&
           (*tiers)[end - from] != Tier::kNone) {
      ++end;
    }
    if (end > at) {
      board_->Count(Counter::kHitsBehindGap, end - at);
      ReadBatch(at, end);
      at = end;
      continue;
    }
    board_->Count(workload_.IsStored(blocks_[at])
                      ? Counter::kMissesDropped
                      : Counter::kMissesNeverStored);
    misses_.push_back(at++);
  }
}

void RequestWorker::CountMiss(std::size_t position, Code code) {
  switch (code) {
    case Code::kNotFound:
      board_->Count(Counter::kMissesEvicted);
      break;
    case Code::kDeadlineExceeded:
      board_->Count(Counter::kMissesDeadline);
      break;
    default:
      board_->Count(Counter::kGetsFailed);
      break;
  }
  misses_.push_back(position);
}

bool RequestWorker::Check(const ContentId& id, Bytes bytes,
                          const std::string& what) {
  board_->Count(Counter::kBlocksVerified);
  board_->Count(Counter::kBytesVerified, bytes.size());
  const bool object = what == "object";
  const std::uint64_t length =
      object ? ObjectLength(id.low)
             : ContentLength(id, workload_.header().block_bytes);
  const std::uint64_t wrong = MismatchingBytes(id, bytes);
  if (wrong == 0 && bytes.size() == length) return true;
  board_->Count(Counter::kMismatches);
  char text[200];
  std::snprintf(text, sizeof(text),
                "MISMATCH: %s %016llx%016llx has %zu bytes (of %llu), %llu of "
                "them wrong",
                what.c_str(), static_cast<unsigned long long>(id.high),
                static_cast<unsigned long long>(id.low), bytes.size(),
                static_cast<unsigned long long>(length),
                static_cast<unsigned long long>(wrong));
  Trouble(text);
  return false;
}

// A few posted at a time; the first alone, to measure it.
void RequestWorker::PutMisses() {
  std::deque<std::pair<std::size_t, ::agentmem::Put>> posted;
  const auto finish_oldest = [&] {
    FinishPut(posted.front().first, posted.front().second.Wait(kPutTimeout),
              Ack::kVisible);
    posted.pop_front();
  };
  bool first = true;
  for (const std::size_t position : misses_) {
    const TimeNs start = MonotonicNowNs();
    posted.emplace_back(position,
                        PostBlock(position, Ack::kVisible, BlockClass::kCache));
    if (first) {
      finish_oldest();
      lane_->Of(Operation::kPutVisible).Record(MonotonicNowNs() - start);
      first = false;
    }
    if (posted.size() == kPutsPosted) finish_oldest();
  }
  while (!posted.empty()) finish_oldest();
}

::agentmem::Put RequestWorker::PostBlock(std::size_t position, Ack ack,
                                         BlockClass kind) {
  const Key& key = keys_[position];
  const ContentId id = ContentOf(key);
  const std::uint64_t length =
      ContentLength(id, workload_.header().block_bytes);
  if (position % kReserveEvery != 0) {
    const std::span<std::byte> bytes(scratch_.data(), length);
    FillContent(id, bytes);
    return client_->Put(key, bytes, ack, kind, kPutTimeout);
  }
  Result<Reservation> room = client_->Reserve(length, kPutTimeout);
  if (!room.ok()) return ::agentmem::Put(room.status());
  FillContent(id, room->data().first(length));
  return room->Publish(key, length, ack, kind, kPutTimeout);
}

void RequestWorker::FinishPut(std::size_t position, const Status& status,
                              Ack ack) {
  const bool durable = ack == Ack::kDurable;
  if (!status.ok()) {
    board_->Count(Counter::kPutsFailed);
    return Trouble((durable ? "durable put: " : "put: ") + status.ToString());
  }
  board_->Count(durable ? Counter::kPutsDurable : Counter::kPutsVisible);
  const std::uint64_t length =
      ContentLength(ContentOf(keys_[position]), workload_.header().block_bytes);
  CountStored(position, length);
  if (durable) ReportDurable(0, ContentOf(keys_[position]), length);
}

void RequestWorker::CountStored(std::size_t position, std::uint64_t length) {
  if (!workload_.MarkStored(blocks_[position])) return;
  board_->Count(Counter::kStateBlocks);
  board_->Count(Counter::kStateBytes, length);
}

// The session's newest block, which may not be lost.
void RequestWorker::PutDurable(std::size_t position) {
  const TimeNs start = MonotonicNowNs();
  ::agentmem::Put put = PostBlock(position, Ack::kDurable, BlockClass::kState);
  const Status status = put.Wait(kPutTimeout);
  lane_->Of(Operation::kPutDurable).Record(MonotonicNowNs() - start);
  FinishPut(position, status, Ack::kDurable);
}

std::string RequestWorker::ObjectName(std::uint64_t request) {
  return "session-" + std::to_string(request);
}

ContentId RequestWorker::ObjectContent(std::uint64_t request) {
  return {request, kObjectWord};
}

std::uint64_t RequestWorker::ObjectLength(std::uint64_t request) const {
  return 1 + Mix(request + kObjectWord) % (8 * workload_.header().block_bytes);
}

void RequestWorker::WorkOnObject() {
  const std::string name = ObjectName(request_);
  const ContentId id = ObjectContent(request_);
  std::vector<std::byte> bytes(ObjectLength(request_));
  FillContent(id, bytes);
  TimeNs start = MonotonicNowNs();
  const Status put = client_->PutObject(name, bytes, Ack::kDurable,
                                        BlockClass::kState, kPutTimeout);
  lane_->Of(Operation::kObjectPut).Record(MonotonicNowNs() - start);
  if (put.ok()) {
    board_->Count(Counter::kObjectsPut);
    board_->Count(Counter::kStateBytes, bytes.size());
    ReportDurable(kIsObject, id, bytes.size());
  } else if (put.code() != Code::kAlreadyExists) {
    board_->Count(Counter::kPutsFailed);
    return Trouble("object put: " + put.ToString());
  }
  start = MonotonicNowNs();
  const Result<std::vector<std::byte>> read =
      client_->GetObject(name, kReadTimeout);
  lane_->Of(Operation::kObjectGet).Record(MonotonicNowNs() - start);
  if (!read.ok()) {
    board_->Count(Counter::kGetsFailed);
    return Trouble("object get: " + read.status().ToString());
  }
  if (Check(id, *read, "object")) board_->Count(Counter::kObjectsVerified);
}

void RequestWorker::ReportDurable(std::uint32_t flags, const ContentId& id,
                                  std::uint64_t length) const {
  Message message;
  message.type = MessageType::kDurable;
  message.flags = flags;
  message.low = id.low;
  message.high = id.high;
  message.length = length;
  SendMessage(demo_socket_, message);
}

void RequestWorker::Trouble(const std::string& text) const {
  Message message;
  message.type = MessageType::kTrouble;
  message.number = request_;
  std::snprintf(message.text, sizeof(message.text), "%s", text.c_str());
  SendMessage(demo_socket_, message);
}

}  // namespace agentmem::demo
