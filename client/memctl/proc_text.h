// Reading the small text files of /proc and /sys.
//
// Threads: pure functions. Errors: nothing is an answer. Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_PROC_TEXT_H_
#define AGENTMEM_CLIENT_MEMCTL_PROC_TEXT_H_

#include <cstdint>
#include <optional>
#include <string>

namespace agentmem::memctl {

// Without blanks and line ends at both ends.
std::string Trim(const std::string& text);
// The whole of `text` as a decimal number.
std::optional<std::uint64_t> ParseNumber(const std::string& text);
// The number behind "NAME:" in lines as "MemTotal:  1024 kB".
std::optional<std::uint64_t> NumberOf(const std::string& text,
                                      const std::string& name);
// What stands in brackets, as in "always [madvise] never".
std::string ChosenOf(const std::string& text);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_PROC_TEXT_H_
