#include "tests/demo/report_text.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace agentmem::demo {
namespace {

constexpr std::size_t kBarWidth = 24;

struct OperationText {
  const char* name;
  const char* field;
};
constexpr std::array<OperationText, kOperations> kOperationTexts = {{
    {"match a prefix", "match"},
    {"get, dram", "get_dram"},
    {"get of 2-32, dram", "get_dram_batch"},
    {"get, store", "get_store"},
    {"get of 2-32, store", "get_store_batch"},
    {"put, visible", "put_visible"},
    {"put, durable", "put_durable"},
    {"put object, durable", "object_put"},
    {"get object", "object_get"},
}};

std::string Scaled(double value, const char* const* units, int count,
                   double step) {
  int unit = 0;
  while (value >= step && unit + 1 < count) {
    value /= step;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text),
                unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value,
                units[unit]);
  return text;
}

}  // namespace

std::string Line(const char* label, const std::string& value) {
  char text[512];
  std::snprintf(text, sizeof(text), "  %-10s %s\n", label, value.c_str());
  return text;
}

std::string CountText(std::uint64_t count) {
  std::string text = std::to_string(count);
  for (std::size_t at = text.size(); at > 3;) {
    at -= 3;
    text.insert(at, 1, ',');
  }
  return text;
}

std::string BytesText(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  return Scaled(static_cast<double>(bytes), kUnits, 5, 1024);
}

std::string TimeText(std::uint64_t time_ns) {
  constexpr const char* kUnits[] = {"ns", "us", "ms", "s"};
  return Scaled(static_cast<double>(time_ns), kUnits, 4, 1000);
}

std::string Percent(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0) return "0%";
  char text[16];
  std::snprintf(text, sizeof(text), "%.0f%%",
                100.0 * static_cast<double>(part) / static_cast<double>(whole));
  return text;
}

const char* OperationName(Operation operation) {
  return kOperationTexts[static_cast<std::size_t>(operation)].name;
}

const char* OperationField(Operation operation) {
  return kOperationTexts[static_cast<std::size_t>(operation)].field;
}

std::string LatencyTable(const Scoreboard& board) {
  char line[160];
  std::snprintf(line, sizeof(line), "  %-20s %10s %10s %10s %10s\n", "latency",
                "count", "p50", "p99", "p99.9");
  std::string table = line;
  for (std::size_t i = 0; i < kOperations; ++i) {
    const auto operation = static_cast<Operation>(i);
    const LatencyHistogram latencies = board.Latencies(operation);
    std::snprintf(line, sizeof(line), "  %-20s %10s %10s %10s %10s\n",
                  OperationName(operation),
                  CountText(latencies.count()).c_str(),
                  TimeText(latencies.QuantileNs(0.5)).c_str(),
                  TimeText(latencies.QuantileNs(0.99)).c_str(),
                  TimeText(latencies.QuantileNs(0.999)).c_str());
    table += line;
  }
  return table;
}

std::string TierTable(const std::vector<TierSample>& samples) {
  std::uint64_t most = 1;
  for (const TierSample& sample : samples) {
    most =
        std::max({most, sample.tenant.dram_bytes, sample.tenant.store_bytes});
  }
  const auto bar = [most](std::uint64_t bytes) {
    return std::string(bytes * kBarWidth / most, '#');
  };
  char line[200];
  std::snprintf(line, sizeof(line), "  %-16s %-36s %s\n", "bytes over time",
                "dram", "store");
  std::string table = line;
  for (const TierSample& sample : samples) {
    std::snprintf(line, sizeof(line),
                  "  %4.0f%% %6.1f s   %10s %-24s  %10s %s\n",
                  100 * sample.progress, sample.seconds,
                  BytesText(sample.tenant.dram_bytes).c_str(),
                  bar(sample.tenant.dram_bytes).c_str(),
                  BytesText(sample.tenant.store_bytes).c_str(),
                  bar(sample.tenant.store_bytes).c_str());
    table += line;
  }
  return table;
}

}  // namespace agentmem::demo
