#include "client/memctl/key_text.h"

#include <cstdio>

#include "base/status.h"

namespace agentmem::memctl {
namespace {

constexpr std::size_t kGroupDigits = 8;
constexpr std::size_t kKeyDigits = 32;

absl::Status BadKey(const std::string& text, const std::string& why) {
  return InvalidArgument(
      "the key \"" + text + "\" " + why +
      "; a key is 32 hex digits, group and name, with or without a colon: "
      "gggggggg:nnnnnnnnnnnnnnnnnnnnnnnn, for example "
      "0000002a:00112233445566778899aabb");
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

absl::StatusOr<Key> ParseKey(const std::string& text) {
  std::string digits = text;
  if (const std::size_t colon = digits.find(':'); colon != std::string::npos) {
    if (colon != kGroupDigits) {
      return BadKey(text, "has its colon behind " + std::to_string(colon) +
                              " digits, not behind 8");
    }
    digits.erase(colon, 1);
  }
  std::uint32_t words[4] = {};
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const int digit = HexDigit(digits[i]);
    if (digit < 0) {
      return BadKey(text, "has a character at position " +
                              std::to_string(i + 1) +
                              " of its digits that is not a hex digit");
    }
    if (i < kKeyDigits) {
      words[i / 8] = words[i / 8] << 4 | static_cast<std::uint32_t>(digit);
    }
  }
  if (digits.size() != kKeyDigits) {
    return BadKey(text, "has " + std::to_string(digits.size()) + " digits");
  }
  return Key{words[0], {words[1], words[2], words[3]}};
}

std::string FormatKey(const Key& key) {
  char text[kKeyDigits + 2];
  std::snprintf(text, sizeof(text), "%08x:%08x%08x%08x", key.group, key.name[0],
                key.name[1], key.name[2]);
  return text;
}

}  // namespace agentmem::memctl
