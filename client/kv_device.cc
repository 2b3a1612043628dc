#include "client/kv_device.h"

#include <utility>

#include "client/kv_wait.h"

namespace agentmem::client {
namespace {

// Copies of all of a large machine's DRAM take less.
constexpr std::uint64_t kBrokenNs = 30'000'000'000;

}  // namespace

KvDevice::KvDevice(agentmem_client* client, std::unique_ptr<Device> device,
                   std::unique_ptr<ExtentHolds> holds,
                   const Crossovers& crossovers)
    : client_(client),
      device_(std::move(device)),
      holds_(std::move(holds)),
      crossovers_(crossovers),
      memory_(std::make_unique<DeviceMemory>(device_.get(), holds_.get())) {}

KvDevice::~KvDevice() {
  if (WaitForDevice([this] { return Sweep(); }, Deadline::After(kBrokenNs))) {
    memory_->ReleaseAll();
    holds_.reset();  // memd's wishes go to nobody before the memory ends
    return;
  }
  // It may write still: its memory stays registered, and memd holds it until
  // this process ends.
  MutexLock lock(&mutex_);
  for (auto& transfer : abandoned_) (void)transfer.release();
  (void)memory_.release();
  (void)holds_.release();
  (void)device_.release();
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
  MutexLock lock(&mutex_);
  std::erase_if(abandoned_,
                [](const auto& transfer) { return transfer->Advance(); });
  return abandoned_.empty();
}

}  // namespace agentmem::client
