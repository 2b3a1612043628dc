#include "client/memctl/proc_text.h"

#include <charconv>
#include <sstream>

namespace agentmem::memctl {

std::string Trim(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::optional<std::uint64_t> ParseNumber(const std::string& text) {
  const std::string trimmed = Trim(text);
  const char* const end = trimmed.data() + trimmed.size();
  std::uint64_t value = 0;
  const auto [rest, error] = std::from_chars(trimmed.data(), end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> NumberOf(const std::string& text,
                                      const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(name + ":", 0) != 0) continue;
    std::istringstream words(line.substr(name.size() + 1));
    std::string number;
    words >> number;
    return ParseNumber(number);
  }
  return std::nullopt;
}

std::string ChosenOf(const std::string& text) {
  const std::size_t open = text.find('[');
  const std::size_t close = text.find(']', open);
  if (open == std::string::npos || close == std::string::npos) {
    return Trim(text);
  }
  return text.substr(open + 1, close - open - 1);
}

}  // namespace agentmem::memctl
