#include "tests/demo/device_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace agentmem::demo {
namespace {

constexpr std::uint32_t kRun = 64;

// The host device's memory is this process's: so is this.
TEST(DeviceBytes, WithoutAGpuRunsGoToTheirPlacesAndComeBack) {
  auto bytes = DeviceBytes::Make(4 * kRun);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ((*bytes)->why_no_gpu().empty(), (*bytes)->is_gpu());
  if ((*bytes)->is_gpu()) GTEST_SKIP() << "there is a GPU";
  EXPECT_NE((*bytes)->why_no_gpu().find("GPU 0"), std::string::npos);
  std::vector<std::byte> memory(8 * kRun);
  std::vector<std::byte> from(3 * kRun);
  for (std::size_t i = 0; i < from.size(); ++i) {
    from[i] = static_cast<std::byte>(i * 7 + 1);
  }
  std::vector<std::uint64_t> places;
  for (const std::size_t place : {6u, 1u, 3u}) {
    places.push_back(reinterpret_cast<std::uint64_t>(&memory[place * kRun]));
  }
  ASSERT_TRUE((*bytes)->Write(places, kRun, from).ok());
  EXPECT_TRUE(
      std::equal(from.begin(), from.begin() + kRun, memory.begin() + 6 * kRun));
  EXPECT_EQ(memory[0], std::byte{0});
  EXPECT_EQ(memory[2 * kRun], std::byte{0});
  std::vector<std::byte> to(3 * kRun);
  ASSERT_TRUE((*bytes)->Read(places, kRun, to).ok());
  EXPECT_EQ(to, from);
}

}  // namespace
}  // namespace agentmem::demo
