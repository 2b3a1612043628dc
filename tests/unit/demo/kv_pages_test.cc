#include "tests/demo/kv_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

namespace agentmem::demo {
namespace {

std::vector<std::byte> Block() {
  std::vector<std::byte> block(kKvBlockBytes);
  FillContent(KvContentOf(1, 2, 3), block);
  return block;
}

TEST(KvPages, WhatGoesIntoPagesComesBackInBothOrders) {
  const std::vector<std::byte> block = Block();
  for (const KvOrder order : {KvOrder::kTokensFirst, KvOrder::kHeadsFirst}) {
    std::vector<std::byte> runs(kKvBlockBytes);
    std::vector<std::byte> back(kKvBlockBytes);
    KvToRuns(order, block, runs);
    KvFromRuns(order, runs, back);
    EXPECT_EQ(back, block);
  }
}

// docs/kv.md: [layer][plane][token][head][element].
TEST(KvPages, ATokensHeadLiesWhereItsStridesSay) {
  const std::vector<std::byte> block = Block();
  const std::uint32_t layer = 5;
  const std::uint32_t plane = 1;
  const std::uint32_t token = 21;  // the sixth of the second page
  const std::uint32_t head = 2;
  const std::uint64_t in_block =
      (((std::uint64_t{layer} * kKvPlanes + plane) * 32 + token) * kKvHeads +
       head) *
      kKvHeadBytes;
  for (const auto& [order, in_run] :
       {std::pair(KvOrder::kTokensFirst, (5 * kKvHeads + head) * kKvHeadBytes),
        std::pair(KvOrder::kHeadsFirst,
                  (head * kKvPageTokens + 5) * kKvHeadBytes)}) {
    std::vector<std::byte> runs(kKvBlockBytes);
    KvToRuns(order, block, runs);
    std::uint32_t run = 0;
    for (std::uint32_t i = 0; i < kKvRuns; ++i) {
      const KvRun of = KvRunOf(i);
      if (of.layer == layer && of.plane == plane && of.page == 1) run = i;
    }
    EXPECT_EQ(std::memcmp(&runs[run * kKvRunBytes + in_run], &block[in_block],
                          kKvHeadBytes),
              0);
  }
}

TEST(KvPages, TheTwoOrdersDiffer) {
  const std::vector<std::byte> block = Block();
  std::vector<std::byte> one(kKvBlockBytes);
  std::vector<std::byte> other(kKvBlockBytes);
  KvToRuns(KvOrder::kTokensFirst, block, one);
  KvToRuns(KvOrder::kHeadsFirst, block, other);
  EXPECT_NE(one, other);
}

TEST(KvPages, EachBlockOfEachAgentUnderEachSeedHasBytesOfItsOwn) {
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    for (std::uint32_t agent = 0; agent < 8; ++agent) {
      for (std::uint32_t number = 0; number < 64; ++number) {
        const ContentId id = KvContentOf(seed, agent, number);
        seen.insert({id.low, id.high});
      }
    }
  }
  EXPECT_EQ(seen.size(), 4u * 8 * 64);
}

}  // namespace
}  // namespace agentmem::demo
