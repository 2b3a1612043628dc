#include "proto/key_text.h"

#include <gtest/gtest.h>

namespace agentmem {
namespace {

TEST(KeyText, ItIsTheGroupAColonAndTheNameInTheOrderOfTheWords) {
  EXPECT_EQ(KeyText(Key{0x2a, {0x00112233, 0x44556677, 0x8899aabb}}),
            "0000002a:00112233445566778899aabb");
  EXPECT_EQ(KeyText(Key{5, {1, 0, 1}}), "00000005:000000010000000000000001");
}

}  // namespace
}  // namespace agentmem
