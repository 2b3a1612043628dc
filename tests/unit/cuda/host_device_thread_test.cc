// Threads that share a device; the device's own thread copies beside them.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
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

// Of a piece of FP8: its pages, which are apart from where its plane begins,
// its codes, its scales.
TEST(HostDeviceThreadTest, WhatAPieceTouchesIsNotTakenFromUnderIt) {
  HostDevice::Options options;
  options.held = true;
  HostDevice device(options);
  std::string codes(4096, 'h');
  std::vector<float> scales(1);
  const std::span<char> scale_bytes(reinterpret_cast<char*>(scales.data()), 4);
  DeviceAddress low, high;
  ASSERT_TRUE(device.Allocate(4096, &low).ok());
  ASSERT_TRUE(device.Allocate(4096, &high).ok());
  if (low.value() > high.value()) std::swap(low, high);
  ASSERT_TRUE(device.Register(codes, Registration::kBegin).ok());
  ASSERT_TRUE(device.Register(scale_bytes, Registration::kBegin).ok());
  Fp8Shape shape;
  shape.page_tokens = 1;
  shape.heads = 1;
  shape.head_size = 8;
  // Its page 1 is in the higher memory, its page 0, which it does not touch, in
  // the lower.
  shape.page_stride = high.value() - low.value();
  const std::uint32_t page = 1;
  const Fp8Piece piece = {low, reinterpret_cast<std::uint8_t*>(codes.data()),
                          scales.data(), 0, 1};
  const Fp8Batch fp8 = {shape, {&piece, 1}, {&page, 1}};
  CopyBatch batch;
  batch.fp8 = &fp8;
  std::uint64_t broken = 0;
  const auto taken_under_it = [&](auto take) {
    ASSERT_TRUE(device.Copy(batch, Stream::Of(7)).ok());
    std::thread taking(take);
    while (device.broken_rules() == broken) std::this_thread::yield();
    ++broken;
    EXPECT_EQ(device.Step(1), 1u);
    taking.join();
  };
  taken_under_it(
      [&] { (void)device.Register(scale_bytes, Registration::kEnd); });
  ASSERT_TRUE(device.Register(scale_bytes, Registration::kBegin).ok());
  taken_under_it([&] { (void)device.Register(codes, Registration::kEnd); });
  ASSERT_TRUE(device.Register(codes, Registration::kBegin).ok());
  taken_under_it([&] { device.Free(high); });
  EXPECT_EQ(device.broken_rules(), 3u);
  EXPECT_EQ(device.counts().fp8_pieces, 3u);
}

}  // namespace
}  // namespace agentmem
