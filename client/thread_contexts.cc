#include "client/thread_contexts.h"

#include <memory>
#include <vector>

#include "client/channel.h"

namespace agentmem::client {

__thread ThreadCache t_cache = {0, nullptr};

namespace {

// All contexts of a thread; gives them back when the thread ends. In a forked
// child there is nothing to give back to.
class ThreadExit {
 public:
  ~ThreadExit() {
    t_cache = {0, nullptr};
    t_ended = true;
    Process* process = Process::Current();
    for (auto& context : contexts) {
      if (process != nullptr) {
        process->ThreadExits(context.get());
      } else {
        static_cast<void>(context.release());
      }
    }
  }

  static thread_local bool t_ended;

  std::vector<std::unique_ptr<ThreadContext>> contexts;
};

thread_local bool ThreadExit::t_ended = false;
thread_local ThreadExit t_exit;

}  // namespace

ThreadContexts::ThreadContexts(Process* process, Channel* channel,
                               const std::atomic<Session*>* current)
    : process_(process),
      channel_(channel),
      current_session_(current),
      client_id_(process->Register(this)) {}

ThreadContexts::~ThreadContexts() { process_->Unregister(client_id_); }

ThreadContext* ThreadContexts::Attach() {
  if (ThreadExit::t_ended) return nullptr;
  ThreadContext* context = nullptr;
  for (auto& known : t_exit.contexts) {
    if (known->client_id == client_id_) context = known.get();
  }
  if (context == nullptr) {
    std::erase_if(t_exit.contexts, [this](const auto& known) {
      return !process_->Knows(known->client_id);  // that client was closed
    });
    t_exit.contexts.push_back(std::make_unique<ThreadContext>());
    context = t_exit.contexts.back().get();
    context->client_id = client_id_;
    MutexLock lock(&mutex_);
    contexts_.push_back(context);
  }
  if (context->session != current_session_->load(std::memory_order_acquire)) {
    {
      MutexLock lock(&mutex_);
      LeaveSession(context);
    }
    Session* session = channel_->Acquire();
    context->session = session;
    context->index = session->index();
    context->data = session->data();
    context->data_bytes = session->data_bytes();
    TryTakeTable(context);
  }
  t_cache = {client_id_, context};
  return context;
}

void ThreadContexts::TryTakeTable(ThreadContext* context) {
  MutexLock lock(&mutex_);
  TakeTable(context);
}

void ThreadContexts::TakeTable(ThreadContext* context) {
  Session* session = context->session;
  const std::uint64_t free = ~session->tables_taken;
  static_assert(kThreadTables == 64);
  if (free == 0) return;
  const int index = __builtin_ctzll(free);
  session->tables_taken |= 1ULL << index;
  PinTable* table = &session->tables[index];
  table->owned = true;
  // Before the first pin: memd must look at this table from now on.
  session->file().header().thread_table_mask.fetch_or(
      1ULL << index, std::memory_order_seq_cst);
  session->Ref();
  context->pins = table;
}

void ThreadContexts::Recycle(PinTable* table) {
  Session* session = table->session;
  const std::uint64_t bit = 1ULL << (table - session->tables.data());
  session->file().header().thread_table_mask.fetch_and(
      ~bit, std::memory_order_seq_cst);
  session->tables_taken &= ~bit;
  session->Unref();
}

void ThreadContexts::Detach(ThreadContext* context) {
  MutexLock lock(&mutex_);
  LeaveSession(context);
  std::erase(contexts_, context);
}

void ThreadContexts::DetachAll() {
  MutexLock lock(&mutex_);
  for (ThreadContext* context : contexts_) LeaveSession(context);
  contexts_.clear();
}

void ThreadContexts::LeaveSession(ThreadContext* context) {
  PinTable* table = context->pins;
  context->pins = nullptr;
  if (table != nullptr) {
    table->owned = false;
    table->CollectReturned();
    if (table->AllFree()) Recycle(table);
  }
  if (context->session != nullptr) context->session->Unref();
  context->session = nullptr;
}

void ThreadContexts::ReturnPin(PinTable* table, int pin) {
  MutexLock lock(&mutex_);
  table->shared->pins[pin].store(0, std::memory_order_release);
  if (table->owned) {
    table->returned[pin >> 6].fetch_or(1ULL << (pin & 63),
                                       std::memory_order_relaxed);
    return;
  }
  table->MarkFree(pin);
  if (table->AllFree()) Recycle(table);
}

bool ThreadContexts::CollectReturned(PinTable* table) {
  if (!table->HasReturned()) return false;
  MutexLock lock(&mutex_);
  table->CollectReturned();
  return true;
}

}  // namespace agentmem::client
