#include "client/process.h"

#include <sys/mman.h>

#include "client/thread_contexts.h"

namespace agentmem::client {
namespace {

std::atomic<Process::Cell*> g_cell = nullptr;
// For leak checkers, which do not look into mapped pages.
std::atomic<Process*> g_made = nullptr;

Process::Cell* ObtainCell() {
  Process::Cell* cell = g_cell.load(std::memory_order_acquire);
  if (cell != nullptr) return cell;
  constexpr std::size_t kPage = 4096;
  void* page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return nullptr;
  if (madvise(page, kPage, MADV_WIPEONFORK) != 0) {
    munmap(page, kPage);
    return nullptr;
  }
  auto* made = static_cast<Process::Cell*>(page);
  if (g_cell.compare_exchange_strong(cell, made, std::memory_order_acq_rel)) {
    return made;
  }
  munmap(page, kPage);
  return cell;
}

}  // namespace

Process* Process::Obtain() {
  Cell* cell = ObtainCell();
  if (cell == nullptr) return nullptr;
  Process* process = cell->load(std::memory_order_acquire);
  if (process != nullptr) return process;
  auto* made = new Process();
  if (cell->compare_exchange_strong(process, made, std::memory_order_acq_rel)) {
    g_made.store(made, std::memory_order_relaxed);
    return made;
  }
  delete made;
  return process;
}

Process* Process::Current() {
  const Cell* cell = g_cell.load(std::memory_order_acquire);
  return cell == nullptr ? nullptr : cell->load(std::memory_order_acquire);
}

const Process::Cell* Process::cell() {
  return g_cell.load(std::memory_order_acquire);
}

std::uint64_t Process::Register(ThreadContexts* contexts) {
  MutexLock lock(&mutex_);
  const std::uint64_t client_id = next_client_id_++;
  clients_[client_id] = contexts;
  return client_id;
}

void Process::Unregister(std::uint64_t client_id) {
  MutexLock lock(&mutex_);
  const auto client = clients_.find(client_id);
  if (client == clients_.end()) return;
  client->second->DetachAll();
  clients_.erase(client);
}

bool Process::Knows(std::uint64_t client_id) {
  MutexLock lock(&mutex_);
  return clients_.contains(client_id);
}

void Process::ThreadExits(ThreadContext* context) {
  MutexLock lock(&mutex_);
  const auto client = clients_.find(context->client_id);
  if (client != clients_.end()) client->second->Detach(context);
}

}  // namespace agentmem::client
