#include "benchmarks/pool_blocks.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "base/status.h"
#include "benchmarks/pool_bytes.h"

namespace agentmem::bench {
namespace {

constexpr std::size_t kFillInFlight = 4;

}  // namespace

absl::Status PoolBlocks::Fill(std::size_t count) {
  source_.resize(std::max(source_.size(), size_ * kFillInFlight));
  agentmem_error error = {};
  for (std::size_t done = 0; done < count; done += kFillInFlight) {
    const std::size_t now = std::min(kFillInFlight, count - done);
    agentmem_put_id puts[kFillInFlight] = {};
    for (std::size_t i = 0; i < now; ++i) {
      char* const bytes = &source_[i * size_];
      ByteStream(seed_, count_ + i).Fill(bytes, size_);
      const agentmem_key key = Key(count_ + i);
      AGENTMEM_RETURN_IF_ERROR(ToStatus(
          agentmem_put(connection_->get(), &key, bytes, size_, AGENTMEM_CACHE,
                       AGENTMEM_REPLICATED, kTimeoutNs, &puts[i], &error),
          error));
    }
    for (std::size_t i = 0; i < now; ++i) {
      AGENTMEM_RETURN_IF_ERROR(ToStatus(
          agentmem_put_wait(connection_->get(), puts[i], kTimeoutNs, &error),
          error));
    }
    count_ += now;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::size_t>> PoolBlocks::Choose(std::size_t count) {
  if (order_.size() != count_) {
    order_.resize(count_);
    std::iota(order_.begin(), order_.end(), 0);
    std::shuffle(order_.begin(), order_.end(), std::mt19937_64(seed_));
  }
  std::vector<std::size_t> chosen;
  for (std::size_t looked = 0; looked < count_; ++looked) {
    const std::size_t number = order_[next_++ % count_];
    AGENTMEM_ASSIGN_OR_RETURN(const agentmem_tier tier,
                              connection_->TierOf(Key(number)));
    if (tier == AGENTMEM_TIER_POOL) chosen.push_back(number);
    if (chosen.size() == count) return chosen;
  }
  return FailedPrecondition("only " + std::to_string(chosen.size()) + " of " +
                            std::to_string(count_) + " blocks are in the pool");
}

absl::Status PoolBlocks::Matches(std::size_t number,
                                 const agentmem_span& span) const {
  if (span.length == size_ &&
      ByteStream(seed_, number)
          .Matches(static_cast<const char*>(span.data), size_)) {
    return absl::OkStatus();
  }
  return DataLoss("block " + std::to_string(number) + " of " +
                  std::to_string(size_) + " bytes has other bytes than put");
}

absl::Status PoolBlocks::CheckFromPool(
    const std::vector<std::size_t>& numbers,
    const std::vector<agentmem_span>& spans) {
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    AGENTMEM_RETURN_IF_ERROR(Matches(numbers[i], spans[i]));
    if (spans[i].tier != AGENTMEM_TIER_POOL) {
      return FailedPrecondition("a block came from tier " +
                                std::to_string(spans[i].tier) +
                                ", and not from the pool");
    }
    ++pool_hits_;
  }
  return absl::OkStatus();
}

absl::StatusOr<double> PoolBlocks::TimeGets(const PoolRun& run,
                                            Samples* samples) {
  agentmem_client* const client = connection_->get();
  agentmem_error error = {};
  double sum = 0;
  for (std::size_t burst = 0; burst < run.bursts; ++burst) {
    AGENTMEM_ASSIGN_OR_RETURN(const std::vector<std::size_t> numbers,
                              Choose(run.BurstBlocks()));
    std::vector<agentmem_key> keys;
    keys.reserve(numbers.size());
    for (const std::size_t number : numbers) keys.push_back(Key(number));
    std::vector<agentmem_span> spans(keys.size());
    agentmem_code code = AGENTMEM_OK;
    sum += stopwatch_.TimeSingles(run.samples, samples, [&](std::size_t i) {
      if (code != AGENTMEM_OK) return;
      code = agentmem_get(client, &keys[i * run.group], run.group, kTimeoutNs,
                          &spans[i * run.group], &error);
    });
    const absl::Status checked = code == AGENTMEM_OK
                                     ? CheckFromPool(numbers, spans)
                                     : ToStatus(code, error);
    agentmem_release(client, spans.data(), spans.size());
    AGENTMEM_RETURN_IF_ERROR(checked);
  }
  return sum / static_cast<double>(run.bursts);
}

absl::StatusOr<double> PoolBlocks::TimePuts(const PoolRun& run,
                                            Samples* samples) {
  agentmem_client* const client = connection_->get();
  // As many as the quota of reservations allows.
  std::vector<agentmem_reservation> rooms(std::min(run.samples, kFillInFlight));
  const std::size_t rounds = run.bursts * run.samples / rooms.size();
  agentmem_error error = {};
  double sum = 0;
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < rooms.size(); ++i) {
      AGENTMEM_RETURN_IF_ERROR(ToStatus(
          agentmem_reserve(client, size_, kTimeoutNs, &rooms[i], &error),
          error));
      ByteStream(seed_, count_ + i)
          .Fill(static_cast<char*>(rooms[i].data), size_);
    }
    agentmem_code code = AGENTMEM_OK;
    sum += stopwatch_.TimeSingles(rooms.size(), samples, [&](std::size_t i) {
      if (code != AGENTMEM_OK) return agentmem_abandon(client, &rooms[i]);
      const agentmem_key key = Key(count_ + i);
      agentmem_put_id put = 0;
      code = agentmem_publish(client, &rooms[i], &key, size_, AGENTMEM_CACHE,
                              AGENTMEM_REPLICATED, kTimeoutNs, &put, &error);
      if (code != AGENTMEM_OK) return;
      code = agentmem_put_wait(client, put, kTimeoutNs, &error);
    });
    AGENTMEM_RETURN_IF_ERROR(ToStatus(code, error));
    count_ += rooms.size();
  }
  return sum / static_cast<double>(rounds);
}

absl::StatusOr<double> PoolBlocks::TimeCopiedPuts(const PoolRun& run,
                                                  Samples* samples) {
  source_.resize(std::max(source_.size(), size_ * run.samples));
  agentmem_client* const client = connection_->get();
  agentmem_error error = {};
  double sum = 0;
  for (std::size_t burst = 0; burst < run.bursts; ++burst) {
    for (std::size_t i = 0; i < run.samples; ++i) {
      ByteStream(seed_, count_ + i).Fill(&source_[i * size_], size_);
    }
    agentmem_code code = AGENTMEM_OK;
    sum += stopwatch_.TimeSingles(run.samples, samples, [&](std::size_t i) {
      if (code != AGENTMEM_OK) return;
      const agentmem_key key = Key(count_ + i);
      agentmem_put_id put = 0;
      code =
          agentmem_put(client, &key, &source_[i * size_], size_, AGENTMEM_CACHE,
                       AGENTMEM_REPLICATED, kTimeoutNs, &put, &error);
      if (code != AGENTMEM_OK) return;
      code = agentmem_put_wait(client, put, kTimeoutNs, &error);
    });
    AGENTMEM_RETURN_IF_ERROR(ToStatus(code, error));
    count_ += run.samples;
  }
  return sum / static_cast<double>(run.bursts);
}

absl::StatusOr<std::size_t> PoolBlocks::CountInPool() const {
  std::size_t in_pool = 0;
  for (std::size_t number = 0; number < count_; ++number) {
    AGENTMEM_ASSIGN_OR_RETURN(const agentmem_tier tier,
                              connection_->TierOf(Key(number)));
    if (tier == AGENTMEM_TIER_POOL) ++in_pool;
  }
  return in_pool;
}

absl::StatusOr<PoolCheck> PoolBlocks::CheckAll() const {
  PoolCheck check;
  for (std::size_t number = 0; number < count_; ++number) {
    const agentmem_key key = Key(number);
    agentmem_span span = {};
    agentmem_error error = {};
    const absl::Status got = ToStatus(
        agentmem_get(connection_->get(), &key, 1, kTimeoutNs, &span, &error),
        error);
    if (!got.ok()) {
      if (check.lost++ == 0) check.first_lost = got;
      continue;
    }
    const absl::Status matches = Matches(number, span);
    if (span.tier == AGENTMEM_TIER_POOL) ++check.from_pool;
    agentmem_release(connection_->get(), &span, 1);
    AGENTMEM_RETURN_IF_ERROR(matches);
  }
  return check;
}

}  // namespace agentmem::bench
