#include "memd/store/rocks_logger.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace agentmem {
namespace {

std::string Logged(rocksdb::Logger* logger, rocksdb::InfoLogLevel level,
                   int times) {
  testing::internal::CaptureStderr();
  for (int i = 0; i < times; ++i) {
    rocksdb::Log(level, logger, "writes are slow: %d files", i);
  }
  return testing::internal::GetCapturedStderr();
}

TEST(RocksLoggerTest, WarningsAndErrorsBecomeLinesAndNothingElseDoes) {
  RocksLogger logger;
  using Level = rocksdb::InfoLogLevel;
  EXPECT_EQ(Logged(&logger, Level::INFO_LEVEL, 1), "");
  EXPECT_EQ(Logged(&logger, Level::HEADER_LEVEL, 1), "");
  const std::string warning = Logged(&logger, Level::WARN_LEVEL, 1);
  EXPECT_NE(warning.find("warning: RocksDB: "), std::string::npos) << warning;
  EXPECT_NE(warning.find("writes are slow: 0 files"), std::string::npos);
  const std::string error = Logged(&logger, Level::ERROR_LEVEL, 1);
  EXPECT_NE(error.find("error: RocksDB: "), std::string::npos) << error;
}

TEST(RocksLoggerTest, AMessageIsOneLineHoweverItEnds) {
  RocksLogger logger;
  testing::internal::CaptureStderr();
  rocksdb::Log(rocksdb::InfoLogLevel::ERROR_LEVEL, &logger, "no\nspace\n\n");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(text.ends_with("RocksDB: no space\n") ||
              text.ends_with("] no space\n"))
      << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

TEST(RocksLoggerTest, AStormOfMessagesIsCutOff) {
  RocksLogger logger;
  const std::string text =
      Logged(&logger, rocksdb::InfoLogLevel::WARN_LEVEL, 1000);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'),
            RocksLogger::kLinesPerMinute);
}

}  // namespace
}  // namespace agentmem
