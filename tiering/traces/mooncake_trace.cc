#include "tiering/traces/mooncake_trace.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/status.h"

namespace agentmem::tiering {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kReadBytes = 256u << 10;
// A line needs two levels. The bound keeps a line of 16 Mi brackets from
// becoming as many nested arrays.
constexpr int kDepthMax = 8;

// What stands where something else was wanted, for a message.
std::string Describe(const Json& value) {
  if (value.is_number_unsigned()) {
    return std::to_string(value.get<std::uint64_t>());
  }
  if (value.is_number_integer()) {
    return std::to_string(value.get<std::int64_t>());
  }
  if (value.is_number_float()) {
    return "a number with a fraction, an exponent or more than 64 bits";
  }
  return std::string("of type ") + value.type_name();
}

absl::Status ReadInteger(const Json& object, const char* field,
                         std::uint64_t value_max, std::uint64_t* value) {
  const auto found = object.find(field);
  if (found == object.end()) {
    return InvalidArgument(std::string("field \"") + field + "\" is missing");
  }
  *value = found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
  if (!found->is_number_unsigned() || *value > value_max) {
    return InvalidArgument(
        std::string("field \"") + field + "\" is " + Describe(*found) +
        "; it must be an integer from 0 to " + std::to_string(value_max));
  }
  return absl::OkStatus();
}

absl::Status ReadBlockIds(const Json& object, std::uint64_t input_tokens,
                          std::vector<std::uint64_t>* ids) {
  const auto found = object.find("hash_ids");
  if (found == object.end()) {
    return InvalidArgument("field \"hash_ids\" is missing");
  }
  if (!found->is_array()) {
    return InvalidArgument("field \"hash_ids\" is " + Describe(*found) +
                           "; it must be an array of block ids");
  }
  if (found->size() > input_tokens) {
    return InvalidArgument(
        "field \"hash_ids\" has " + std::to_string(found->size()) +
        " blocks, more than the " + std::to_string(input_tokens) +
        " tokens of \"input_length\"");
  }
  ids->clear();
  ids->reserve(found->size());
  for (const Json& id : *found) {
    if (!id.is_number_unsigned()) {
      return InvalidArgument("\"hash_ids\"[" + std::to_string(ids->size()) +
                             "] is " + Describe(id) +
                             "; it must be an integer from 0 to 2^64 - 1");
    }
    ids->push_back(id.get<std::uint64_t>());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseMooncakeLine(const std::string& line, TraceRequest* request) {
  bool too_deep = false;
  const auto bound_depth = [&too_deep](int depth, Json::parse_event_t /*event*/,
                                       Json& /*parsed*/) {
    too_deep |= depth > kDepthMax;
    return depth <= kDepthMax;
  };
  const Json object = Json::parse(line, bound_depth, false);
  if (too_deep) {
    return InvalidArgument("values are nested deeper than " +
                           std::to_string(kDepthMax) + " levels");
  }
  if (object.is_discarded()) return InvalidArgument("not valid JSON");
  if (!object.is_object()) {
    return InvalidArgument("the line is " + Describe(object) +
                           "; it must be a JSON object");
  }
  std::uint64_t timestamp_ms = 0;
  std::uint64_t input_tokens = 0;
  std::uint64_t output_tokens = 0;
  AGENTMEM_RETURN_IF_ERROR(ReadInteger(
      object, "timestamp", INT64_MAX / kMillisecondNs, &timestamp_ms));
  AGENTMEM_RETURN_IF_ERROR(
      ReadInteger(object, "input_length", UINT32_MAX, &input_tokens));
  AGENTMEM_RETURN_IF_ERROR(
      ReadInteger(object, "output_length", UINT32_MAX, &output_tokens));
  *request = TraceRequest{};
  request->timestamp_ns =
      static_cast<DurationNs>(timestamp_ms) * kMillisecondNs;
  request->input_tokens = static_cast<std::uint32_t>(input_tokens);
  request->output_tokens = static_cast<std::uint32_t>(output_tokens);
  return ReadBlockIds(object, input_tokens, &request->block_ids);
}

absl::StatusOr<std::unique_ptr<MooncakeTraceReader>> MooncakeTraceReader::Open(
    const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rbe");
  if (file == nullptr) return ErrnoStatus("open the trace " + path);
  return std::unique_ptr<MooncakeTraceReader>(
      new MooncakeTraceReader(path, file));
}

MooncakeTraceReader::MooncakeTraceReader(const std::string& path,
                                         std::FILE* file)
    : path_(path), file_(file), buffer_(kReadBytes) {}

absl::StatusOr<bool> MooncakeTraceReader::Next(TraceRequest* request) {
  AGENTMEM_ASSIGN_OR_RETURN(const bool found, ReadLine());
  if (!found) return false;
  const std::string where = path_ + ":" + std::to_string(line_number_) + ": ";
  if (line_.size() > kTraceLineBytesMax) {
    return InvalidArgument(where + "the line is longer than " +
                           std::to_string(kTraceLineBytesMax) + " bytes");
  }
  const absl::Status parsed = ParseMooncakeLine(line_, request);
  if (!parsed.ok()) return InvalidArgument(where + StatusMessage(parsed));
  request->session = line_number_;
  return true;
}

// Reads up to the end of line; keeps one byte more than the limit at most.
absl::StatusOr<bool> MooncakeTraceReader::ReadLine() {
  line_.clear();
  bool found = false;
  for (;;) {
    if (buffer_begin_ == buffer_end_) {
      AGENTMEM_ASSIGN_OR_RETURN(const bool filled, FillBuffer());
      if (!filled) break;
    }
    if (!found) ++line_number_;
    found = true;
    const char* const begin = buffer_.data() + buffer_begin_;
    const std::size_t bytes = buffer_end_ - buffer_begin_;
    const void* const end_of_line = std::memchr(begin, '\n', bytes);
    const std::size_t part =
        end_of_line == nullptr
            ? bytes
            : static_cast<std::size_t>(static_cast<const char*>(end_of_line) -
                                       begin);
    line_.append(begin, std::min(part, kTraceLineBytesMax + 1 - line_.size()));
    buffer_begin_ += part;
    if (end_of_line != nullptr) {
      ++buffer_begin_;
      break;
    }
  }
  return found;
}

absl::StatusOr<bool> MooncakeTraceReader::FillBuffer() {
  buffer_begin_ = 0;
  buffer_end_ = std::fread(buffer_.data(), 1, buffer_.size(), file_.get());
  if (buffer_end_ == 0 && std::ferror(file_.get()) != 0) {
    return ErrnoStatus("read the trace " + path_);
  }
  return buffer_end_ > 0;
}

}  // namespace agentmem::tiering
