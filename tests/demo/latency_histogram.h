// Counts of latencies in buckets that grow with the value.
//
// As HdrHistogram does it: each power of two is split in 32 equal buckets, so a
// quantile is at most 3.2% above the true one. Values below 64 ns are exact;
// those beyond about 9 minutes are counted in the last bucket.
//
// Ownership: a plain value without pointers, so that it may lie in memory that
// processes share; zero bytes are an empty histogram. Threads: one writer; a
// reader meanwhile sees counts that may lag. Errors: none. Cost: Record O(1),
// no allocation; 9 KiB each.
#ifndef AGENTMEM_TESTS_DEMO_LATENCY_HISTOGRAM_H_
#define AGENTMEM_TESTS_DEMO_LATENCY_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace agentmem::demo {

class LatencyHistogram {
 public:
  void Record(std::int64_t latency_ns) {
    const auto value =
        static_cast<std::uint64_t>(std::max<std::int64_t>(latency_ns, 0));
    ++counts_[BucketOf(value)];
    ++count_;
    max_ = std::max(max_, value);
  }

  void Add(const LatencyHistogram& other) {
    for (std::size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    max_ = std::max(max_, other.max_);
  }

  std::uint64_t count() const { return count_; }
  std::uint64_t max_ns() const { return max_; }

  // The smallest bucket's upper end that `quantile` (0 to 1) of all values do
  // not exceed, and never above the largest value. 0 when empty.
  std::uint64_t QuantileNs(double quantile) const {
    const auto wanted = static_cast<std::uint64_t>(
        std::ceil(quantile * static_cast<double>(count_)));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      seen += counts_[i];
      if (seen >= wanted && seen > 0) return std::min(UpperEnd(i), max_);
    }
    return max_;
  }

 private:
  static constexpr unsigned kSubBits = 5;
  static constexpr std::uint64_t kSub = 1u << kSubBits;
  static constexpr unsigned kValueBits = 39;
  static constexpr std::size_t kBuckets = (kValueBits - kSubBits + 1) * kSub;

  // Values below 2 * kSub have a bucket each; above, the leading one and the
  // kSubBits behind it choose the bucket.
  static std::size_t BucketOf(std::uint64_t value) {
    const unsigned bits = static_cast<unsigned>(std::bit_width(value));
    const unsigned shift = bits > kSubBits + 1 ? bits - kSubBits - 1 : 0;
    const std::size_t bucket = shift * kSub + (value >> shift);
    return std::min(bucket, kBuckets - 1);
  }
  static std::uint64_t UpperEnd(std::size_t bucket) {
    const std::uint64_t shift = bucket < 2 * kSub ? 0 : bucket / kSub - 1;
    const std::uint64_t leading = bucket - shift * kSub;
    return ((leading + 1) << shift) - 1;
  }

  std::array<std::uint64_t, kBuckets> counts_ = {};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_LATENCY_HISTOGRAM_H_
