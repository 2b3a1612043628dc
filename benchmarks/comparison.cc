#include "benchmarks/comparison.h"

#include "base/status.h"

namespace agentmem::bench {

absl::StatusOr<CaseResult> Compare(const std::string& name, const Unit& unit,
                                   int rounds, const std::vector<Side>& sides) {
  std::vector<std::vector<double>> means(sides.size());
  std::vector<Samples> samples(sides.size());
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < sides.size(); ++i) {
      auto mean = sides[i].run(round, &samples[i]);
      if (!mean.ok()) {
        return MakeStatus(
            mean.status().code(),
            name + ", " + sides[i].name + ": " + StatusMessage(mean.status()));
      }
      means[i].push_back(*mean);
    }
  }
  CaseResult result;
  result.name = name;
  result.p50_ns = samples[0].Percentile(0.5);
  result.p99_ns = samples[0].Percentile(0.99);
  result.p999_ns = samples[0].Percentile(0.999);
  result.unit = unit.name;
  result.higher_is_better = unit.higher_is_better;
  result.value = unit.Of(Median(means[0]));
  double fastest = 0;
  for (std::size_t i = 1; i < sides.size(); ++i) {
    const double ns = Median(means[i]);
    if (i > 1 && ns >= fastest) continue;
    fastest = ns;
    result.baseline = sides[i].name;
    result.baseline_value = unit.Of(ns);
    result.baseline_p50_ns = samples[i].Percentile(0.5);
  }
  return result;
}

}  // namespace agentmem::bench
