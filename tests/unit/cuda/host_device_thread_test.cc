// Threads that share a device; the device's own thread copies beside them.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "cuda/host_device.h"

namespace agentmem {
namespace {

using Registration = Device::Registration;

// Sends `rounds` blocks to the device and back, on a stream of its own or a
// shared one, and counts the bytes that came back wrong.
int SendAndFetch(HostDevice* device, Stream stream, int seed, int rounds) {
  constexpr std::uint32_t kBytes = 4096;
  constexpr std::uint32_t kFragment = 256;
  int wrong = 0;
  std::string sent(kBytes, '\0'), fetched(kBytes, '\0');
  for (int round = 0; round < rounds; ++round) {
    DeviceAddress memory;
    wrong += !device->Allocate(kBytes, &memory).ok();
    wrong +=
        !device->Register({sent.data(), kBytes}, Registration::kBegin).ok();
    wrong +=
        !device->Register({fetched.data(), kBytes}, Registration::kBegin).ok();
    sent.assign(kBytes, static_cast<char>(seed + round));
    std::vector<Fragment> up, down;
    for (std::uint32_t at = 0; at < kBytes; at += kFragment) {
      up.push_back({memory + at, sent.data() + at, kFragment});
      down.push_back({memory + at, fetched.data() + at, kFragment});
    }
    wrong += !device->Copy({Direction::kToDevice, {}, up}, stream).ok();
    Event sent_event, event;
    wrong += !device->Record(stream, &sent_event).ok();
    const Stream back = device->properties().to_host;
    wrong += !device->Wait(back, sent_event).ok();
    wrong += !device->Copy({Direction::kToHost, {}, down}, back).ok();
    wrong += !device->Record(back, &event).ok();
    while (device->Query(event, nullptr) == EventState::kPending) {
      std::this_thread::yield();
    }
    wrong += device->Query(sent_event, nullptr) != EventState::kPassed;
    wrong += fetched != sent;
    wrong += !device->Register({sent.data(), kBytes}, Registration::kEnd).ok();
    wrong +=
        !device->Register({fetched.data(), kBytes}, Registration::kEnd).ok();
    device->Free(memory);
  }
  return wrong;
}

TEST(HostDeviceThreadTest, ThreadsThatShareADeviceReadTheirOwnBytes) {
  HostDevice device({});
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    // Two share a stream.
    threads.emplace_back([&device, &wrong, t] {
      wrong += SendAndFetch(&device, Stream::Of(10 + t / 2), t * 64, 50);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(device.broken_rules(), 0u) << device.first_broken_rule();
  EXPECT_EQ(device.counts().events_pending, 0u);
  EXPECT_EQ(device.counts().allocated_bytes, 0u);
}

TEST(HostDeviceThreadTest, FreeUnderACopyWaitsForItAndIsCounted) {
  HostDevice::Options options;
  options.held = true;
  HostDevice device(options);
  std::string host(4096, 'h');
  DeviceAddress memory;
  ASSERT_TRUE(device.Allocate(4096, &memory).ok());
  ASSERT_TRUE(device.Register({host.data(), 4096}, Registration::kBegin).ok());
  const Fragment fragment = {memory, host.data(), 4096};
  ASSERT_TRUE(
      device.Copy({Direction::kToHost, {}, {&fragment, 1}}, Stream::Of(7))
          .ok());
  std::thread freeing([&device, memory] { device.Free(memory); });
  while (device.broken_rules() == 0) std::this_thread::yield();
  EXPECT_EQ(device.counts().allocated_bytes, 4096u);
  EXPECT_EQ(device.Step(1), 1u);
  freeing.join();
  EXPECT_EQ(device.counts().allocated_bytes, 0u);
  EXPECT_EQ(host, std::string(4096, HostDevice::kPoison));
}

}  // namespace
}  // namespace agentmem
