// Amounts as people read and write them.
//
// Threads: pure functions. Errors: INVALID_ARGUMENT. Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_HUMAN_TEXT_H_
#define AGENTMEM_CLIENT_MEMCTL_HUMAN_TEXT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"

namespace agentmem::memctl {

// "0 B", "512 B", "1.5 KiB", "64 MiB": at most one digit behind the point.
std::string HumanBytes(std::uint64_t bytes);
// "850 ns", "1.2 us", "12 ms", "3.4 s", "5m 12s", "3h 05m", "2d 04h".
std::string HumanDuration(DurationNs duration);
// A wall clock's time: "2026-03-01 12:34:56 UTC"; "-" when it is 0.
std::string HumanTime(std::uint64_t unix_ns);
// part / whole as "37%"; "-" when whole is 0.
std::string HumanShare(std::uint64_t part, std::uint64_t whole);
// Text that others chose, safe for a terminal: control characters, and bytes
// that are not UTF-8, become '?'.
std::string Printable(const std::string& text);

// "500ms", "5s", "2m", "1h"; a bare number is seconds. Allowed: 1 ms to 24 h.
absl::StatusOr<DurationNs> ParseDuration(const std::string& text);
// "4096", "64KiB", "16MiB", "1GiB", "1TiB". Allowed: 0 to 1 TiB.
absl::StatusOr<std::uint64_t> ParseBytes(const std::string& text);

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_HUMAN_TEXT_H_
