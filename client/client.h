// A client: the parts that stand behind an agentmem_client.
//
// Ownership: owns its parts; ends with agentmem_close. Threads: thread-safe.
// Errors: Connect as agentmem_connect. Cost: Forked is two loads.
#ifndef AGENTMEM_CLIENT_CLIENT_H_
#define AGENTMEM_CLIENT_CLIENT_H_

#include <atomic>
#include <cstring>

#include "client/agent_link.h"
#include "client/channel.h"
#include "client/naming.h"
#include "client/objects.h"
#include "client/process.h"
#include "client/reader.h"
#include "client/thread_contexts.h"
#include "client/writer.h"

namespace agentmem::client {

class Client {
 public:
  Client(Process* process, Endpoint endpoint)
      : process_(process),
        cell_(Process::cell()),
        channel_(std::move(endpoint)),
        contexts_(process, &channel_, channel_.current()),
        reader_(&contexts_, &channel_),
        writer_(&channel_),
        objects_(&reader_, &writer_),
        agents_(channel_.endpoint()) {}

  // In a forked child: nothing of this may be touched.
  bool Forked() const {
    return cell_->load(std::memory_order_relaxed) != process_;
  }

  // Of the tenant that memd chose.
  TenantKey tenant_key() {
    Session* session = channel_.Acquire();
    TenantKey key;
    std::memcpy(key.data(), session->welcome().tenant_key, key.size());
    session->Unref();
    return key;
  }

  Channel& channel() { return channel_; }
  ThreadContexts& contexts() { return contexts_; }
  Reader& reader() { return reader_; }
  Writer& writer() { return writer_; }
  Objects& objects() { return objects_; }
  AgentLink& agents() { return agents_; }
  // There is one place for a device (agentmem_device_open).
  bool TakeDevicePlace() { return !has_device_.exchange(true); }
  void GiveDevicePlace() { has_device_ = false; }

 private:
  Process* const process_;
  const Process::Cell* const cell_;
  Channel channel_;
  ThreadContexts contexts_;  // ends before the channel unmaps the sessions
  Reader reader_;
  Writer writer_;
  Objects objects_;
  AgentLink agents_;
  std::atomic<bool> has_device_ = false;
};

}  // namespace agentmem::client

// The C ABI's names for them.
struct agentmem_client : agentmem::client::Client {
  using Client::Client;
};

#endif  // AGENTMEM_CLIENT_CLIENT_H_
