#include "memd/pool/store_server.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "memd/pool/piece_digest.h"
#include "proto/size_class.h"

namespace agentmem {
namespace {

// Small blocks take a whole place.
std::uint64_t PlaceBytes(std::uint32_t length) {
  return SizeClassBytes(SizeClassOf(length));
}

// Of the export extents, what one peer's blocks on their way may take.
constexpr std::uint64_t kShareOfExports = 4;

StoreVerdict Refused(Code code, StoreRefusal refusal) {
  return {code, refusal, 0, 0};
}

}  // namespace

StoreStaged StoreServer::Stage(const Asker& asker, const StoreStage& asked,
                               TimeNs now) {
  StoreStaged staged = {};
  const auto answer = [&](const StoreVerdict& verdict) {
    staged.code = verdict.code;
    staged.refusal = verdict.refusal;
    staged.limit_bytes = verdict.limit_bytes;
    staged.used_bytes = verdict.used_bytes;
    counters_.refused += verdict.refusal != StoreRefusal::kNone;
    return staged;
  };
  if (!IsValid(asked.block_class) || asked.length == 0 ||
      asked.length > kMaxBlockBytes) {
    return answer(Refused(Code::kInvalidArgument, StoreRefusal::kOtherBlock));
  }
  Entry entry;
  entry.block = {asked.name.tenant, asked.name.key, asked.block_class,
                 asked.durable != 0, asked.length};
  entry.peer = asker.peer;
  if (const StoreVerdict verdict = store_->Admit(entry.block);
      verdict.code != Code::kOk) {
    return answer(verdict);
  }
  std::uint64_t& mine = bytes_of_[asker.peer];
  const std::uint64_t share = std::max<std::uint64_t>(
      exports_->capacity_bytes() / kShareOfExports, kMaxBlockBytes);
  const auto busy = [&] {
    staged.code = Code::kUnavailable;  // not counted: it asks again
    staged.refusal = StoreRefusal::kBusy;
    return staged;
  };
  if (mine != 0 && mine + PlaceBytes(asked.length) > share) return busy();
  ExportPool::Block place;
  place.name = {asked.name.tenant, asked.name.key};
  place.block_class = asked.block_class;
  place.length = asked.length;
  if (const Code code = exports_->Stage(&place, now); code != Code::kOk) {
    // What is on its way to the disk makes room when it is there.
    if (code == Code::kResourceExhausted && !entries_.empty()) return busy();
    return answer(Refused(code, StoreRefusal::kNoPlace));
  }
  mine += PlaceBytes(asked.length);
  entry.offset = place.offset;
  entries_[place.generation] = entry;
  staged_.push_back({place.generation, now});
  staged.code = Code::kOk;
  staged.offset = place.offset;
  staged.generation = place.generation;
  return staged;
}

void StoreServer::Keep(const Asker& asker, std::span<const StoreKeep> asked) {
  const std::uint64_t id = next_answer_++;
  Answer& answer = open_[id];
  answer.asker = asker;
  answer.kept.resize(asked.size());
  answer.left = static_cast<std::uint32_t>(asked.size());
  for (std::uint32_t i = 0; i < asked.size(); ++i) {
    const StoreVerdict verdict = KeepOne(asker, asked[i], id, i);
    if (verdict.code != Code::kOk) Reply(id, i, verdict);
  }
  Pump();
}

// OK: it waits to be written.
StoreVerdict StoreServer::KeepOne(const Asker& asker, const StoreKeep& asked,
                                  std::uint64_t answer, std::uint32_t index) {
  const auto found = entries_.find(asked.generation);
  // Came too late, or is another's.
  if (found == entries_.end() || found->second.peer != asker.peer ||
      found->second.kept || found->second.block.tenant != asked.name.tenant ||
      found->second.block.key != asked.name.key) {
    return Refused(Code::kNotFound, StoreRefusal::kNone);
  }
  Entry& entry = found->second;
  entry.kept = true;
  entry.answer = answer;
  entry.index = index;
  entry.checksum = asked.checksum;
  entry.block.durable = asked.durable != 0;
  static_assert(sizeof(entry.seal) == sizeof(asked.seal));
  std::memcpy(&entry.seal, asked.seal, sizeof(entry.seal));
  waiting_.push_back(asked.generation);
  return {};
}

void StoreServer::Pump() {
  while (!waiting_.empty() && Begin(waiting_.front())) waiting_.pop_front();
}

bool StoreServer::Begin(std::uint64_t generation) {
  Entry& entry = entries_.find(generation)->second;
  if (!entry.whole) {
    // What there was room for when it was staged may be too much by now.
    if (const StoreVerdict verdict = store_->Admit(entry.block);
        verdict.code != Code::kOk) {
      End(generation, verdict);
      return true;
    }
    if ((entry.seal.format != 0) != (sealing_ != nullptr)) {
      End(generation,
          Refused(Code::kFailedPrecondition, StoreRefusal::kSealing));
      return true;
    }
    const std::optional<bool> whole = Check(generation, &entry);
    if (!whole.has_value()) return false;
    if (!*whole) {
      End(generation, Refused(Code::kDataLoss, StoreRefusal::kWrongBytes));
      return true;
    }
    entry.whole = true;
  }
  entry.writing = store_->Write(
      entry.block,
      entry.buffer != nullptr ? entry.buffer : exports_->At(entry.offset),
      generation);
  return entry.writing;
}

std::optional<bool> StoreServer::Check(std::uint64_t generation, Entry* entry) {
  const ServedBlock& block = entry->block;
  const char* const bytes = exports_->At(entry->offset);
  if (sealing_ == nullptr) {
    const std::uint64_t hash =
        PieceDigest::Of(PoolSeed(block.tenant, block.key), bytes, block.length);
    return PoolChecksum(hash, generation) == entry->checksum;
  }
  entry->buffer = sealing_->Take();
  if (entry->buffer == nullptr) return std::nullopt;
  std::memcpy(entry->buffer, bytes, block.length);
  return sealing_
      ->Open(block.tenant, block.key, entry->seal,
             {entry->buffer, block.length})
      .ok();
}

void StoreServer::OnStored(std::uint64_t generation,
                           const StoreVerdict& verdict) {
  const auto found = entries_.find(generation);
  AGENTMEM_CHECK(found != entries_.end() && found->second.writing);
  if (verdict.code == Code::kOk) {
    ++counters_.writes;
    counters_.bytes_written += found->second.block.length;
  }
  End(generation, verdict);
}

void StoreServer::End(std::uint64_t generation, const StoreVerdict& verdict) {
  const auto found = entries_.find(generation);
  const Entry entry = found->second;
  entries_.erase(found);
  bytes_of_[entry.peer] -= PlaceBytes(entry.block.length);
  if (entry.buffer != nullptr) sealing_->Give(entry.buffer);
  // What the store has may be found in memory, too, until it leaves.
  if (verdict.code == Code::kOk) {
    exports_->Commit({entry.block.tenant, entry.block.key}, generation,
                     entry.checksum, entry.seal);
  }
  exports_->Abandon(generation);
  counters_.refused += verdict.refusal != StoreRefusal::kNone;
  StoreVerdict told = verdict;
  // Another writer was first.
  if (told.code == Code::kAlreadyExists) told.code = Code::kOk;
  if (entry.kept) Reply(entry.answer, entry.index, told);
}

void StoreServer::Reply(std::uint64_t id, std::uint32_t index,
                        const StoreVerdict& verdict) {
  const auto found = open_.find(id);
  AGENTMEM_CHECK(found != open_.end());
  Answer& answer = found->second;
  answer.kept[index] = {verdict.code, verdict.refusal, 0, verdict.limit_bytes,
                        verdict.used_bytes};
  if (--answer.left != 0) return;
  answers_.push_back(std::move(answer));
  open_.erase(found);
}

PoolDone StoreServer::Erase(const StoreErase& asked, TimeNs now) {
  PoolDone done = {};
  done.code = Code::kInvalidArgument;
  if (!IsValid(asked.block_class)) return done;
  const ExportPool::Name name = {asked.name.tenant, asked.name.key};
  const ExportPool::Block* const lent = exports_->Find(name);
  const bool cache = asked.block_class == BlockClass::kCache;
  const bool stays =
      cache && lent != nullptr && lent->block_class == BlockClass::kState;
  if (stays || !store_->Erase(name.tenant, name.key, asked.block_class)) {
    done.code = Code::kFailedPrecondition;
    return done;
  }
  ++counters_.erased;
  if (!cache || lent != nullptr) exports_->Drop(name, now);
  done.code = Code::kOk;
  return done;
}

void StoreServer::Tick(TimeNs now) {
  Pump();
  while (!staged_.empty() && now - staged_.front().at >= kReservationNs) {
    const std::uint64_t generation = staged_.front().generation;
    staged_.pop_front();
    const auto found = entries_.find(generation);
    if (found == entries_.end() || found->second.kept) continue;
    End(generation, Refused(Code::kNotFound, StoreRefusal::kNone));
  }
}

ServedStoreSnapshot StoreServer::Snapshot() const {
  ServedStoreSnapshot snapshot = counters_;
  snapshot.serve_bytes = store_->serve_bytes();
  snapshot.used_bytes = store_->used_bytes();
  snapshot.under_way = entries_.size();
  return snapshot;
}

std::string StoreServer::CheckInvariants() const {
  absl::flat_hash_map<std::uint32_t, std::uint64_t> bytes;
  std::size_t kept = 0;
  for (const auto& [generation, entry] : entries_) {
    bytes[entry.peer] += PlaceBytes(entry.block.length);
    kept += entry.kept;
    if (entry.writing && !entry.kept) return "written before it was kept";
  }
  for (const auto& [peer, mine] : bytes_of_) {
    if (bytes[peer] != mine) return "bytes on their way of a peer";
  }
  std::size_t awaited = 0;
  for (const auto& [id, answer] : open_) awaited += answer.left;
  if (awaited != kept) return "answers to peers and what they wait for";
  return waiting_.size() <= kept ? "" : "what waits for the store";
}

}  // namespace agentmem
