#include "memd/agents/working_set.h"

#include <gtest/gtest.h>

#include <random>

#include "base/status.h"

namespace agentmem {
namespace {

const Key kKey = Key::FromWords(1, 2);

TEST(WorkingSetTest, PagesComeBackInTheirOrder) {
  const WorkingSet pages = {7, 0, 16'777'215, 3, 4, 5, 100};
  const auto read = DecodeWorkingSet(kKey, EncodeWorkingSet(pages), 16'777'216);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(*read, pages);
  EXPECT_TRUE(DecodeWorkingSet(kKey, EncodeWorkingSet({}), 1)->empty());
}

TEST(WorkingSetTest, WhatIsNotOneIsDataLossThatSaysWhy) {
  const auto refused = [](const std::string& bytes, std::uint64_t page_count,
                          const std::string& why) {
    const absl::Status status =
        DecodeWorkingSet(kKey, bytes, page_count).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_NE(StatusMessage(status).find(why), std::string::npos)
        << StatusMessage(status);
  };
  const std::string good = EncodeWorkingSet(WorkingSet{5, 6});
  refused(good, 6, "entry 1");  // the region has pages 0 to 5
  refused(good + "x", 100, "length");
  refused(good.substr(0, good.size() - 1), 100, "length");
  refused(good.substr(0, 10), 100, "10 bytes");
  refused(EncodeWorkingSet(WorkingSet{5, 5}), 100, "twice");
  std::string other = good;
  other[0] = 'x';
  refused(other, 100, "magic");
  other = good;
  other[8] = 9;
  refused(other, 100, "format 9, expected 1");
  refused(EncodeWorkingSet(WorkingSet(kWorkingSetPagesMax + 1)), 100, "pages");
}

TEST(WorkingSetTest, BrokenBytesNeverNameAPageBeyondTheRegion) {
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = EncodeWorkingSet(WorkingSet{5, 90, 6, 40});
    for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips) {
      bytes[12 + random() % (bytes.size() - 12)] = static_cast<char>(random());
    }
    const auto read = DecodeWorkingSet(kKey, bytes, 100);
    if (!read.ok()) continue;
    for (const std::uint32_t page : *read) EXPECT_LT(page, 100u);
  }
}

TEST(WorkingSetTest, ASetGrowsByWhatIsNewUntilItIsTooLarge) {
  EXPECT_EQ(MergeWorkingSets({5, 3}, {3, 9, 5, 9, 1}),
            (WorkingSet{5, 3, 9, 1}));
  std::vector<std::uint32_t> many(kWorkingSetPagesMax);
  for (std::uint32_t i = 0; i < many.size(); ++i) many[i] = i;
  EXPECT_EQ(MergeWorkingSets({}, many).size(), many.size());
  EXPECT_TRUE(MergeWorkingSets({1'000'000}, many).empty());
}

}  // namespace
}  // namespace agentmem
