#include "client/sequence.h"

#include <algorithm>
#include <string>

namespace agentmem::client {
namespace {

// Most prompts end in tokens that nobody has computed: little is asked in vain.
// What is found makes the next window larger, for its round trip.
constexpr std::size_t kFirstWindow = 4;
constexpr std::size_t kWindowGrowth = 4;

}  // namespace

Sequence::Sequence(ThreadContexts* contexts, Reader* reader,
                   const TenantKey& tenant_key, std::uint32_t block_tokens,
                   const std::string& model, const std::string& layout_digest)
    : contexts_(contexts),
      reader_(reader),
      block_tokens_(block_tokens),
      namer_(tenant_key),
      model_(namer_.ModelDigest(model, layout_digest)) {}

Key Sequence::KeyAt(const Head& head, std::span<const std::uint32_t> tokens) {
  return namer_.SequenceBlock(
      model_, head.parent, head.index,
      tokens.subspan(head.index * block_tokens_, block_tokens_));
}

Outcome Sequence::Match(std::span<const std::uint32_t> tokens,
                        std::span<Key> keys, std::uint64_t timeout_ns,
                        std::size_t* matched) {
  *matched = 0;
  head_ = Head{};
  ThreadContext* context = contexts_->Current();
  if (context == nullptr) {
    return Fail(Code::kFailedPrecondition, "this thread is ending");
  }
  const std::size_t blocks =
      std::min<std::size_t>(tokens.size() / block_tokens_, keys.size());
  for (std::size_t i = 0; i < blocks; ++i) {
    const Key key = KeyAt(head_, tokens);
    if (context->index.Find(key).kind == EntryKind::kEmpty) break;
    keys[i] = key;
    head_ = Head{key, i + 1};
    *matched = i + 1;
  }
  if (*matched != blocks && timeout_ns != 0 &&
      Reader::HasOthers(*context->session)) {
    const Deadline deadline =
        Deadline::After(std::min(timeout_ns, Reader::kOthersNs));
    if (Outcome outcome =
            MatchElsewhere(tokens, keys.first(blocks), deadline, matched);
        !outcome.ok()) {
      return outcome;
    }
  }
  if (!namer_.ok()) {
    return Fail(Code::kInternal, "libcrypto failed to compute a SHA-256");
  }
  return {};
}

// Goes on where the index knows no more. The keys of a window are known before
// any of its blocks is: they follow from the tokens.
Outcome Sequence::MatchElsewhere(std::span<const std::uint32_t> tokens,
                                 std::span<Key> keys, const Deadline& deadline,
                                 std::size_t* matched) {
  Key ahead[Reader::kBatch];
  agentmem_tier tiers[Reader::kBatch];
  for (std::size_t window = kFirstWindow; *matched < keys.size();
       window = std::min(window * kWindowGrowth, Reader::kBatch)) {
    const std::size_t count = std::min(window, keys.size() - *matched);
    Head head = head_;
    for (std::size_t i = 0; i < count; ++i) {
      ahead[i] = KeyAt(head, tokens);
      head = Head{ahead[i], head.index + 1};
    }
    if (Outcome outcome = reader_->FindTiers(ahead, count, deadline, tiers);
        !outcome.ok()) {
      return outcome;
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (tiers[i] == AGENTMEM_TIER_NONE) return {};
      keys[*matched] = ahead[i];
      head_ = Head{ahead[i], ++*matched};
    }
  }
  return {};
}

Outcome Sequence::Next(std::span<const std::uint32_t> tokens, Key* key) {
  const std::uint64_t end = (head_.index + 1) * block_tokens_;
  if (tokens.size() < end) {
    return Fail(Code::kOutOfRange,
                std::to_string(tokens.size()) + " tokens; block " +
                    std::to_string(head_.index) + " of " +
                    std::to_string(block_tokens_) + " tokens ends at token " +
                    std::to_string(end));
  }
  *key = KeyAt(head_, tokens);
  if (!namer_.ok()) {
    return Fail(Code::kInternal, "libcrypto failed to compute a SHA-256");
  }
  head_ = Head{*key, head_.index + 1};
  return {};
}

}  // namespace agentmem::client
