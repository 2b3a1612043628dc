#include "benchmarks/hbm_post.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "base/status.h"
#include "benchmarks/hbm_memory.h"
#include "cuda/host_device.h"

namespace agentmem::bench {
namespace {

TEST(HbmPostTest, ADeviceThatDoesNotEndWhatItHasBegunIsNotWaitedForForever) {
  HostDevice device{HostDevice::Options()};
  HbmMemory memory(&device);
  ASSERT_TRUE(memory.Take(1 << 20).ok());
  HbmPost post(&device, kMillisecondNs);
  device.Hold();
  ASSERT_TRUE(
      post.CopyPinned(Direction::kToDevice, memory.device(), memory.source())
          .ok());
  const absl::Status waited = post.Await();
  EXPECT_EQ(waited.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_NE(StatusMessage(waited).find("1 ms ago"), std::string::npos)
      << StatusMessage(waited);
  device.Run();
  EXPECT_TRUE(HbmPost(&device).Await().ok());
}

TEST(HbmPostTest, ADeviceIsLostThatDoesNotComeToTheEndOfWhatItHas) {
  HostDevice device{HostDevice::Options()};
  EXPECT_FALSE(IsLost(&device));
  device.Hold();
  EXPECT_TRUE(IsLost(&device, kMillisecondNs));
  device.Run();
  EXPECT_FALSE(IsLost(&device));
}

TEST(HbmPostTest, WhatIsDoneInTimeHasNoDeadline) {
  HostDevice device{HostDevice::Options()};
  HbmMemory memory(&device);
  ASSERT_TRUE(memory.Take(1 << 20).ok());
  std::memset(memory.source().data(), 7, memory.source().size());
  HbmPost post(&device);
  ASSERT_TRUE(
      post.CopyPinned(Direction::kToDevice, memory.device(), memory.source())
          .ok());
  ASSERT_TRUE(post.Await().ok());
  EXPECT_EQ(post.pending(), 0u);
  EXPECT_EQ(HostDevice::Bytes(memory.device())[(1 << 20) - 1], 7);
}

}  // namespace
}  // namespace agentmem::bench
