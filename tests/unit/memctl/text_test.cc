// Keys, amounts, tables and the files of /proc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "client/memctl/human_text.h"
#include "client/memctl/key_text.h"
#include "client/memctl/proc_text.h"
#include "client/memctl/table.h"
#include "proto/key_text.h"

namespace agentmem::memctl {
namespace {

using ::testing::HasSubstr;

constexpr Key kKey{0x2a, {0x00112233, 0x44556677, 0x8899aabb}};

TEST(KeyTextTest, AKeyReadsBackAsEveryMessageWritesIt) {
  EXPECT_EQ(ParseKey("0000002a:00112233445566778899aabb").value(), kKey);
  EXPECT_EQ(ParseKey(KeyText(kKey)).value(), kKey);
}

TEST(KeyTextTest, AnyOtherSpellingIsAnsweredWithTheReasonAndAnExample) {
  const struct {
    const char* text;
    const char* reason;
  } kCases[] = {
      {"", "has 0 characters, not 33"},
      {"0000002a:00112233445566778899aab", "has 32 characters"},
      {"0000002a:00112233445566778899aabbc", "has 34 characters"},
      {"0000002a00112233445566778899aabb", "has 32 characters"},
      {"0000002a-00112233445566778899aabb", "no colon behind"},
      {"0000002a0:0112233445566778899aabb", "no colon behind"},
      {"0000002g:00112233445566778899aabb", "position 8"},
      {"0000002a:0011:233445566778899aabb", "position 14"},
      {"0x00002a:00112233445566778899aabb", "position 2"},
      {"0000002A:00112233445566778899aabb", "position 8"},
  };
  for (const auto& c : kCases) {
    const auto key = ParseKey(c.text);
    ASSERT_EQ(key.status().code(), absl::StatusCode::kInvalidArgument)
        << c.text;
    EXPECT_THAT(StatusMessage(key.status()), HasSubstr(c.reason));
    EXPECT_THAT(StatusMessage(key.status()),
                HasSubstr("0000002a:00112233445566778899aabb"));
  }
}

TEST(HumanTextTest, BytesHaveTheUnitThatKeepsThemShort) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1024), "1 KiB");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(300 << 10), "300 KiB");
  EXPECT_EQ(HumanBytes((1 << 20) - 1), "1 MiB");
  EXPECT_EQ(HumanBytes(64ULL << 30), "64 GiB");
  EXPECT_EQ(HumanBytes(UINT64_MAX), "16 EiB");
}

TEST(HumanTextTest, DurationsHaveOneUnitBelowAMinuteAndTwoAbove) {
  EXPECT_EQ(HumanDuration(0), "0 ns");
  EXPECT_EQ(HumanDuration(1'200), "1.2 us");
  EXPECT_EQ(HumanDuration(12 * kMillisecondNs), "12 ms");
  EXPECT_EQ(HumanDuration(3'400 * kMillisecondNs), "3.4 s");
  EXPECT_EQ(HumanDuration(312 * kSecondNs), "5m 12s");
  EXPECT_EQ(HumanDuration(11'100 * kSecondNs), "3h 05m");
  EXPECT_EQ(HumanDuration(187'200 * kSecondNs), "2d 04h");
}

TEST(HumanTextTest, ATimeoutIsReadWithItsUnitAndBounded) {
  EXPECT_EQ(ParseDuration("500ms").value(), 500 * kMillisecondNs);
  EXPECT_EQ(ParseDuration("1.5s").value(), 1'500 * kMillisecondNs);
  EXPECT_EQ(ParseDuration("2").value(), 2 * kSecondNs);
  EXPECT_EQ(ParseDuration("1m").value(), 60 * kSecondNs);
  EXPECT_EQ(ParseDuration("24h").value(), 86'400 * kSecondNs);
  for (const char* text : {"", "s", "-1s", "0", "25h", "1e300h", "nan", "inf",
                           "5 s", "5x", "5sec", "0.1ms"}) {
    const auto duration = ParseDuration(text);
    EXPECT_EQ(duration.status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(HumanTextTest, BytesAreReadWithTheirUnitAndBounded) {
  EXPECT_EQ(ParseBytes("0").value(), 0u);
  EXPECT_EQ(ParseBytes("4096").value(), 4096u);
  EXPECT_EQ(ParseBytes("64KiB").value(), 65536u);
  EXPECT_EQ(ParseBytes("1TiB").value(), 1ULL << 40);
  for (const char* text : {"", "-1", "KiB", "1KB", "1k", "1.5KiB", "4 KiB",
                           "1025GiB", "99999999999999999999"}) {
    EXPECT_EQ(ParseBytes(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(HumanTextTest, TimesAreOfTheWorldAndZeroIsNone) {
  EXPECT_EQ(HumanTime(0), "-");
  EXPECT_EQ(HumanTime(1), "1970-01-01 00:00:00 UTC");
  EXPECT_EQ(HumanTime(1'772'368'496'999'999'999), "2026-03-01 12:34:56 UTC");
}

TEST(HumanTextTest, TextOfOthersCannotDriveTheTerminal) {
  EXPECT_EQ(Printable("a\x1b[31mb\n"), "a?[31mb?");
  EXPECT_EQ(Printable("\xc2\x9b"
                      "x"),
            "??x");
  EXPECT_EQ(Printable("Gr\xc3\xbc\xc3\x9f"
                      "e"),
            "Gr\xc3\xbc\xc3\x9f"
            "e");
  EXPECT_EQ(Printable("\xff\xe2\x82"), "???");
}

TEST(TableTest, ColumnsAlignAndLinesEndWithoutBlanks) {
  Table table({{"NAME"}, {"USED", Table::Align::kRight}, {"STATE"}});
  table.AddRow({"a", "1 KiB", "ok"});
  table.AddRow(
      {"Gr\xc3\xbc\xc3\x9f"
       "e",
       "12 MiB", ""});
  EXPECT_EQ(table.Render(),
            "NAME     USED  STATE\n"
            "a       1 KiB  ok\n"
            "Gr\xc3\xbc\xc3\x9f"
            "e  12 MiB\n");
}

TEST(ProcTextTest, NumbersAreFoundByTheirWholeName) {
  const std::string text = "HugePages_Total_x: 9\nHugePages_Total:   7\nA: b\n";
  EXPECT_EQ(NumberOf(text, "HugePages_Total"), 7u);
  EXPECT_EQ(NumberOf(text, "A"), std::nullopt);
  EXPECT_EQ(NumberOf(text, "B"), std::nullopt);
  EXPECT_EQ(ChosenOf("always [madvise] never\n"), "madvise");
  EXPECT_EQ(ChosenOf("missing"), "missing");
  EXPECT_EQ(ParseNumber("max\n"), std::nullopt);
  EXPECT_EQ(ParseNumber(" 42\n"), 42u);
}

}  // namespace
}  // namespace agentmem::memctl
