// The C ABI's names for devices, engines' caches and transfers.
//
// Ownership: agentmem_device_close, agentmem_kv_close and
// agentmem_kv_close_transfer end them. Threads: as kv.h says. Errors: none.
// Cost: none.
#ifndef AGENTMEM_CLIENT_C_API_KV_H_
#define AGENTMEM_CLIENT_C_API_KV_H_

#include <memory>
#include <utility>

#include "agentmem/kv.h"
#include "base/mutex.h"
#include "client/kv_device.h"
#include "client/kv_open_transfer.h"

struct agentmem_device {
  agentmem::client::KvDevice of;
  bool Forked() const { return of.client()->Forked(); }
};

struct agentmem_kv {
  using Keep = std::shared_ptr<const agentmem::client::HbmKeep>;
  using Cache = std::shared_ptr<const agentmem::client::KvCache>;

  agentmem_kv(agentmem_device* of, Cache engines)
      : device(of), now(std::move(engines)) {}
  bool Forked() const { return device->Forked(); }
  agentmem::client::KvParts parts() AGENTMEM_EXCLUDES(mutex) {
    agentmem::client::KvParts parts = device->of.parts();
    agentmem::MutexLock lock(&mutex);
    parts.keep = keep;
    return parts;
  }
  // The one before ends with the last transfer that has it.
  void SetKeep(Keep next) AGENTMEM_EXCLUDES(mutex) {
    agentmem::MutexLock lock(&mutex);
    keep.swap(next);
  }

  // Transfers keep the one that they began with.
  Cache cache() const AGENTMEM_EXCLUDES(mutex) {
    agentmem::MutexLock lock(&mutex);
    return now;
  }
  void SetCache(Cache next) AGENTMEM_EXCLUDES(mutex) {
    agentmem::MutexLock lock(&mutex);
    now.swap(next);
  }

  agentmem_device* const device;
  mutable agentmem::Mutex mutex;
  Cache now AGENTMEM_GUARDED_BY(mutex);
  Keep keep AGENTMEM_GUARDED_BY(mutex);
};

struct agentmem_kv_transfer {
  agentmem_device* const device;
  const std::shared_ptr<agentmem::client::KvOpenTransfer> transfer;
  bool Forked() const { return device->Forked(); }
};

#endif  // AGENTMEM_CLIENT_C_API_KV_H_
