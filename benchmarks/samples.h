// Durations of single operations, and what is told of them.
//
// Ownership: a value. Threads: thread-compatible. Errors: none; of no samples
// every percentile is 0. Cost: Add is a push_back (Reserve first, so that it
// does not allocate between measurements); Percentile sorts once.
#ifndef AGENTMEM_BENCHMARKS_SAMPLES_H_
#define AGENTMEM_BENCHMARKS_SAMPLES_H_

#include <cstddef>
#include <vector>

namespace agentmem::bench {

class Samples {
 public:
  void Reserve(std::size_t more) { values_.reserve(values_.size() + more); }
  void Add(double value) {
    values_.push_back(value);
    sorted_ = false;
  }
  void Add(const Samples& other) {
    values_.insert(values_.end(), other.values_.begin(), other.values_.end());
    sorted_ = false;
  }
  std::size_t size() const { return values_.size(); }

  // Nearest rank: the smallest sample that `share` (0 to 1) of all samples are
  // not above. Always a sample that was taken.
  double Percentile(double share);

 private:
  std::vector<double> values_;
  bool sorted_ = false;
};

// The middle one; of an even number the mean of the two. 0 of none.
double Median(std::vector<double> values);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_SAMPLES_H_
