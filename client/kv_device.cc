#include "client/kv_device.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "client/hbm_agent_link.h"
#include "client/kv_wait.h"

namespace agentmem::client {
namespace {

// Each takes milliseconds of whoever sweeps.
constexpr std::size_t kTidyExtents = 2;
// For blocks to leave the pool: a second's copies are more than a device has.
constexpr std::uint64_t kMakeRoomNs = kSecondNs;
// For a connection to a memd that is there.
constexpr std::uint64_t kMeetNs = kSecondNs;

}  // namespace

KvDevice::KvDevice(agentmem_client* client, std::unique_ptr<Device> device,
                   std::unique_ptr<ExtentHolds> holds,
                   const Crossovers& crossovers, std::string note)
    : client_(client),
      device_(std::move(device)),
      holds_(std::move(holds)),
      crossovers_(crossovers),
      note_(std::move(note)),
      memory_(std::make_unique<DeviceMemory>(device_.get(), holds_.get())),
      registrar_(
          std::make_unique<Registrar>(&client_->channel(), memory_.get())) {}

KvDevice::~KvDevice() = default;

bool KvDevice::Close() {
  const Deadline deadline = Deadline::After(kDeviceBrokenNs);
  registrar_->AskToStop();
  bool ended = WaitForDevice(
      [&] {
        const bool is_swept = Sweep();
        return is_swept && registrar_->HasStopped();
      },
      deadline);
  MutexLock pool_lock(&pool_mutex_);
  if (keeper_ != nullptr) ended = keeper_->Stop() && ended;
  pool_now_ = nullptr;
  keeper_now_ = nullptr;
  if (ended) {
    registrar_.reset();
    keeper_.reset();
    pool_.reset();
    memory_->ReleaseAll();
    holds_.reset();  // memd's wishes go to nobody before the memory ends
    return true;
  }
  client_->channel().StayUntilDeath();
  memory_->Abandon();
  (void)registrar_.release();
  (void)keeper_.release();
  (void)link_.release();
  (void)pool_.release();
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
  parts.pool = pool();
  return parts;
}

Outcome KvDevice::OpenPool(std::uint64_t wanted_bytes,
                           const Deadline& deadline) {
  MutexLock lock(&pool_mutex_);
  if (pool_ != nullptr) {
    return Fail(Code::kFailedPrecondition,
                "the device has a pool already; it ends with the device");
  }
  HbmPool::Options options;
  options.device = device_.get();
  options.clock = &clock_;
  options.wanted_bytes = wanted_bytes;
  Reader* const reader = &client_->reader();
  options.is_below = [reader](const Key& key, BlockClass block_class) {
    const std::optional<BlockClass> below = reader->ClassBelow(key);
    // What is of class state here must be so there.
    return below.has_value() &&
           (block_class == BlockClass::kCache || below == BlockClass::kState);
  };
  auto pool = std::make_unique<HbmPool>(std::move(options));
  auto link = std::make_unique<HbmAgentLink>(client_->channel().endpoint(),
                                             device_->properties());
  HbmKeeper::Parts keeper_parts;
  keeper_parts.kv = parts();
  keeper_parts.pool = pool.get();
  keeper_parts.link = link.get();
  keeper_parts.clock = &clock_;
  keeper_parts.sweep = [this] { return SweepAll(); };
  keeper_parts.meet = [this] {
    Session* session = nullptr;
    const Outcome met =
        client_->channel().AcquireLive(Deadline::After(kMeetNs), &session);
    if (met.ok()) session->Unref();  // else a write asks again
  };
  auto keeper = std::make_unique<HbmKeeper>(keeper_parts);
  Outcome outcome = keeper->Open(deadline);
  if (outcome.ok()) outcome = keeper->Start();
  if (!outcome.ok()) return outcome;
  pool_ = std::move(pool);
  link_ = std::move(link);
  keeper_ = std::move(keeper);
  pool_now_ = pool_.get();
  keeper_now_ = keeper_.get();
  return {};
}

Outcome KvDevice::Allocate(std::uint64_t bytes, DeviceAddress* memory) {
  for (;;) {
    Outcome outcome = device_->Allocate(bytes, memory);
    if (outcome.code != Code::kResourceExhausted || pool() == nullptr ||
        bytes > device_->properties().memory_bytes) {
      return outcome;
    }
    // What is free may lie apart: it may take more than that.
    const std::uint64_t has = pool()->counts().allocated_bytes;
    if (has == 0 || !keeper()->MakeRoom(has - std::min(has, bytes),
                                        Deadline::After(kMakeRoomNs))) {
      return outcome;
    }
  }
}

// (Without a pool it has no blocks there, and its owner ends it.)
std::shared_ptr<KvOpenTransfer> KvDevice::Hand(
    std::unique_ptr<KvTransfer> transfer) {
  auto open = std::make_shared<KvOpenTransfer>(std::move(transfer));
  if (pool() == nullptr) return open;
  MutexLock lock(&open_mutex_);
  open_.push_back(open);
  return open;
}

void KvDevice::Abandon(std::unique_ptr<KvTransfer> transfer) {
  const bool is_done = transfer->Advance();
  memory_->GiveWanted();
  if (is_done) return;
  {
    MutexLock lock(&mutex_);
    abandoned_.push_back(std::move(transfer));
  }
  if (HbmKeeper* const now = keeper(); now != nullptr) now->Wake();
}

bool KvDevice::Sweep() {
  client_->channel().Poll();
  Session* const session = client_->channel().Acquire();
  memory_->Tidy(session, kTidyExtents);
  session->Unref();
  bool is_empty = false;
  {
    MutexLock lock(&mutex_);
    std::erase_if(abandoned_,
                  [](const auto& transfer) { return transfer->Advance(); });
    is_empty = abandoned_.empty();
  }
  memory_->GiveWanted();
  return is_empty;
}

// Nobody who begins or ends a transfer waits meanwhile.
bool KvDevice::SweepAll() {
  std::vector<std::shared_ptr<KvOpenTransfer>> open;
  {
    MutexLock lock(&open_mutex_);
    open.swap(open_);
  }
  std::erase_if(open, [](const auto& one) { return one->AdvanceIfFree(); });
  {
    MutexLock lock(&open_mutex_);
    open_.insert(open_.end(), open.begin(), open.end());
  }
  open.clear();
  return Sweep();
}

}  // namespace agentmem::client
