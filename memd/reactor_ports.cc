// Reactor: ports of memd's own threads, and connections that are for agents.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <future>

#include "base/status.h"
#include "memd/reactor.h"

namespace agentmem {
namespace {

absl::StatusOr<UniqueFd> Duplicate(const UniqueFd& fd) {
  UniqueFd copy(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy.valid()) return ErrnoStatus("duplicating an eventfd");
  return copy;
}

}  // namespace

absl::StatusOr<PortHandle> Reactor::OpenPort(const std::string& tenant,
                                             const std::string& name,
                                             std::int32_t pid) {
  using Answer = absl::StatusOr<PortHandle>;
  auto promise = std::make_shared<std::promise<Answer>>();
  auto future = promise->get_future();
  const bool posted = Post([this, promise, tenant, name, pid] {
    promise->set_value(AttachPort(tenant, name, pid));
  });
  if (!posted) return Unavailable("memd is shutting down, or overloaded");
  return future.get();
}

absl::StatusOr<LentBlocks> Reactor::WalkLent(const std::string& tenant,
                                             std::size_t cursor) {
  // Records that are looked at in a turn: tens of microseconds.
  constexpr std::size_t kLookedAt = 4096;
  LentBlocks lent;
  ExportPool* const exports =
      options_.pool == nullptr ? nullptr : options_.pool->exports.get();
  std::optional<std::uint64_t> id;
  for (const TenantDoor& door : doors_) {
    const TenantOptions& options = door.tenant->options();
    if (options.name == tenant) id = options.cluster_id;
  }
  if (exports == nullptr || !id.has_value()) return lent;
  auto promise = std::make_shared<std::promise<LentBlocks>>();
  auto future = promise->get_future();
  const bool posted = Post([promise, exports, cursor, id] {
    LentBlocks some;
    some.cursor =
        exports->Walk(cursor, kLookedAt, [&](const ExportPool::Block& block) {
          if (block.name.tenant == *id &&
              block.block_class == BlockClass::kState) {
            some.state.push_back(block.name.key);
          }
        });
    promise->set_value(std::move(some));
  });
  if (!posted) return Unavailable("memd is shutting down, or overloaded");
  return future.get();
}

absl::StatusOr<PortHandle> Reactor::AttachPort(const std::string& tenant,
                                               const std::string& name,
                                               std::int32_t pid) {
  const TenantDoor* door = nullptr;
  for (const TenantDoor& candidate : doors_) {
    if (candidate.tenant->options().name == tenant) door = &candidate;
  }
  if (door == nullptr) return NotFound("no tenant \"" + tenant + "\"");
  auto connection = std::make_unique<Connection>();
  AGENTMEM_ASSIGN_OR_RETURN(
      connection->file,
      SharedMemory::Create("agentmem-port", kClientFileBytes,
                           SharedMemory::Access::kClientsWrite));
  connection->doorbell = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  connection->wake = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!connection->doorbell.valid() || !connection->wake.valid()) {
    return ErrnoStatus("eventfd");
  }
  PortHandle handle;
  AGENTMEM_ASSIGN_OR_RETURN(handle.doorbell, Duplicate(connection->doorbell));
  AGENTMEM_ASSIGN_OR_RETURN(handle.wake, Duplicate(connection->wake));
  handle.file = ClientFile(connection->file.base());
  handle.index = door->index->base();
  handle.data = door->data->base();
  handle.data_bytes = door->data->bytes();
  handle.data_fd = door->data->fd();

  const std::uint64_t id = next_id_++;
  ClientIdentity identity;
  identity.id = ClientId(id);
  identity.name = name;
  identity.pid = pid;
  identity.is_port = true;
  connection->tenant = door->tenant;
  connection->client = door->tenant->AddClient(
      std::move(identity), connection->file.base(), clock_->Now());
  connection->client->file().header().memd_sleeping.store(
      1, std::memory_order_seq_cst);
  const int doorbell = connection->doorbell.get();
  connections_[id] = std::move(connection);
  ++ports_;
  Watch(doorbell, id * 4 + 2, EPOLLIN | EPOLLET);
  return handle;
}

// The connection becomes the agents' own: their thread answers from here on.
absl::Status Reactor::HandOver(std::uint64_t id, const HelloRequest& hello) {
  Connection& connection = *connections_.find(id)->second;
  if (options_.agents == nullptr) {
    return MakeStatus(absl::StatusCode::kUnimplemented,
                      "this memd serves no agents");
  }
  AGENTMEM_ASSIGN_OR_RETURN(const TenantDoor* door,
                            FindDoor(hello.tenant, connection.uid));
  AgentPeer peer;
  peer.process = ProcessOf(connection.socket.get(), connection.pid);
  if (!peer.process.valid()) return ErrnoStatus("pidfd of the client");
  peer.tenant = door->tenant->options().name;
  peer.tenant_id = door->tenant->options().id;
  peer.client_name = hello.client_name;
  peer.pid = connection.pid;
  peer.uid = connection.uid;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, connection.socket.get(), nullptr);
  peer.socket = std::move(connection.socket);
  TakeDescriptors(peer.socket.get(), true);
  const absl::Status adopted = options_.agents->Adopt(&peer);
  if (!adopted.ok()) {
    connection.socket = std::move(peer.socket);
    return adopted;
  }
  agents_busy_ = true;
  --strangers_;
  connections_.erase(id);
  return absl::OkStatus();
}

}  // namespace agentmem
