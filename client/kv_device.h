// What stands behind an agentmem_device: a device, the memory that it reaches,
// transfers that their owners gave up before they were done, and a pool of
// blocks in the device's memory with its keeper, if it was asked for; and the
// registrar, which registers DRAM before it is used.
//
// Ownership: owns the device; borrows the client, which outlives it. Threads:
// thread-safe. Errors: Open as agentmem_device_open, OpenPool as
// agentmem_hbm_open. Cost: Sweep: a look at each abandoned transfer; SweepAll:
// at each that is open, too. Neither waits for memd.
#ifndef AGENTMEM_CLIENT_KV_DEVICE_H_
#define AGENTMEM_CLIENT_KV_DEVICE_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "agentmem/kv.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "client/client.h"
#include "client/device_memory.h"
#include "client/hbm_keeper.h"
#include "client/hbm_link.h"
#include "client/hbm_pool.h"
#include "client/kv_open_transfer.h"
#include "client/kv_transfer.h"
#include "client/registrar.h"
#include "cuda/device.h"

namespace agentmem::client {

class KvDevice {
 public:
  KvDevice(agentmem_client* client, std::unique_ptr<Device> device,
           std::unique_ptr<ExtentHolds> holds, const Crossovers& crossovers,
           std::string note);
  ~KvDevice();
  // DRAM is registered ahead from here on. (Without a thread for it, when it is
  // used.)
  void StartRegistrar() { (void)registrar_->Start(); }
  // Waits for the device. False: it does not end what it has begun
  // (kDeviceBrokenNs), and may write still. What it writes into then stays,
  // registered and held, until this process is dead. What has been copied and
  // memd's ring had no room for is the client's (Channel::Queue), and blocks of
  // a pool that are of class state are its keeper's.
  bool Close() AGENTMEM_EXCLUDES(mutex_, pool_mutex_);

  agentmem_client* client() const { return client_; }
  Device* device() { return device_.get(); }
  DeviceMemory* memory() { return memory_.get(); }
  const Crossovers& crossovers() const { return crossovers_; }
  // What was in the way of measuring them, or of keeping them.
  const std::string& note() const { return note_; }
  KvParts parts();

  Outcome OpenPool(std::uint64_t wanted_bytes, const Deadline& deadline)
      AGENTMEM_EXCLUDES(pool_mutex_);
  // Null: it was not opened.
  HbmPool* pool() const { return pool_now_.load(std::memory_order_acquire); }
  HbmKeeper* keeper() const {
    return keeper_now_.load(std::memory_order_acquire);
  }
  // What the pool has gives way.
  Outcome Allocate(std::uint64_t bytes, DeviceAddress* memory);

  // What is in its owner's hand; with a pool, SweepAll advances it.
  std::shared_ptr<KvOpenTransfer> Hand(std::unique_ptr<KvTransfer> transfer)
      AGENTMEM_EXCLUDES(open_mutex_);
  // Advances it until it is done, whoever calls next.
  void Abandon(std::unique_ptr<KvTransfer> transfer) AGENTMEM_EXCLUDES(mutex_);
  // Hears memd's wishes, too. True: nothing is left.
  bool Sweep() AGENTMEM_EXCLUDES(mutex_);
  // As Sweep; open transfers whose copies have ended give back their blocks,
  // too.
  bool SweepAll() AGENTMEM_EXCLUDES(mutex_, open_mutex_);

 private:
  agentmem_client* const client_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<ExtentHolds> holds_;
  const Crossovers crossovers_;
  const std::string note_;
  std::unique_ptr<DeviceMemory> memory_;
  std::unique_ptr<Registrar> registrar_;
  const MonotonicClock clock_;
  Mutex pool_mutex_;
  std::unique_ptr<HbmLink> link_ AGENTMEM_GUARDED_BY(pool_mutex_);
  std::unique_ptr<HbmPool> pool_ AGENTMEM_GUARDED_BY(pool_mutex_);
  std::unique_ptr<HbmKeeper> keeper_ AGENTMEM_GUARDED_BY(pool_mutex_);
  std::atomic<HbmPool*> pool_now_ = nullptr;
  std::atomic<HbmKeeper*> keeper_now_ = nullptr;
  Mutex mutex_;
  std::vector<std::unique_ptr<KvTransfer>> abandoned_
      AGENTMEM_GUARDED_BY(mutex_);
  Mutex open_mutex_;
  std::vector<std::shared_ptr<KvOpenTransfer>> open_
      AGENTMEM_GUARDED_BY(open_mutex_);
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_KV_DEVICE_H_
