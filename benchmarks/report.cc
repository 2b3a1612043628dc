#include "benchmarks/report.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/status.h"

namespace agentmem::bench {
namespace {

constexpr std::size_t kColumns = 7;
using Row = std::array<std::string, kColumns>;

const Row kHead = {"case",       "p50",      "p99",  "p99.9",
                   "throughput", "baseline", "ratio"};

// Three digits that count.
std::string NumberText(double number) {
  char text[32];
  const int digits = number < 10 ? 2 : number < 100 ? 1 : 0;
  std::snprintf(text, sizeof(text), "%.*f", digits, number);
  return text;
}

std::string ValueText(double value, const std::string& unit) {
  return unit == "ns" ? DurationText(value) : NumberText(value) + " " + unit;
}

// Nothing: it was not measured.
std::string PercentileText(double ns) {
  return ns == 0 ? "" : DurationText(ns);
}

Row RowOf(const CaseResult& one) {
  Row row = {one.name,
             PercentileText(one.p50_ns),
             PercentileText(one.p99_ns),
             PercentileText(one.p999_ns),
             ValueText(one.value, one.unit),
             "",
             ""};
  if (!one.baseline.empty()) {
    row[5] = one.baseline + " " + ValueText(one.baseline_value, one.unit);
    row[6] = NumberText(one.Ratio());
  }
  return row;
}

std::vector<Row> RowsOf(const SuiteResult& result) {
  std::vector<Row> rows;
  for (const CaseResult& one : result.cases) rows.push_back(RowOf(one));
  return rows;
}

std::string MachineText(const SuiteResult& result) {
  const Machine& machine = result.machine;
  const std::string& device = result.device;
  return machine.cpu + ", " + std::to_string(machine.cores) + " cores, " +
         NumberText(static_cast<double>(machine.memory_bytes) / (1 << 30)) +
         " GiB, " + machine.kernel +
         (device.empty() ? "" : ", device " + device);
}

std::string LinesBelow(const SuiteResult& result) {
  std::string text;
  for (const std::string& note : result.notes) text += "- " + note + "\n";
  for (const Bar& bar : result.bars) text += "- " + BarText(bar) + "\n";
  return text.empty() ? "" : "\n" + text;
}

}  // namespace

std::string DurationText(double ns) {
  if (ns < 1e3) return NumberText(ns) + " ns";
  if (ns < 1e6) return NumberText(ns / 1e3) + " us";
  if (ns < 1e9) return NumberText(ns / 1e6) + " ms";
  return NumberText(ns / 1e9) + " s";
}

std::string TextTable(const SuiteResult& result) {
  std::vector<Row> rows = RowsOf(result);
  rows.insert(rows.begin(), kHead);
  std::array<std::size_t, kColumns> widths = {};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < kColumns; ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string text =
      "suite " + result.suite + ": " + MachineText(result) + "\n\n";
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < kColumns; ++i) {
      const std::string gap(widths[i] - row[i].size(), ' ');
      // Names to the left, numbers to the right.
      line += (i == 0 || i == 5) ? row[i] + gap : gap + row[i];
      if (i + 1 < kColumns) line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text + LinesBelow(result);
}

std::string MarkdownTable(const SuiteResult& result) {
  std::string text;
  const auto add = [&text](const Row& row) {
    for (const std::string& cell : row) text += "| " + cell + " ";
    text += "|\n";
  };
  add(kHead);
  text += "|---|--:|--:|--:|--:|---|--:|\n";
  for (const Row& row : RowsOf(result)) add(row);
  text += "\nMeasured on " + MachineText(result) + ".\n";
  return text + LinesBelow(result);
}

std::string Json(const SuiteResult& result) {
  nlohmann::ordered_json cases = nlohmann::ordered_json::array();
  for (const CaseResult& one : result.cases) {
    nlohmann::ordered_json row;
    row["name"] = one.name;
    row["p50_ns"] = one.p50_ns;
    row["p99_ns"] = one.p99_ns;
    row["p999_ns"] = one.p999_ns;
    row["value"] = one.value;
    row["unit"] = one.unit;
    row["better"] = one.higher_is_better ? "higher" : "lower";
    row["baseline"] = nullptr;
    row["baseline_value"] = nullptr;
    row["ratio"] = nullptr;
    if (!one.baseline.empty()) {
      row["baseline"] = one.baseline;
      row["baseline_value"] = one.baseline_value;
      row["ratio"] = one.Ratio();
    }
    cases.push_back(row);
  }
  nlohmann::ordered_json json;
  json["suite"] = result.suite;
  json["machine"]["cpu"] = result.machine.cpu;
  json["machine"]["cores"] = result.machine.cores;
  json["machine"]["kernel"] = result.machine.kernel;
  json["machine"]["memory_bytes"] = result.machine.memory_bytes;
  if (!result.device.empty()) json["device"] = result.device;
  json["cases"] = cases;
  for (const Bar& bar : result.bars) {
    nlohmann::ordered_json row;
    row["name"] = bar.name;
    row["limit"] = bar.limit;
    row["at"] = bar.at_least ? "least" : "most";
    row["value"] = nullptr;
    if (bar.measured.has_value()) row["value"] = *bar.measured;
    row["result"] = !bar.measured.has_value() ? "not measured"
                    : bar.met()               ? "met"
                                              : "missed";
    json["bars"].push_back(row);
  }
  if (!result.failure.empty()) json["failure"] = result.failure;
  return json.dump(2) + "\n";
}

absl::Status Publish(const SuiteResult& result, const std::string& output) {
  std::printf("%s", TextTable(result).c_str());
  std::string table = output;
  const std::size_t dot = table.rfind(".json");
  if (dot != std::string::npos) table.resize(dot);
  for (const auto& [path, text] :
       {std::pair(output, Json(result)),
        std::pair(table + ".md", MarkdownTable(result))}) {
    AGENTMEM_RETURN_IF_ERROR(WriteFile(path, text));
    std::printf("wrote %s\n", path.c_str());
  }
  return absl::OkStatus();
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  const std::filesystem::path directory =
      std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!directory.empty()) {
    std::filesystem::create_directories(directory, error);
  }
  // What is not a file (/dev/stdout, say) may not be replaced.
  const std::filesystem::file_status there =
      std::filesystem::symlink_status(path, error);
  const bool beside = !std::filesystem::exists(there) ||
                      std::filesystem::is_regular_file(there);
  const std::string written = beside ? path + ".new" : path;
  std::ofstream file(written);
  file << text;
  file.close();
  if (!file) return Unavailable("cannot write " + written);
  if (beside) std::filesystem::rename(written, path, error);
  if (beside && error) {
    return Unavailable("cannot rename " + written + " to " + path + ": " +
                       error.message());
  }
  return absl::OkStatus();
}

}  // namespace agentmem::bench
