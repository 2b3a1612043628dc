#include "client/kv_device.h"

#include <utility>

#include "client/kv_wait.h"

namespace agentmem::client {
namespace {

// Each takes milliseconds of whoever sweeps.
constexpr std::size_t kTidyExtents = 2;

}  // namespace

KvDevice::KvDevice(agentmem_client* client, std::unique_ptr<Device> device,
                   std::unique_ptr<ExtentHolds> holds,
                   const Crossovers& crossovers, std::string note)
    : client_(client),
      device_(std::move(device)),
      holds_(std::move(holds)),
      crossovers_(crossovers),
      note_(std::move(note)),
      memory_(std::make_unique<DeviceMemory>(device_.get(), holds_.get())) {}

KvDevice::~KvDevice() = default;

bool KvDevice::Close() {
  const Deadline deadline = Deadline::After(kDeviceBrokenNs);
  if (WaitForDevice([this] { return Sweep(); }, deadline)) {
    memory_->ReleaseAll();
    holds_.reset();  // memd's wishes go to nobody before the memory ends
    return true;
  }
  client_->channel().StayUntilDeath();
  MutexLock lock(&mutex_);
  for (auto& transfer : abandoned_) (void)transfer.release();
  (void)memory_.release();
  (void)holds_.release();
  (void)device_.release();
  return false;
}

KvParts KvDevice::parts() {
  KvParts parts;
  parts.device = device_.get();
  parts.crossovers = &crossovers_;
  parts.memory = memory_.get();
  parts.reader = &client_->reader();
  parts.writer = &client_->writer();
  return parts;
}

void KvDevice::Abandon(std::unique_ptr<KvTransfer> transfer) {
  if (transfer->Advance()) return;
  MutexLock lock(&mutex_);
  abandoned_.push_back(std::move(transfer));
}

bool KvDevice::Sweep() {
  client_->channel().Poll();
  Session* const session = client_->channel().Acquire();
  memory_->Tidy(session, kTidyExtents);
  session->Unref();
  MutexLock lock(&mutex_);
  std::erase_if(abandoned_,
                [](const auto& transfer) { return transfer->Advance(); });
  return abandoned_.empty();
}

}  // namespace agentmem::client
