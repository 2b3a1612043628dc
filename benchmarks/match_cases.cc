#include "benchmarks/match_cases.h"

#include <openssl/evp.h>

#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "benchmarks/comparison.h"
#include "benchmarks/memory_baseline.h"
#include "benchmarks/stopwatch.h"

namespace agentmem::bench {
namespace {

using Tokens = std::vector<std::uint32_t>;

// The prefix cache of one process: SHA-256 of parent and tokens, block by
// block, looked up in a map. As collision-proof as ours, of the same libcrypto.
class PrefixBaseline {
 public:
  explicit PrefixBaseline(std::uint32_t block_tokens)
      : block_tokens_(block_tokens),
        sha256_(EVP_MD_fetch(nullptr, "SHA256", nullptr)),
        context_(EVP_MD_CTX_new()) {}
  ~PrefixBaseline() {
    EVP_MD_CTX_free(context_);
    EVP_MD_free(sha256_);
  }
  PrefixBaseline(const PrefixBaseline&) = delete;
  PrefixBaseline& operator=(const PrefixBaseline&) = delete;

  void Insert(const Tokens& tokens, const std::vector<char>& bytes) {
    Digest parent = {};
    for (std::size_t i = 0; i < tokens.size() / block_tokens_; ++i) {
      parent = Next(parent, tokens, i);
      map_.Insert(KeyIn(parent), bytes);
    }
  }
  std::size_t Match(const Tokens& tokens) {
    Digest parent = {};
    const std::size_t blocks = tokens.size() / block_tokens_;
    for (std::size_t i = 0; i < blocks; ++i) {
      parent = Next(parent, tokens, i);
      if (!map_.Contains(KeyIn(parent))) return i;
    }
    return blocks;
  }

 private:
  using Digest = std::array<unsigned char, 32>;

  Digest Next(const Digest& parent, const Tokens& tokens, std::size_t index) {
    Digest digest = {};
    EVP_DigestInit_ex(context_, sha256_, nullptr);
    EVP_DigestUpdate(context_, parent.data(), parent.size());
    EVP_DigestUpdate(context_, tokens.data() + index * block_tokens_,
                     block_tokens_ * sizeof(std::uint32_t));
    EVP_DigestFinal_ex(context_, digest.data(), nullptr);
    return digest;
  }
  static agentmem_key KeyIn(const Digest& digest) {
    agentmem_key key;
    static_assert(sizeof(key) == 16);
    std::memcpy(&key, digest.data(), sizeof(key));
    return key;
  }

  const std::size_t block_tokens_;
  EVP_MD* const sha256_;
  EVP_MD_CTX* const context_;
  MemoryBaseline map_;
};

struct SequenceCloser {
  void operator()(agentmem_sequence* s) const { agentmem_sequence_close(s); }
};
using Sequence = std::unique_ptr<agentmem_sequence, SequenceCloser>;

absl::StatusOr<Sequence> StoreSequence(const Connection& connection,
                                       std::uint32_t block_tokens,
                                       const Tokens& tokens,
                                       const std::vector<char>& bytes) {
  agentmem_sequence_options options = {};
  options.size = sizeof(options);
  options.block_tokens = block_tokens;
  options.model = "bench";
  agentmem_sequence* made = nullptr;
  agentmem_error error = {};
  AGENTMEM_RETURN_IF_ERROR(ToStatus(
      agentmem_sequence_open(connection.get(), &options, &made, &error),
      error));
  Sequence sequence(made);
  for (std::size_t i = 0; i < kMatchBlocks; ++i) {
    agentmem_put_id put = 0;
    AGENTMEM_RETURN_IF_ERROR(ToStatus(
        agentmem_sequence_append(made, tokens.data(), tokens.size(),
                                 bytes.data(), bytes.size(), AGENTMEM_CACHE,
                                 AGENTMEM_VISIBLE, kTimeoutNs, &put, &error),
        error));
    AGENTMEM_RETURN_IF_ERROR(ToStatus(
        agentmem_put_wait(connection.get(), put, kTimeoutNs, &error), error));
  }
  return sequence;
}

CaseResult PerBlock(CaseResult result, const std::string& name) {
  result.name = name;
  for (double* number : {&result.p50_ns, &result.p99_ns, &result.p999_ns,
                         &result.value, &result.baseline_value}) {
    *number /= static_cast<double>(kMatchBlocks);
  }
  return result;
}

}  // namespace

absl::Status AddMatchCases(const Connection& connection,
                           std::uint32_t block_tokens, int rounds,
                           std::size_t matches, SuiteResult* result) {
  std::mt19937_64 random(block_tokens);
  Tokens tokens(kMatchBlocks * block_tokens);
  for (std::uint32_t& token : tokens) {
    token = static_cast<std::uint32_t>(random() % 128'000);
  }
  const std::vector<char> bytes(kMatchBytes, 'm');
  AGENTMEM_ASSIGN_OR_RETURN(
      const Sequence sequence,
      StoreSequence(connection, block_tokens, tokens, bytes));
  PrefixBaseline baseline(block_tokens);
  baseline.Insert(tokens, bytes);

  const Stopwatch stopwatch;
  std::vector<agentmem_key> keys(kMatchBlocks);
  std::size_t short_matches = 0;
  const auto finish = [&short_matches](double ns) -> absl::StatusOr<double> {
    if (short_matches == 0) return ns;
    return Internal(std::to_string(short_matches) +
                    " matches were shorter than 400 blocks");
  };
  const Side ours = {
      "agentmem", [&](int, Samples* samples) {
        return finish(stopwatch.TimeSingles(matches, samples, [&](std::size_t) {
          std::size_t matched = 0;
          agentmem_sequence_match(sequence.get(), tokens.data(), tokens.size(),
                                  keys.data(), keys.size(), &matched, nullptr);
          short_matches += matched != kMatchBlocks;
        }));
      }};
  const Side theirs = {
      "SHA-256, flat_hash_map", [&](int, Samples* samples) {
        return finish(stopwatch.TimeSingles(matches, samples, [&](std::size_t) {
          short_matches += baseline.Match(tokens) != kMatchBlocks;
        }));
      }};
  const std::string what = "400x" + std::to_string(block_tokens) + "_tokens";
  AGENTMEM_ASSIGN_OR_RETURN(
      const CaseResult match,
      Compare("match/" + what, Unit::Nanoseconds(), rounds, {ours, theirs}));
  result->cases.push_back(match);
  result->cases.push_back(PerBlock(match, "match_per_block/" + what));
  return absl::OkStatus();
}

}  // namespace agentmem::bench
