// What a suite promises of its ratios: each bar is known before anything is
// measured, so that one that was not reached by the end is told as such.
//
// Ownership: values. Threads: thread-compatible. Errors: none; to measure a bar
// that nobody announced is a bug. Cost: a search by name.
#ifndef AGENTMEM_BENCHMARKS_BARS_H_
#define AGENTMEM_BENCHMARKS_BARS_H_

#include <optional>
#include <string>
#include <vector>

namespace agentmem::bench {

struct Bar {
  std::string name;
  double limit = 0;
  bool at_least = true;  // else at most
  std::optional<double> measured = {};

  bool met() const {
    return measured.has_value() &&
           (at_least ? *measured >= limit : *measured <= limit);
  }
};

// The announced bar of this name.
Bar* FindBar(std::vector<Bar>* bars, const std::string& name);
// "NAME: 0.981, bar at least 0.970: met"; or MISSED, or NOT MEASURED.
std::string BarText(const Bar& bar);
// One line: {"met": 20, "missed": ["TEXT"], "not_measured": ["NAME"]}.
std::string BarsJson(const std::vector<Bar>& bars);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_BARS_H_
