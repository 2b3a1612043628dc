#include "memd/dram/extent_holds.h"

#include <bit>

#include "base/check.h"

namespace agentmem {

ExtentHolds::ExtentHolds(DataPool* pool)
    : pool_(pool), extents_(pool->extents()) {}

std::optional<std::uint32_t> ExtentHolds::Hold(ClientId client,
                                               std::uint32_t first,
                                               std::uint32_t count,
                                               TimeNs now) {
  AGENTMEM_CHECK(count <= extents_.size() && first <= extents_.size() - count);
  const auto known = holders_.find(client);
  for (std::uint32_t i = first; i < first + count; ++i) {
    // Held already and asked for: its release may be on the way.
    if (extents_[i].lent || now < extents_[i].wanted_until ||
        (known != holders_.end() && known->second.asked.contains(i))) {
      return i;
    }
  }
  Holder& holder = holders_[client];
  if (holder.bits.empty()) holder.bits.resize((extents_.size() + 63) / 64);
  for (std::uint32_t i = first; i < first + count; ++i) {
    if (Has(holder, i)) continue;
    holder.bits[i / 64] |= 1ULL << (i % 64);
    ++holder.count;
    if (extents_[i].holders++ != 0) continue;
    ++held_;
    pool_->SetHeld(i, true);
  }
  return std::nullopt;
}

bool ExtentHolds::End(Holder* holder, std::uint32_t extent) {
  holder->bits[extent / 64] &= ~(1ULL << (extent % 64));
  --holder->count;
  holder->asked.erase(extent);
  AGENTMEM_CHECK(extents_[extent].holders != 0);
  if (--extents_[extent].holders != 0) return false;
  --held_;
  pool_->SetHeld(extent, false);
  return true;
}

bool ExtentHolds::Release(ClientId client, std::uint32_t first,
                          std::uint32_t count) {
  AGENTMEM_CHECK(count <= extents_.size() && first <= extents_.size() - count);
  const auto found = holders_.find(client);
  if (found == holders_.end()) return false;
  bool freed = false;
  for (std::uint32_t i = first; i < first + count; ++i) {
    if (Has(found->second, i)) freed = End(&found->second, i) || freed;
  }
  return freed;
}

bool ExtentHolds::Answer(ClientId client, std::uint64_t token) {
  const auto found = holders_.find(client);
  if (found == holders_.end()) return false;
  for (const auto& [extent, asked] : found->second.asked) {
    if (asked == token) return End(&found->second, extent);
  }
  return false;
}

bool ExtentHolds::RemoveClient(ClientId client) {
  const auto found = holders_.find(client);
  if (found == holders_.end()) return false;
  bool freed = false;
  Holder& holder = found->second;
  for (std::uint32_t word = 0; word < holder.bits.size(); ++word) {
    while (holder.bits[word] != 0) {
      const auto bit =
          static_cast<std::uint32_t>(std::countr_zero(holder.bits[word]));
      freed = End(&holder, word * 64 + bit) || freed;
    }
  }
  holders_.erase(found);
  return freed;
}

bool ExtentHolds::MayRetire(std::uint32_t extent,
                            absl::FunctionRef<bool(ClientId)> may_ask) const {
  for (const auto& [client, holder] : holders_) {
    if (holder.count == 0 || !Has(holder, extent)) continue;
    if (holder.asked.contains(extent) || holder.asked.size() >= kRetiresMax ||
        !may_ask(client)) {
      return false;
    }
  }
  return IsHeld(extent);
}

void ExtentHolds::Retire(std::uint32_t extent, TimeNs now,
                         absl::FunctionRef<void(ClientId, std::uint64_t)> ask) {
  extents_[extent].wanted_until = now + kWantedNs;
  for (auto& [client, holder] : holders_) {
    if (holder.count == 0 || !Has(holder, extent)) continue;
    const std::uint64_t token = ++last_token_;
    AGENTMEM_CHECK(holder.asked.emplace(extent, token).second);
    ask(client, token);
  }
}

void ExtentHolds::Lend(std::uint32_t extent) {
  AGENTMEM_CHECK(!IsHeld(extent) && !extents_[extent].lent);
  extents_[extent].lent = true;
  extents_[extent].wanted_until = 0;  // this was it
}

void ExtentHolds::TakeBack(std::uint32_t extent) {
  AGENTMEM_CHECK(extents_[extent].lent);
  extents_[extent].lent = false;
}

std::uint64_t ExtentHolds::held_bytes(ClientId client) const {
  const auto found = holders_.find(client);
  return found == holders_.end() ? 0 : found->second.count * kExtentBytes;
}

const char* ExtentHolds::CheckInvariants() const {
  std::uint64_t held = 0;
  for (std::uint32_t i = 0; i < extents_.size(); ++i) {
    std::uint32_t holders = 0;
    for (const auto& [client, holder] : holders_) holders += Has(holder, i);
    if (holders != extents_[i].holders) return "holders of an extent";
    if (holders != 0 && extents_[i].lent) return "an extent held and lent";
    held += holders != 0;
  }
  for (const auto& [client, holder] : holders_) {
    for (const auto& [extent, token] : holder.asked) {
      if (!Has(holder, extent)) return "asked for what it does not hold";
    }
  }
  return held == held_ ? "" : "the number of held extents";
}

}  // namespace agentmem
