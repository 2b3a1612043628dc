#include "tiering/traces/mooncake_trace.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "base/status.h"

namespace agentmem::tiering {
namespace {

constexpr char kLine[] =
    R"({"timestamp": 12, "input_length": 6758, "output_length": 500, )"
    R"("hash_ids": [0, 1, 18446744073709551615]})";

class MooncakeTraceTest : public ::testing::Test {
 protected:
  ~MooncakeTraceTest() override { std::remove(path_.c_str()); }

  void Write(const std::string& bytes) {
    std::FILE* file = std::fopen(path_.c_str(), "wb");
    ASSERT_NE(file, nullptr);
    ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
    std::fclose(file);
  }
  std::unique_ptr<MooncakeTraceReader> Open() {
    auto reader = MooncakeTraceReader::Open(path_);
    EXPECT_TRUE(reader.ok()) << reader.status();
    return std::move(reader).value();
  }
  // The message of the first line's error.
  std::string ErrorOf(const std::string& line) {
    Write(line + "\n");
    TraceRequest request;
    const auto next = Open()->Next(&request);
    EXPECT_EQ(next.status().code(), absl::StatusCode::kInvalidArgument)
        << line.substr(0, 100);
    return StatusMessage(next.status());
  }

  const std::string path_ =
      ::testing::TempDir() + "mooncake_trace_" +
      ::testing::UnitTest::GetInstance()->current_test_info()->name() +
      ".jsonl";
};

TEST_F(MooncakeTraceTest, ReadsEveryFieldOfEveryLine) {
  Write(std::string(kLine) +
        "\n{\"timestamp\":13,\"input_length\":0,\"output_length\":1,"
        "\"hash_ids\":[],\"more\":{\"ignored\":[1]}}");
  const auto reader = Open();
  TraceRequest request;
  ASSERT_EQ(*reader->Next(&request), true);
  EXPECT_EQ(request.timestamp_ns, 12 * kMillisecondNs);
  EXPECT_EQ(request.input_tokens, 6758u);
  EXPECT_EQ(request.output_tokens, 500u);
  EXPECT_EQ(request.block_ids, (std::vector<std::uint64_t>{0, 1, UINT64_MAX}));
  EXPECT_EQ(request.agent, 0u);
  EXPECT_EQ(request.think_ns, 0);
  ASSERT_EQ(*reader->Next(&request), true);
  EXPECT_EQ(request.timestamp_ns, 13 * kMillisecondNs);
  EXPECT_TRUE(request.block_ids.empty());
  EXPECT_EQ(*reader->Next(&request), false);
  EXPECT_EQ(*reader->Next(&request), false);
}

TEST_F(MooncakeTraceTest, BrokenLineIsNamedByFileLineAndReason) {
  Write(std::string(kLine) + "\n{\"timestamp\": 1\n" + kLine + "\n");
  const auto reader = Open();
  TraceRequest request;
  ASSERT_TRUE(reader->Next(&request).ok());
  const auto broken = reader->Next(&request);
  EXPECT_EQ(StatusMessage(broken.status()), path_ + ":2: not valid JSON");
  EXPECT_EQ(*reader->Next(&request), true) << "the line after it is read";
  EXPECT_EQ(*reader->Next(&request), false);
}

TEST_F(MooncakeTraceTest, EachKindOfBrokenLineHasItsReason) {
  const auto line = [](const std::string& timestamp, const std::string& input,
                       const std::string& ids) {
    return "{\"timestamp\":" + timestamp + ",\"input_length\":" + input +
           ",\"output_length\":1,\"hash_ids\":" + ids + "}";
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", ":1: not valid JSON"},
      {"[1]", ":1: the line is of type array; it must be a JSON object"},
      {line("-5", "1", "[]"),
       ":1: field \"timestamp\" is -5; it must be an integer from 0 to "
       "9223372036854"},
      {line("9223372036855", "1", "[]"),
       "\"timestamp\" is 9223372036855; it must"},
      {line("\"1\"", "1", "[]"), "\"timestamp\" is of type string"},
      {line("1", "4294967296", "[]"),
       "is 4294967296; it must be an integer from 0 to 4294967295"},
      {line("1", "1.5", "[]"), "\"input_length\" is a number with a fraction"},
      {line("1", "9", "{}"),
       "\"hash_ids\" is of type object; it must be an array"},
      {line("1", "9", "[1,-2]"),
       "\"hash_ids\"[1] is -2; it must be an integer"},
      {line("1", "9", "[18446744073709551616]"), "\"hash_ids\"[0]"},
      {line("1", "9", "[[]]"), "\"hash_ids\"[0]"},
      {line("1", "1", "[1,2]"), "has 2 blocks, more than the 1 tokens"},
      {"{\"input_length\":1,\"output_length\":1,\"hash_ids\":[]}",
       ":1: field \"timestamp\" is missing"},
      {"{\"timestamp\":1,\"input_length\":1,\"output_length\":1}",
       ":1: field \"hash_ids\" is missing"},
      {std::string(100'000, '['), ":1: values are nested deeper than 8"},
  };
  for (const auto& [text, reason] : cases) {
    const std::string message = ErrorOf(text);
    EXPECT_NE(message.find(reason), std::string::npos)
        << text.substr(0, 100) << " -> " << message;
    EXPECT_EQ(message.rfind(path_ + ":1: ", 0), 0u) << message;
  }
}

TEST_F(MooncakeTraceTest, LineBeyondTheLimitIsRefusedAndSkipped) {
  std::string fits(kLine);
  fits.resize(kTraceLineBytesMax, ' ');
  Write(fits + "\n" + fits + " \n" + kLine);
  const auto reader = Open();
  TraceRequest request;
  EXPECT_TRUE(reader->Next(&request).ok());
  EXPECT_EQ(StatusMessage(reader->Next(&request).status()),
            path_ + ":2: the line is longer than 16777216 bytes");
  EXPECT_EQ(*reader->Next(&request), true);
  EXPECT_EQ(request.session, 3u);
}

TEST_F(MooncakeTraceTest, WhatCannotBeReadIsNamed) {
  const auto missing = MooncakeTraceReader::Open("/nonexistent/trace.jsonl");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(StatusMessage(missing.status()).find("/nonexistent/trace.jsonl"),
            std::string::npos);
  auto folder = MooncakeTraceReader::Open(::testing::TempDir());
  ASSERT_TRUE(folder.ok());
  TraceRequest request;
  EXPECT_EQ((*folder)->Next(&request).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(MooncakeTraceTest, MutatedLinesAreReadOrNamedButNeverCrash) {
  constexpr int kLines = 20'000;
  std::mt19937 random(7);
  std::string bytes;
  for (int i = 0; i < kLines; ++i) {
    std::string line(kLine);
    const int mutations = 1 + static_cast<int>(random() % 4);
    for (int m = 0; m < mutations; ++m) {
      const std::size_t at = random() % line.size();
      switch (random() % 5) {
        case 0:
          line[at] = static_cast<char>(random());
          break;
        case 1:
          line[at] ^= static_cast<char>(1u << (random() % 8));
          break;
        case 2:
          line.erase(at, 1 + random() % 8);
          break;
        case 3:
          line.insert(at, line, 0, random() % line.size());
          break;
        default:
          line.insert(at, 1, "-{}[]\",:0e.\\"[random() % 12]);
      }
      if (line.empty()) line = " ";
    }
    bytes += line + "\n";
  }
  Write(bytes);
  const auto reader = Open();
  TraceRequest request;
  int read = 0;
  int refused = 0;
  for (;;) {
    const auto next = reader->Next(&request);
    const std::string where =
        path_ + ":" + std::to_string(read + refused + 1) + ": ";
    if (next.ok()) {
      if (!*next) break;
      ++read;
      ASSERT_LE(request.block_ids.size(), request.input_tokens);
    } else {
      ++refused;
      ASSERT_EQ(next.status().code(), absl::StatusCode::kInvalidArgument);
      ASSERT_EQ(StatusMessage(next.status()).rfind(where, 0), 0u)
          << next.status();
      ASSERT_GT(StatusMessage(next.status()).size(), where.size());
    }
  }
  EXPECT_GE(read + refused, kLines);  // a mutation may make an end of line
  EXPECT_GT(read, kLines / 50);
  EXPECT_GT(refused, kLines / 2);
}

}  // namespace
}  // namespace agentmem::tiering
