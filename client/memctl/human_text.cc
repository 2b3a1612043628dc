#include "client/memctl/human_text.h"

#include <charconv>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <map>

#include "base/status.h"

namespace agentmem::memctl {
namespace {

constexpr DurationNs kMinuteNs = 60 * kSecondNs;
constexpr DurationNs kHourNs = 60 * kMinuteNs;
constexpr DurationNs kDayNs = 24 * kHourNs;

// One digit behind the point, unless it is 0 or the number is long anyway.
std::string Short(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), value < 100 ? "%.1f" : "%.0f", value);
  if (char* point = std::strstr(text, ".0"); point != nullptr) *point = '\0';
  return text;
}

std::string TwoUnits(std::int64_t high, const char* high_unit, std::int64_t low,
                     const char* low_unit) {
  char text[64];
  std::snprintf(text, sizeof(text), "%lld%s %02lld%s",
                static_cast<long long>(high), high_unit,
                static_cast<long long>(low), low_unit);
  return text;
}

// The bytes of the UTF-8 character at `at`, or 0 if it is none or a control.
std::size_t PrintableBytesAt(const std::string& text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const unsigned lead = byte(at);
  if (lead < 0x80) return lead >= 0x20 && lead != 0x7f ? 1 : 0;
  const std::size_t bytes = lead >= 0xf0 && lead <= 0xf4   ? 4
                            : lead >= 0xe0 && lead <= 0xef ? 3
                            : lead >= 0xc2 && lead <= 0xdf ? 2
                                                           : 0;
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
  }
  const bool control = lead == 0xc2 && byte(at + 1) < 0xa0;  // U+0080-U+009F
  return control ? 0 : bytes;
}

}  // namespace

std::string HumanBytes(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB",
                                           "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  // 1023.5 would be shown as 1024.
  while (value >= 1023.5 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return Short(value) + " " + kUnits[unit];
}

std::string HumanDuration(DurationNs d) {
  const double ns = static_cast<double>(d);
  if (d < kMicrosecondNs) return std::to_string(d) + " ns";
  if (d < kMillisecondNs) return Short(ns / kMicrosecondNs) + " us";
  if (d < kSecondNs) return Short(ns / kMillisecondNs) + " ms";
  if (d < kMinuteNs) return Short(ns / kSecondNs) + " s";
  if (d < kHourNs) {
    return TwoUnits(d / kMinuteNs, "m", d % kMinuteNs / kSecondNs, "s");
  }
  if (d < kDayNs) {
    return TwoUnits(d / kHourNs, "h", d % kHourNs / kMinuteNs, "m");
  }
  return TwoUnits(d / kDayNs, "d", d % kDayNs / kHourNs, "h");
}

std::string HumanTime(std::uint64_t unix_ns) {
  if (unix_ns == 0) return "-";
  const auto seconds = static_cast<std::time_t>(unix_ns / kSecondNs);
  std::tm parts = {};
  if (::gmtime_r(&seconds, &parts) == nullptr) return "-";
  char text[64];
  std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text;
}

std::string HumanShare(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0) return "-";
  const double share =
      100.0 * static_cast<double>(part) / static_cast<double>(whole);
  char text[32];
  std::snprintf(text, sizeof(text), "%.0f%%", share);
  return text;
}

std::string Printable(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t bytes = PrintableBytesAt(text, i);
    if (bytes == 0) {
      result += '?';
      ++i;
    } else {
      result.append(text, i, bytes);
      i += bytes;
    }
  }
  return result;
}

absl::StatusOr<DurationNs> ParseDuration(const std::string& text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  const std::string unit(rest, end);
  double unit_ns = 0;
  if (unit == "ms") unit_ns = kMillisecondNs;
  if (unit == "s" || unit.empty()) unit_ns = kSecondNs;
  if (unit == "m") unit_ns = kMinuteNs;
  if (unit == "h") unit_ns = kHourNs;
  const double ns = value * unit_ns;
  // Written so that a NaN fails too.
  const bool allowed = ns >= kMillisecondNs && ns <= kDayNs;
  if (error != std::errc() || !allowed) {
    return InvalidArgument("\"" + text +
                           "\" is not a duration from 1ms to 24h; write a "
                           "number and ms, s, m or h, for example 500ms or 5s");
  }
  return static_cast<DurationNs>(ns);
}

absl::StatusOr<std::uint64_t> ParseBytes(const std::string& text) {
  constexpr std::uint64_t kMost = 1ULL << 40;
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  static const std::map<std::string, int> kShifts = {
      {"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
  const auto shift = kShifts.find(std::string(rest, end));
  if (error != std::errc() || shift == kShifts.end() ||
      value > kMost >> shift->second) {
    return InvalidArgument("\"" + text +
                           "\" is not a number of bytes from 0 to 1TiB; write "
                           "a number and nothing, KiB, MiB, GiB or TiB, for "
                           "example 4096 or 16MiB");
  }
  return value << shift->second;
}

}  // namespace agentmem::memctl
