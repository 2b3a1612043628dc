#include "tests/demo/device_bytes.h"

#include <sched.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "cuda/device.h"
#include "cuda/open_device.h"

namespace agentmem::demo {
namespace {

absl::Status ToAbsl(const Outcome& outcome) {
  if (outcome.ok()) return absl::OkStatus();
  return MakeStatus(static_cast<absl::StatusCode>(outcome.code),
                    outcome.message);
}

}  // namespace

class DeviceBytes::Gpu {
 public:
  Gpu(std::unique_ptr<Device> device, std::size_t bytes)
      : device_(std::move(device)), pinned_(bytes) {}
  ~Gpu() {
    // Nobody is there to be told, and the memory goes either way.
    if (registered_) {
      (void)device_->Register(pinned_, Device::Registration::kEnd);
    }
  }

  absl::Status Register() {
    AGENTMEM_RETURN_IF_ERROR(
        ToAbsl(device_->Register(pinned_, Device::Registration::kBegin)));
    registered_ = true;
    return absl::OkStatus();
  }
  char* pinned() { return pinned_.data(); }
  absl::Status Copy(Direction direction,
                    std::span<const std::uint64_t> addresses,
                    std::uint32_t run_bytes);

 private:
  const std::unique_ptr<Device> device_;
  std::vector<char> pinned_;
  bool registered_ = false;
};

absl::Status DeviceBytes::Gpu::Copy(Direction direction,
                                    std::span<const std::uint64_t> addresses,
                                    std::uint32_t run_bytes) {
  std::vector<Fragment> fragments;
  fragments.reserve(addresses.size());
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    fragments.push_back({DeviceAddress(addresses[i]),
                         pinned_.data() + i * run_bytes, run_bytes});
  }
  const DeviceProperties& properties = device_->properties();
  const Stream stream = direction == Direction::kToHost ? properties.to_host
                                                        : properties.to_device;
  Event event{};
  Outcome outcome =
      device_->Copy({direction, CopyMethod::kCopyEngine, fragments}, stream);
  if (outcome.ok()) outcome = device_->Record(stream, &event);
  AGENTMEM_RETURN_IF_ERROR(ToAbsl(outcome));
  while (true) {
    const EventState state = device_->Query(event, &outcome);
    if (state == EventState::kPassed) return absl::OkStatus();
    if (state == EventState::kFailed) return ToAbsl(outcome);
    ::sched_yield();
  }
}

DeviceBytes::DeviceBytes() = default;
DeviceBytes::~DeviceBytes() = default;

absl::StatusOr<std::unique_ptr<DeviceBytes>> DeviceBytes::Make(
    std::size_t bytes) {
  std::unique_ptr<DeviceBytes> made(new DeviceBytes());
  std::unique_ptr<Device> gpu;
  const Outcome opened = OpenDevice(0, &gpu);
  made->why_no_gpu_ = opened.message;
  if (!opened.ok()) return made;
  made->gpu_ = std::make_unique<Gpu>(std::move(gpu), bytes);
  AGENTMEM_RETURN_IF_ERROR(made->gpu_->Register());
  return made;
}

absl::Status DeviceBytes::Write(std::span<const std::uint64_t> addresses,
                                std::uint32_t run_bytes,
                                std::span<const std::byte> from) {
  if (gpu_ != nullptr) {
    std::memcpy(gpu_->pinned(), from.data(), from.size());
    return gpu_->Copy(Direction::kToDevice, addresses, run_bytes);
  }
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    std::memcpy(reinterpret_cast<char*>(addresses[i]), &from[i * run_bytes],
                run_bytes);
  }
  return absl::OkStatus();
}

absl::Status DeviceBytes::Read(std::span<const std::uint64_t> addresses,
                               std::uint32_t run_bytes,
                               std::span<std::byte> to) {
  if (gpu_ != nullptr) {
    AGENTMEM_RETURN_IF_ERROR(
        gpu_->Copy(Direction::kToHost, addresses, run_bytes));
    std::memcpy(to.data(), gpu_->pinned(), to.size());
    return absl::OkStatus();
  }
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    std::memcpy(&to[i * run_bytes], reinterpret_cast<const char*>(addresses[i]),
                run_bytes);
  }
  return absl::OkStatus();
}

}  // namespace agentmem::demo
