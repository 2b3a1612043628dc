// Streaming reader of traces in the Mooncake format (FAST'25 release).
//
// One JSON object a line:
//   {"timestamp": 0, "input_length": 6758, "output_length": 500,
//    "hash_ids": [0, 1, 2]}
// `timestamp` in milliseconds, lengths in tokens, one id for each block of 512
// tokens of the input, the last and partial one included. All are integers from
// 0; other fields are ignored. `hash_ids` may be empty (nothing to cache) but
// not longer than the input, for a block holds at least a token. The format
// names no agents: agent and think time are 0, every request is a session.
//
// Ownership: owns the open file. Threads: thread-compatible.
// Errors: Open: NOT_FOUND, PERMISSION_DENIED, UNAVAILABLE. Next: a broken line
// is INVALID_ARGUMENT "FILE:LINE: reason" and is left behind, so that the
// caller may go on with the next one; UNAVAILABLE when the file cannot be read.
// Cost: blocks on the file; memory for one line (16 MiB at most) and its parse.
#ifndef AGENTMEM_TIERING_TRACES_MOONCAKE_TRACE_H_
#define AGENTMEM_TIERING_TRACES_MOONCAKE_TRACE_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiering/traces/trace_source.h"

namespace agentmem::tiering {

inline constexpr std::size_t kTraceLineBytesMax = 16u << 20;
inline constexpr std::uint32_t kMooncakeBlockTokens = 512;

// Parses one line without its end of line. The error's message is the reason
// alone. *request is complete on OK and unspecified otherwise.
absl::Status ParseMooncakeLine(const std::string& line, TraceRequest* request);

class MooncakeTraceReader final : public TraceSource {
 public:
  static absl::StatusOr<std::unique_ptr<MooncakeTraceReader>> Open(
      const std::string& path);

  absl::StatusOr<bool> Next(TraceRequest* request) override;

 private:
  struct FileCloser {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  MooncakeTraceReader(const std::string& path, std::FILE* file);
  absl::StatusOr<bool> ReadLine();
  absl::StatusOr<bool> FillBuffer();

  const std::string path_;
  std::unique_ptr<std::FILE, FileCloser> file_;
  std::vector<char> buffer_;
  std::size_t buffer_begin_ = 0;
  std::size_t buffer_end_ = 0;
  std::string line_;               // cut off behind the limit
  std::uint64_t line_number_ = 0;  // of line_, from 1
};

}  // namespace agentmem::tiering

#endif  // AGENTMEM_TIERING_TRACES_MOONCAKE_TRACE_H_
