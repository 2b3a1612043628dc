#include "cuda/open_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cuda/host_device.h"

namespace agentmem {
namespace {

// On any machine, with a GPU or not, with CUDA built in or not.
TEST(OpenDeviceTest, AGpuThatIsNotThereIsUnavailableAndSaysWhichAndWhy) {
  std::unique_ptr<Device> device =
      std::make_unique<HostDevice>(HostDevice::Options());
  const Outcome outcome = OpenDevice(1000, &device);
  EXPECT_EQ(outcome.code, Code::kUnavailable);
  EXPECT_THAT(outcome.message, ::testing::HasSubstr("GPU 1000"));
  EXPECT_GT(outcome.message.size(), 20u) << outcome.message;
  EXPECT_EQ(device, nullptr);
}

}  // namespace
}  // namespace agentmem
