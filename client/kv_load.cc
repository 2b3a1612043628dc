// KvLoad: from DRAM into the device.
#include <algorithm>
#include <string>
#include <utility>

#include "client/kv_transfer.h"
#include "client/kv_wait.h"
#include "client/messages.h"
#include "proto/key_text.h"

namespace agentmem::client {
namespace {

// Below the pins of a thread, so that its own gets find some.
constexpr std::size_t kHoldBatch = 64;
// From the next one on, so many are on their way into DRAM at a time: as many
// as memd brings ahead for one tenant, however little DRAM that has. (Fewer
// come more evenly, one after the other, and later in all: by TCP on one
// machine, 16 blocks of 2 MiB at a time took half as long again.)
constexpr std::size_t kAhead = 64;
// What is waited for at a time. The device copies it while the next ones come,
// so it is to be little beside a load, and much beside the post of its copies.
constexpr std::size_t kAwaitedBlocks = 32;  // half: memd goes on with the rest
constexpr std::uint64_t kAwaitedBytes = 16 << 20;

}  // namespace

KvLoad::KvLoad(const KvParts& parts, std::shared_ptr<const KvCache> cache)
    : KvTransfer(parts, std::move(cache), Direction::kToDevice),
      streams_{stream_, parts.device->properties().scatter},
      fp8_(parts.device, *cache_, Direction::kToDevice, stream_) {}

// (What is still under way: the device is at its end, its owner saw to it.)
KvLoad::~KvLoad() {
  for (Window& window : windows_) Release(&window, false);
  EndPieces(hits_, false);
  EndLayers();
}

Outcome KvLoad::Check(const KvBlocks& blocks) const {
  std::vector<std::uint32_t> pages(blocks.pages.begin(), blocks.pages.end());
  std::sort(pages.begin(), pages.end());
  const auto twice = std::adjacent_find(pages.begin(), pages.end());
  if (twice != pages.end()) {
    return Fail(Code::kInvalidArgument,
                "pages: page " + std::to_string(*twice) +
                    " stands there twice, and can hold one block's tokens");
  }
  return {};
}

Outcome KvLoad::Post(const KvBlocks& blocks, Stream engine,
                     const Deadline& deadline) {
  Outcome outcome = Check(blocks);
  if (outcome.ok()) outcome = StandBehind(engine, {&stream_, 1});
  if (outcome.ok()) outcome = PostAll(blocks, deadline);
  Note(outcome);
  EndPieces(std::exchange(hits_, {}), false);
  if (!outcome_.ok() && !windows_.empty()) {
    HoldUpEngine(engine, streams());
  }
  return outcome_;
}

Outcome KvLoad::PostAll(const KvBlocks& blocks, const Deadline& deadline) {
  FindInPool(blocks);
  NoteTiers(blocks);
  std::size_t next = 0;
  do {
    PrefetchAhead(next);
    Advance();  // what has ended gives its holds back
    Window window;
    window.first = next;
    Outcome outcome = HoldSome(deadline, &window);
    if (!outcome.ok()) return outcome;
    next += window.spans.size();
    windows_.push_back(std::move(window));
    outcome = PostWindow(blocks, deadline, &windows_.back());
    // Some copies may be under way, whatever the outcome.
    (void)parts_.device->Record(stream_, &windows_.back().event);
    if (!outcome.ok()) return outcome;
  } while (next < missing_.size());
  return {};
}

// (A hint: what memd cannot do now is waited for later.)
void KvLoad::PrefetchAhead(std::size_t next) {
  const std::size_t end = std::min(missing_.size(), next + kAhead);
  if (end <= prefetched_) return;
  (void)parts_.reader->Prefetch(missing_keys_.data() + prefetched_,
                                end - prefetched_);
  prefetched_ = end;
}

void KvLoad::FindInPool(const KvBlocks& blocks) {
  const HbmAgent agent =
      parts_.keep == nullptr ? HbmAgent() : parts_.keep->agent();
  for (std::size_t i = 0; i < blocks.keys.size(); ++i) {
    Piece piece;
    piece.block = i;
    if (parts_.pool != nullptr &&
        parts_.pool->Find(blocks.keys[i], cache_->block_bytes, agent,
                          &piece.slot, cache_->tag())) {
      hits_.push_back(piece);
      continue;
    }
    missing_.push_back(i);
    missing_keys_.push_back(blocks.keys[i]);
  }
}

void KvLoad::NoteTiers(const KvBlocks& blocks) {
  std::vector<agentmem_tier> below(missing_.size(), AGENTMEM_TIER_NONE);
  // (Not OK: they stay so, and what Get says counts.)
  (void)parts_.reader->Contains(missing_keys_.data(), below.size(),
                                below.data());
  tiers_.assign(blocks.keys.size(), AGENTMEM_TIER_HBM);
  for (std::size_t i = 0; i < missing_.size(); ++i) {
    tiers_[missing_[i]] = below[i];
  }
}

// Those that are there now, as many as the quota of holds lets it have: what
// comes later is for another window. If none is there, and nothing else to copy
// meanwhile, some are waited for. They come as memd has them, and the quota may
// be used up by later ones before the first is there: then fewer are asked for.
Outcome KvLoad::HoldSome(const Deadline& deadline, Window* window) {
  std::size_t batch = kHoldBatch;
  bool met_again = false;
  for (bool has_waited = false; !has_waited;) {
    const std::size_t at = window->first + window->spans.size();
    const Key* const keys = missing_keys_.data() + at;
    std::vector<agentmem_span> spans(std::min(batch, missing_.size() - at));
    PinFirst(keys, &spans);
    Outcome obtained;
    if (spans.empty()) {
      const bool is_copying = !window->spans.empty() || !hits_.empty();
      if (is_copying || at == missing_.size()) return {};
      spans.resize(AwaitedOf(std::min(batch, missing_.size() - at)));
      obtained = parts_.reader->Get(keys, spans.size(), deadline, spans.data());
      has_waited = true;
    }
    const std::size_t count = spans.size();
    const Outcome held = parts_.reader->Hold(spans.data(), count, deadline);
    Outcome outcome = obtained.ok() ? held : obtained;
    // Those before the first that was not obtained.
    const auto end =
        std::find_if(spans.begin(), spans.end(), [](const agentmem_span& span) {
          return KindOf(span) != SpanKind::kHold;
        });
    window->spans.insert(window->spans.end(), spans.begin(), end);
    parts_.reader->Release(spans.data() + (end - spans.begin()),
                           static_cast<std::size_t>(spans.end() - end));
    if (outcome.ok()) continue;
    has_waited = false;
    // What was resident is not with memd's successor, which Hold has found.
    if (obtained.ok() && held.code == Code::kUnavailable && !met_again) {
      met_again = true;
      continue;
    }
    const bool full = outcome.code == Code::kResourceExhausted;
    if (full && !window->spans.empty()) return {};
    if (full && !windows_.empty()) {
      // Earlier windows have it.
      const std::size_t before = windows_.size();
      const bool freed = WaitForDevice(
          [this, before] {
            Advance();
            return windows_.size() < before;
          },
          deadline);
      parts_.memory->GiveWanted();
      if (freed) continue;
    }
    if (full && windows_.empty() && count > 1) {
      batch = count / 2;
      continue;
    }
    parts_.reader->Release(window->spans.data(), window->spans.size());
    window->spans.clear();
    return outcome;
  }
  return {};
}

// Pins those before the first that is not in DRAM.
void KvLoad::PinFirst(const Key* keys, std::vector<agentmem_span>* spans) {
  parts_.reader->PinResident(keys, spans->size(), spans->data());
  const auto end = std::find_if(
      spans->begin(), spans->end(),
      [](const agentmem_span& span) { return span.data == nullptr; });
  const auto first = static_cast<std::size_t>(end - spans->begin());
  parts_.reader->Release(spans->data() + first, spans->size() - first);
  spans->resize(first);
}

std::size_t KvLoad::AwaitedOf(std::size_t count) const {
  const std::uint64_t in_bytes =
      std::max<std::uint64_t>(1, kAwaitedBytes / cache_->block_bytes);
  return std::min({count, kAwaitedBlocks, static_cast<std::size_t>(in_bytes)});
}

Outcome KvLoad::BeginPieces(const Deadline& deadline, Window* window) {
  for (const agentmem_span& span : window->spans) {
    const std::size_t at = window->first + window->begun;
    if (span.length != cache_->block_bytes) {
      return Fail(Code::kDataLoss,
                  "block " + KeyText(missing_keys_[at]) + " has " +
                      std::to_string(span.length) + " bytes, and " +
                      std::to_string(cache_->block_bytes) +
                      " by the layout: it is of another model or layout");
    }
    Outcome outcome;
    if (cache_->fp8.has_value()) {
      outcome = cache_->fp8->Check(static_cast<const char*>(span.data));
      if (!outcome.ok()) {
        return Fail(outcome.code, "block " + KeyText(missing_keys_[at]) + ": " +
                                      outcome.message);
      }
    }
    outcome = BeginUse(parts_.memory, HoldSessionOf(span), span.data,
                       span.length, deadline);
    if (!outcome.ok()) return outcome;
    ++window->begun;
    Piece piece;
    piece.block = missing_[at];
    piece.dram = static_cast<const char*>(span.data);
    agentmem_tier& tier = tiers_[piece.block];
    if (tier == AGENTMEM_TIER_NONE) tier = span.tier;
    TakeSlot(missing_keys_[at], &piece);
    window->pieces.push_back(piece);
  }
  return {};
}

void KvLoad::TakeSlot(const Key& key, Piece* piece) {
  if (parts_.pool == nullptr || parts_.keep == nullptr) return;
  HbmNew what;
  what.key = key;
  what.bytes = cache_->block_bytes;
  what.tag = cache_->tag();
  // (Unknown only when it has just left memd's index.)
  what.block_class =
      parts_.reader->ClassBelow(key).value_or(BlockClass::kState);
  what.agent = parts_.keep->agent();
  piece->is_filling = parts_.pool->BeginFill(what, HbmCause::kLoad,
                                             &piece->slot) == HbmFill::kBegun;
}

Outcome KvLoad::PostWindow(const KvBlocks& blocks, const Deadline& deadline,
                           Window* window) {
  Outcome outcome = BeginPieces(deadline, window);
  if (!outcome.ok()) return outcome;
  // With the first ones: others may be waited for.
  window->pieces.insert(window->pieces.end(), hits_.begin(), hits_.end());
  hits_.clear();
  const bool is_last = window->first + window->spans.size() == missing_.size();
  // The engine waits for its layers' events.
  if (is_last) layer_events_.resize(cache_->layout.layers);
  for (std::uint32_t layer = 0; layer < cache_->layout.layers; ++layer) {
    outcome = PostLayer(blocks, window, layer, is_last, deadline);
    if (outcome.ok() && is_last) {
      // Scatters stand behind stream_ there.
      outcome = parts_.device->Record(streams_[has_scattered_ ? 1 : 0],
                                      &layer_events_[layer]);
    }
    if (!outcome.ok()) return outcome;
  }
  if (window->is_scattered) {
    (void)parts_.device->Record(streams_[1], &window->scattered);  // or later
  }
  window->is_whole = true;
  return {};
}

Outcome KvLoad::PostLayer(const KvBlocks& blocks, Window* window,
                          std::uint32_t layer, bool is_last,
                          const Deadline& deadline) {
  fragments_.clear();
  if (is_last || layer == 0) within_.clear();
  const KvView view = cache_->view();
  const KvCache::Range range = cache_->LayerRange(layer);
  for (const Piece& piece : window->pieces) {
    // (Read only: the device does not write in this direction.)
    char* block = const_cast<char*>(piece.dram);
    const bool is_within = piece.slot.is_there();
    if (piece.is_filling) {
      fragments_.push_back(
          {piece.slot.at + range.offset, block + range.offset, range.bytes});
    }
    if (cache_->fp8.has_value()) continue;  // their elements are made behind it
    if (is_within) block = reinterpret_cast<char*>(piece.slot.at.value());
    Outcome outcome =
        AppendFragments(view, layer, PagesOf(blocks, piece), block,
                        is_within ? &within_ : &fragments_);
    if (!outcome.ok()) return outcome;
  }
  Outcome outcome =
      PostFragments(parts_.device, Direction::kToDevice, stream_,
                    parts_.crossovers->to_device.rule, fragments_);
  if (!outcome.ok()) return outcome;
  if (cache_->fp8.has_value()) {
    return PostElements(blocks, *window, layer, deadline);
  }
  if (!is_last && layer + 1 != cache_->layout.layers) return {};
  if (within_.empty() && !(is_last && has_scattered_)) return {};
  return Scatter(window);
}

// An event for each layer of each window would be many: a device keeps some
// thousand. Of the last window alone a layer is waited for.
Outcome KvLoad::Scatter(Window* window) {
  window->is_scattered = true;  // some of it, whatever the outcome
  has_scattered_ = true;
  Event& joined = window->joins.emplace_back();
  Outcome outcome = parts_.device->Record(stream_, &joined);
  if (outcome.ok()) outcome = parts_.device->Wait(streams_[1], joined);
  if (!outcome.ok() || within_.empty()) return outcome;
  return PostFragments(parts_.device, Direction::kToDevice, streams_[1],
                       kRuleWithin, within_);
}

// Of FP8: out of where each block's layer is by then.
Outcome KvLoad::PostElements(const KvBlocks& blocks, const Window& window,
                             std::uint32_t layer, const Deadline& deadline) {
  for (const Piece& piece : window.pieces) {
    char* const block = piece.slot.is_there()
                            ? reinterpret_cast<char*>(piece.slot.at.value())
                            : const_cast<char*>(piece.dram);
    Outcome outcome =
        fp8_.Add(layer, 1, PagesOf(blocks, piece), block, deadline);
    if (!outcome.ok()) return outcome;
  }
  return fp8_.Flush(deadline);
}

bool KvLoad::AdvanceCopies() {
  while (!windows_.empty()) {
    Window& window = windows_.front();
    if (!EndScatter(&window)) return false;
    Outcome why;
    const EventState state =
        QueryOrRecord(parts_.device, stream_, &window.event, &why);
    if (state == EventState::kPending) return false;
    for (const Event join : window.joins) {
      if (join.value() != 0) parts_.device->Query(join, nullptr);
    }
    if (state == EventState::kFailed) Note(why);
    Release(&window, state == EventState::kPassed && window.is_whole);
    windows_.pop_front();
  }
  EndLayers();
  return true;
}

bool KvLoad::EndScatter(Window* window) {
  if (!window->is_scattered) return true;
  Outcome why;
  const EventState state =
      QueryOrRecord(parts_.device, streams_[1], &window->scattered, &why);
  if (state == EventState::kPending) return false;
  window->is_scattered = false;
  if (state == EventState::kPassed) return true;
  Note(why);
  window->is_whole = false;
  return true;
}

// They stand before the last window's event, and have passed with it: who waits
// for one from here on does not wait.
void KvLoad::EndLayers() {
  for (Event& event : layer_events_) {
    if (event.value() != 0) parts_.device->Query(event, nullptr);
    event = Event();
  }
}

void KvLoad::EndPieces(std::span<const Piece> pieces, bool whole) {
  for (const Piece& piece : pieces) {
    if (!piece.slot.is_there()) continue;
    if (piece.is_filling) {
      parts_.pool->EndFill(piece.slot, whole);
    } else {
      parts_.pool->EndUse(piece.slot);
    }
  }
}

void KvLoad::Release(Window* window, bool whole) {
  EndPieces(window->pieces, whole);
  for (std::size_t i = 0; i < window->begun; ++i) {
    // Under the lock that who waits for a layer needs.
    parts_.memory->End(window->spans[i].data, window->spans[i].length,
                       DeviceMemory::Giving::kLater);
  }
  parts_.reader->Release(window->spans.data(), window->spans.size());
}

Outcome KvLoad::Wait(const Deadline& deadline) {
  const bool ended = WaitForDevice([this] { return Advance(); }, deadline);
  parts_.memory->GiveWanted();
  if (ended) return outcome_;
  return Fail(Code::kDeadlineExceeded,
              "the device still copies at the deadline");
}

Outcome KvLoad::WaitLayer(std::uint32_t layer, Stream stream) {
  if (layer >= layer_events_.size()) {
    return Fail(Code::kInvalidArgument,
                "layer " + std::to_string(layer) + "; the load has " +
                    std::to_string(layer_events_.size()));
  }
  if (!outcome_.ok()) return outcome_;
  return parts_.device->Wait(stream, layer_events_[layer]);
}

}  // namespace agentmem::client
