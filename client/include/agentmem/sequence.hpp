// A chain of KV blocks, each named by its tokens and all before them.
//
//   auto hit = sequence.Match(tokens);              // longest stored prefix
//   auto blocks = client->Get(hit.keys(), 50ms);
//   auto put = client->Put(sequence.Next(tokens), bytes);
//
// `tokens` is always the whole list, from the first token on. Next goes on
// behind the head, which Match, Next, Append and Load move.
//
// Ownership: owns the sequence's handle; must end before its Client. Move only.
// Threads: thread-compatible. Errors: those of opening the sequence are the
// answer of every operation. Cost: Match hashes the tokens and walks shared
// memory; no daemon, no system call. In a cluster, see agentmem_sequence_match.
#ifndef AGENTMEM_SEQUENCE_HPP_
#define AGENTMEM_SEQUENCE_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agentmem/blocks.hpp"
#include "agentmem/put.hpp"
#include "agentmem/status.hpp"
#include "agentmem/types.hpp"

namespace agentmem {
inline namespace v0 {

struct SequenceOptions {
  std::string model;                 // whose KV this is; required
  std::uint32_t block_tokens = 512;  // tokens a block
  // What else must be equal for bytes to be usable: dtype, layout, adapter...
  // At most 64 bytes.
  std::string layout_digest = {};
};

// The longest stored prefix of some tokens, in whole blocks.
class [[nodiscard]] Match {
 public:
  std::span<const Key> keys() const { return keys_; }
  std::size_t blocks() const { return keys_.size(); }
  std::size_t tokens() const { return keys_.size() * block_tokens_; }
  const Status& status() const { return status_; }

 private:
  friend class Sequence;

  std::vector<Key> keys_;
  std::uint32_t block_tokens_ = 0;
  Status status_;
};

class Sequence {
 public:
  ~Sequence() { agentmem_sequence_close(sequence_); }
  Sequence(Sequence&& other) noexcept
      : client_(other.client_),
        sequence_(std::exchange(other.sequence_, nullptr)),
        block_tokens_(other.block_tokens_),
        status_(std::move(other.status_)) {}
  Sequence& operator=(Sequence&& other) noexcept {
    if (this == &other) return *this;
    agentmem_sequence_close(sequence_);
    client_ = other.client_;
    sequence_ = std::exchange(other.sequence_, nullptr);
    block_tokens_ = other.block_tokens_;
    status_ = std::move(other.status_);
    return *this;
  }

  // Did it open?
  const Status& status() const { return status_; }
  std::uint32_t block_tokens() const { return block_tokens_; }

  ::agentmem::Match Match(Tokens tokens) {
    ::agentmem::Match match;
    match.block_tokens_ = block_tokens_;
    match.status_ = status_;
    if (!status_.ok()) return match;
    match.keys_.resize(tokens.size() / block_tokens_);
    std::size_t blocks = 0;
    agentmem_error error;
    const agentmem_code code = agentmem_sequence_match(
        sequence_, tokens.data(), tokens.size(), match.keys_.data(),
        match.keys_.size(), &blocks, &error);
    match.keys_.resize(blocks);
    match.status_ = Status::From(code, error);
    return match;
  }

  // The key of the block behind the head, which moves behind it.
  Result<Key> Next(Tokens tokens) {
    if (!status_.ok()) return status_;
    Key key;
    agentmem_error error;
    const agentmem_code code = agentmem_sequence_next(
        sequence_, tokens.data(), tokens.size(), &key, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return key;
  }

  // Next and Put in one.
  ::agentmem::Put Append(Tokens tokens, Bytes bytes, Ack ack = Ack::kVisible,
                         BlockClass block_class = BlockClass::kCache,
                         Timeout timeout = kDefaultTimeout) {
    if (!status_.ok()) return ::agentmem::Put(status_);
    agentmem_error error;
    agentmem_put_id id = 0;
    const agentmem_code code = agentmem_sequence_append(
        sequence_, tokens.data(), tokens.size(), bytes.data(), bytes.size(),
        static_cast<agentmem_class>(block_class),
        static_cast<agentmem_ack>(ack), TimeoutNs(timeout), &id, &error);
    return ::agentmem::Put(client_, id, Status::From(code, error));
  }

  // Match and Get in one. A block that vanished in between ends the prefix.
  Blocks Load(Tokens tokens, Timeout timeout = kDefaultTimeout) {
    if (!status_.ok()) return Blocks(status_);
    Blocks blocks(client_, tokens.size() / block_tokens_);
    std::size_t loaded = 0;
    agentmem_error error;
    const agentmem_code code = agentmem_sequence_load(
        sequence_, tokens.data(), tokens.size(), TimeoutNs(timeout),
        blocks.spans(), blocks.size_, &loaded, &error);
    blocks.size_ = loaded;
    blocks.status_ = Status::From(code, error);
    return blocks;
  }

 private:
  friend class Client;

  Sequence(agentmem_client* client, const SequenceOptions& options)
      : client_(client), block_tokens_(std::max(options.block_tokens, 1u)) {
    const agentmem_sequence_options raw = {
        sizeof(raw), options.block_tokens, options.model.c_str(),
        options.layout_digest.data(), options.layout_digest.size()};
    agentmem_error error;
    status_ = Status::From(
        agentmem_sequence_open(client, &raw, &sequence_, &error), error);
  }

  agentmem_client* client_;
  agentmem_sequence* sequence_ = nullptr;
  std::uint32_t block_tokens_;
  Status status_;
};

}  // namespace v0
}  // namespace agentmem

#endif  // AGENTMEM_SEQUENCE_HPP_
