// The C ABI: sequences.
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "client/c_api.h"
#include "client/sequence.h"

struct agentmem_sequence {
  agentmem_client* const client;
  agentmem::client::Sequence chain;
};

namespace {

using agentmem::Fail;
using agentmem::Key;
using agentmem::Outcome;
using agentmem::client::Answer;
using agentmem::client::Deadline;

constexpr std::uint32_t kBlockTokensMax = 65536;
constexpr std::size_t kLayoutDigestBytesMax = 64;

Outcome CheckOptions(const agentmem_sequence_options* options) {
  const auto invalid = [](std::string message) {
    return Fail(agentmem::Code::kInvalidArgument, std::move(message));
  };
  if (options == nullptr) return invalid("options is NULL");
  if (options->size < sizeof(agentmem_sequence_options)) {
    return invalid("agentmem_sequence_options: size is " +
                   std::to_string(options->size) +
                   "; set it to sizeof(agentmem_sequence_options), which is " +
                   std::to_string(sizeof(agentmem_sequence_options)));
  }
  if (options->block_tokens < 1 || options->block_tokens > kBlockTokensMax) {
    return invalid("block_tokens is " + std::to_string(options->block_tokens) +
                   "; 1 to " + std::to_string(kBlockTokensMax) +
                   " are allowed");
  }
  if (options->model == nullptr || *options->model == '\0') {
    return invalid("model is empty; name the model that computes the blocks");
  }
  if (options->layout_digest_bytes > kLayoutDigestBytesMax ||
      (options->layout_digest == nullptr &&
       options->layout_digest_bytes != 0)) {
    return invalid("layout_digest has " +
                   std::to_string(options->layout_digest_bytes) +
                   " bytes; 0 to " + std::to_string(kLayoutDigestBytesMax) +
                   " are allowed, and it must not be NULL then");
  }
  return {};
}

agentmem_code MatchWithin(std::uint64_t timeout_ns, agentmem_sequence* sequence,
                          const std::uint32_t* tokens, std::size_t token_count,
                          agentmem_key* keys, std::size_t capacity,
                          std::size_t* matched_blocks, agentmem_error* error) {
  AGENTMEM_REQUIRE(sequence != nullptr, "sequence is NULL", error);
  AGENTMEM_ENTER(sequence->client, error);
  AGENTMEM_REQUIRE(tokens != nullptr || token_count == 0, "tokens is NULL",
                   error);
  AGENTMEM_REQUIRE(keys != nullptr || capacity == 0, "keys is NULL", error);
  AGENTMEM_REQUIRE(matched_blocks != nullptr, "matched_blocks is NULL", error);
  static_assert(sizeof(Key) == sizeof(agentmem_key));
  return Answer(sequence->chain.Match({tokens, token_count},
                                      {reinterpret_cast<Key*>(keys), capacity},
                                      timeout_ns, matched_blocks),
                error);
}

}  // namespace

extern "C" {

agentmem_code agentmem_sequence_open(agentmem_client* client,
                                     const agentmem_sequence_options* options,
                                     agentmem_sequence** sequence,
                                     agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE(sequence != nullptr, "sequence is NULL", error);
  *sequence = nullptr;
  if (const Outcome checked = CheckOptions(options); !checked.ok()) {
    return Answer(checked, error);
  }
  std::string digest;
  if (options->layout_digest_bytes != 0) {
    digest.assign(static_cast<const char*>(options->layout_digest),
                  options->layout_digest_bytes);
  }
  std::unique_ptr<agentmem_sequence> made(new agentmem_sequence{
      client, agentmem::client::Sequence(
                  &client->contexts(), &client->reader(), client->tenant_key(),
                  options->block_tokens, options->model, digest)});
  if (!made->chain.ok()) {
    return Answer(Fail(agentmem::Code::kInternal,
                       "libcrypto has no SHA-256 in this process"),
                  error);
  }
  *sequence = made.release();
  return AGENTMEM_OK;
}

void agentmem_sequence_close(agentmem_sequence* sequence) { delete sequence; }

agentmem_code agentmem_sequence_match(agentmem_sequence* sequence,
                                      const uint32_t* tokens,
                                      size_t token_count, agentmem_key* keys,
                                      size_t capacity, size_t* matched_blocks,
                                      agentmem_error* error) {
  return MatchWithin(agentmem::client::Reader::kOthersNs, sequence, tokens,
                     token_count, keys, capacity, matched_blocks, error);
}

agentmem_code agentmem_sequence_next(agentmem_sequence* sequence,
                                     const uint32_t* tokens, size_t token_count,
                                     agentmem_key* key, agentmem_error* error) {
  AGENTMEM_REQUIRE(sequence != nullptr, "sequence is NULL", error);
  AGENTMEM_ENTER(sequence->client, error);
  AGENTMEM_REQUIRE(tokens != nullptr || token_count == 0, "tokens is NULL",
                   error);
  AGENTMEM_REQUIRE(key != nullptr, "key is NULL", error);
  Key next;
  const Outcome outcome = sequence->chain.Next({tokens, token_count}, &next);
  if (outcome.ok()) *key = agentmem::client::KeyFor(next);
  return Answer(outcome, error);
}

agentmem_code agentmem_sequence_append(
    agentmem_sequence* sequence, const uint32_t* tokens, size_t token_count,
    const void* data, uint64_t length, agentmem_class block_class,
    agentmem_ack ack, uint64_t timeout_ns, agentmem_put_id* put,
    agentmem_error* error) {
  if (put != nullptr) *put = 0;
  AGENTMEM_REQUIRE(sequence != nullptr, "sequence is NULL", error);
  const agentmem::client::Sequence::Head before = sequence->chain.head();
  agentmem_key key;
  agentmem_code code =
      agentmem_sequence_next(sequence, tokens, token_count, &key, error);
  if (code != AGENTMEM_OK) return code;
  code = agentmem_put(sequence->client, &key, data, length, block_class, ack,
                      timeout_ns, put, error);
  // What was not put is still to come.
  if (code != AGENTMEM_OK) sequence->chain.set_head(before);
  return code;
}

agentmem_code agentmem_sequence_load(agentmem_sequence* sequence,
                                     const uint32_t* tokens, size_t token_count,
                                     uint64_t timeout_ns, agentmem_span* spans,
                                     size_t capacity, size_t* loaded_blocks,
                                     agentmem_error* error) {
  AGENTMEM_REQUIRE(spans != nullptr || capacity == 0, "spans is NULL", error);
  AGENTMEM_REQUIRE(loaded_blocks != nullptr, "loaded_blocks is NULL", error);
  *loaded_blocks = 0;
  std::vector<agentmem_key> keys(capacity);
  std::size_t matched = 0;
  const Deadline deadline = Deadline::After(timeout_ns);
  agentmem_code code = MatchWithin(timeout_ns, sequence, tokens, token_count,
                                   keys.data(), capacity, &matched, error);
  if (code != AGENTMEM_OK) return code;
  code = Answer(
      sequence->client->reader().Get(agentmem::client::KeysOf(keys.data()),
                                     matched, deadline, spans),
      error);
  std::size_t loaded = 0;
  while (loaded < matched && spans[loaded].data != nullptr) ++loaded;
  agentmem_release(sequence->client, spans + loaded, matched - loaded);
  *loaded_blocks = loaded;
  if (loaded < matched) {
    sequence->chain.set_head(
        {loaded == 0 ? Key{} : agentmem::client::KeyOf(keys[loaded - 1]),
         loaded});
  }
  return code == AGENTMEM_NOT_FOUND ? AGENTMEM_OK : code;
}

}  // extern "C"
