#include "benchmarks/samples.h"

#include <algorithm>
#include <cmath>

namespace agentmem::bench {

double Samples::Percentile(double share) {
  if (values_.empty()) return 0;
  if (!sorted_) std::sort(values_.begin(), values_.end());
  sorted_ = true;
  const double rank = std::ceil(share * static_cast<double>(values_.size()));
  const double last = static_cast<double>(values_.size());
  return values_[static_cast<std::size_t>(std::clamp(rank, 1.0, last)) - 1];
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

}  // namespace agentmem::bench
