#include "client/memctl/key_text.h"

#include "base/status.h"

namespace agentmem::memctl {
namespace {

constexpr std::size_t kGroupDigits = 8;
constexpr std::size_t kTextLength = 33;

absl::Status BadKey(const std::string& text, const std::string& why) {
  return InvalidArgument(
      "the key \"" + text + "\" " + why +
      "; a key is written as in messages and in memd's log, 8 hex digits of "
      "its group, a colon, 24 of its name, in lower case: for example "
      "0000002a:00112233445566778899aabb");
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

absl::StatusOr<Key> ParseKey(const std::string& text) {
  if (text.size() != kTextLength) {
    return BadKey(text, "has " + std::to_string(text.size()) +
                            " characters, not " + std::to_string(kTextLength));
  }
  if (text[kGroupDigits] != ':') {
    return BadKey(text, "has no colon behind its first 8 digits");
  }
  std::uint32_t words[4] = {};
  std::size_t digits = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i == kGroupDigits) continue;
    const int digit = HexDigit(text[i]);
    if (digit < 0) {
      return BadKey(text, "has a character at position " +
                              std::to_string(i + 1) +
                              " that is none of 0-9 and a-f");
    }
    std::uint32_t& word = words[digits++ / 8];
    word = word << 4 | static_cast<std::uint32_t>(digit);
  }
  return Key{words[0], {words[1], words[2], words[3]}};
}

}  // namespace agentmem::memctl
