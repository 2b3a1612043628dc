#include "benchmarks/bars.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace agentmem::bench {
namespace {

std::string Text(double number) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3f", number);
  return text;
}

}  // namespace

Bar* FindBar(std::vector<Bar>* bars, const std::string& name) {
  const auto found =
      std::find_if(bars->begin(), bars->end(),
                   [&name](const Bar& bar) { return bar.name == name; });
  AGENTMEM_CHECK(found != bars->end());
  return &*found;
}

std::string BarText(const Bar& bar) {
  std::string text = bar.name + ": ";
  if (bar.measured.has_value()) text += Text(*bar.measured) + ", ";
  text += std::string("bar ") + (bar.at_least ? "at least " : "at most ") +
          Text(bar.limit);
  if (!bar.measured.has_value()) return text + ": NOT MEASURED";
  return text + (bar.met() ? ": met" : ": MISSED");
}

std::string BarsJson(const std::vector<Bar>& bars) {
  nlohmann::ordered_json json;
  int met = 0;
  nlohmann::ordered_json missed = nlohmann::ordered_json::array();
  nlohmann::ordered_json not_measured = nlohmann::ordered_json::array();
  for (const Bar& bar : bars) {
    if (!bar.measured.has_value()) {
      not_measured.push_back(bar.name);
    } else if (bar.met()) {
      ++met;
    } else {
      missed.push_back(BarText(bar));
    }
  }
  json["met"] = met;
  json["missed"] = missed;
  json["not_measured"] = not_measured;
  return json.dump() + "\n";
}

}  // namespace agentmem::bench
