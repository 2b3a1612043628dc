// Reactor: how clients come and go.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/log.h"
#include "base/status.h"
#include "memd/reactor.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // Linux 6.5
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83  // Linux 6.16
#endif

namespace agentmem {
namespace {

// A connection that has not said hello by then is closed.
constexpr DurationNs kHelloNs = 5 * kSecondNs;
constexpr DurationNs kAcceptAgainNs = 100 * kMillisecondNs;

// Field 22 of /proc/PID/stat; 0 when it cannot be read.
std::uint64_t StartTimeOf(std::int32_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  const std::size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream rest(line.substr(name_end + 1));
  std::string field;
  for (int i = 3; i < 22; ++i) rest >> field;
  std::uint64_t start = 0;
  rest >> start;
  return start;
}

bool SendWithDescriptors(int socket, const void* message, std::size_t bytes,
                         const std::vector<int>& descriptors) {
  iovec part = {const_cast<void*>(message), bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(kWelcomeDescriptors * sizeof(int))];
  std::memset(control, 0, sizeof(control));
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    std::memcpy(CMSG_DATA(rights), descriptors.data(),
                descriptors.size() * sizeof(int));
  }
  return sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) ==
         static_cast<ssize_t>(bytes);
}

}  // namespace

void TakeDescriptors(int socket, bool take) {
  const int value = take ? 1 : 0;
  setsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, &value, sizeof(value));
}

UniqueFd ProcessOf(int socket, std::int32_t pid) {
  int fd = -1;
  socklen_t bytes = sizeof(fd);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &bytes) == 0) {
    return UniqueFd(fd);
  }
  if (errno != ENOPROTOOPT) return UniqueFd();
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

// The listener is level-triggered: who is not accepted would wake us at once.
void Reactor::StopAccepting() {
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.get(), nullptr);
  accepting_ = false;
}

void Reactor::Accept(TimeNs now) {
  for (;;) {
    // More of them wait in the socket's backlog.
    if (strangers_ >= kStrangersMax) return StopAccepting();
    UniqueFd socket(accept4(listener_.get(), nullptr, nullptr,
                            SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
          errno == ENOBUFS) {
        LogWarning(ErrnoStatus("accepting a client").ToString() +
                   "; the next try is in 100 ms. Raise LimitNOFILE, or lower "
                   "clients_max");
        accept_again_ = now + kAcceptAgainNs;
        StopAccepting();
      }
      return;
    }
    ucred peer = {};
    socklen_t bytes = sizeof(peer);
    const std::uint64_t id = next_id_++;
    auto connection = std::make_unique<Connection>();
    const bool known =
        getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 &&
        peer.pid > 0;
    connection->socket = std::move(socket);
    connection->pid = peer.pid;
    connection->uid = peer.uid;
    connection->accepted_at = now;
    ++strangers_;
    const int fd = connection->socket.get();
    connections_[id] = std::move(connection);
    if (!known) {
      Refuse(id,
             PermissionDenied(
                 "the process at the other end is not visible from memd's "
                 "PID namespace; run memd in that namespace or its parent"));
    } else if (draining_) {
      Refuse(id, Unavailable("memd is shutting down; try again"));
    } else if (connections_.size() - ports_ > options_.clients_max) {
      Refuse(id, ResourceExhausted(
                     "memd has " +
                     std::to_string(connections_.size() - ports_ - 1) +
                     " connections; clients_max is " +
                     std::to_string(options_.clients_max)));
    } else {
      Watch(fd, id * 4, EPOLLIN);
    }
  }
}

void Reactor::OnSocket(std::uint64_t id, TimeNs now) {
  Connection& connection = *connections_.find(id)->second;
  // One byte more than the largest message, so that a longer one shows.
  char packet[sizeof(Hello) + 1];
  const ssize_t got =
      recv(connection.socket.get(), packet, sizeof(packet), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    if (connection.client == nullptr) return End(id, now);
    // Hung up. A forked child or a device may still use its memory: what it
    // has ends with the process, or with its kClose.
    connection.client->socket_closed = true;
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, connection.socket.get(), nullptr);
    Activate(id);  // a kClose may stand in the ring
    return;
  }
  if (connection.client != nullptr) {
    // Nothing is said after the handshake; who does is not libagentmem.
    LogWarning("client " + std::to_string(connection.pid) +
               " sent a message after its hello; its socket is ignored");
    connection.client->socket_closed = true;
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, connection.socket.get(), nullptr);
    return;
  }
  const auto hello = ParseHello(packet, static_cast<std::size_t>(got));
  const absl::Status status = !hello.ok()     ? hello.status()
                              : hello->agents ? HandOver(id, *hello)
                                              : Attach(id, *hello, now);
  if (!status.ok()) Refuse(id, status);
}

absl::StatusOr<const TenantDoor*> Reactor::FindDoor(const std::string& tenant,
                                                    std::uint32_t uid) const {
  for (const TenantDoor& door : doors_) {
    const bool allowed = std::find(door.users.begin(), door.users.end(), uid) !=
                         door.users.end();
    if (tenant.empty() ? allowed : tenant == door.tenant->options().name) {
      if (allowed) return &door;
      return PermissionDenied("tenant \"" + tenant + "\" does not list user " +
                              std::to_string(uid) +
                              "; add it to users of that [[tenant]]");
    }
  }
  if (tenant.empty()) {
    return PermissionDenied("no tenant lists user " + std::to_string(uid) +
                            "; add it to users of a [[tenant]]");
  }
  return NotFound("no tenant \"" + tenant + "\" is configured");
}

absl::Status Reactor::Attach(std::uint64_t id, const HelloRequest& hello,
                             TimeNs now) {
  Connection& connection = *connections_.find(id)->second;
  if (hello.confined) {
    return MakeStatus(absl::StatusCode::kUnimplemented,
                      "confined clients are not supported by this version");
  }
  AGENTMEM_ASSIGN_OR_RETURN(const TenantDoor* door,
                            FindDoor(hello.tenant, connection.uid));
  connection.charge = DescriptorCharge(door->descriptors, kDescriptorsOfClient);
  if (!connection.charge.valid()) {
    return ResourceExhausted(
        door->descriptors->Describe(door->tenant->options().name));
  }
  connection.process = ProcessOf(connection.socket.get(), connection.pid);
  if (!connection.process.valid()) return ErrnoStatus("pidfd of the client");
  AGENTMEM_ASSIGN_OR_RETURN(
      connection.file,
      SharedMemory::Create("agentmem-client", kClientFileBytes,
                           SharedMemory::Access::kClientsWrite));
  connection.doorbell = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!connection.doorbell.valid()) return ErrnoStatus("eventfd");

  ClientIdentity identity;
  identity.id = ClientId(id);
  identity.name = hello.client_name;
  identity.pid = connection.pid;
  identity.uid = connection.uid;
  identity.start_time = StartTimeOf(connection.pid);
  connection.tenant = door->tenant;
  connection.client =
      door->tenant->AddClient(identity, connection.file.base(), now);
  --strangers_;
  connection.client->file().header().memd_sleeping.store(
      1, std::memory_order_seq_cst);

  const TenantOptions& options = door->tenant->options();
  Welcome welcome = {};
  welcome.header = MakeHeader(MessageType::kWelcome, sizeof(welcome));
  welcome.client_id = id;
  welcome.instance = options_.instance;
  welcome.tenant_id = options.id.value();
  welcome.client_layout_version = kClientVersion;
  welcome.index_layout_version = kIndexVersion;
  welcome.flags = door->tenant->in_cluster() ? kWelcomeFindsTiers : 0;
  welcome.data_bytes = door->data->bytes();
  welcome.index_bytes = door->index->bytes();
  welcome.client_file_bytes = kClientFileBytes;
  welcome.hold_quota_bytes = options.hold_quota_bytes;
  welcome.grant_quota_bytes = options.grant_quota_bytes;
  std::copy(door->key.begin(), door->key.end(), welcome.tenant_key);
  if (getrandom(welcome.token, sizeof(welcome.token), 0) !=
      sizeof(welcome.token)) {
    return ErrnoStatus("getrandom");
  }
  SetField(options.name, welcome.tenant, sizeof(welcome.tenant));
  if (!SendWithDescriptors(connection.socket.get(), &welcome, sizeof(welcome),
                           {door->index->fd(), door->data->fd(),
                            connection.file.fd(), connection.doorbell.get()})) {
    End(id, now);
    return absl::OkStatus();
  }
  Watch(connection.process.get(), id * 4 + 1, EPOLLIN);
  Watch(connection.doorbell.get(), id * 4 + 2, EPOLLIN | EPOLLET);
  return absl::OkStatus();
}

void Reactor::Refuse(std::uint64_t id, const absl::Status& status) {
  Connection& connection = *connections_.find(id)->second;
  const Refusal refusal = MakeRefusal(status);
  SendWithDescriptors(connection.socket.get(), &refusal, sizeof(refusal), {});
  ++clients_refused_;
  End(id, clock_->Now());
}

void Reactor::End(std::uint64_t id, TimeNs now) {
  auto found = connections_.find(id);
  if (found->second->wake.valid()) --ports_;
  if (found->second->client != nullptr) {
    found->second->tenant->RemoveClient(ClientId(id), now);
  } else {
    --strangers_;
  }
  connections_.erase(found);  // closing takes the descriptors out of epoll
}

void Reactor::DropStrangers(TimeNs now) {
  std::vector<std::uint64_t> late;
  for (const auto& [id, connection] : connections_) {
    if (connection->client == nullptr &&
        now - connection->accepted_at >= kHelloNs) {
      late.push_back(id);
    }
  }
  for (const std::uint64_t id : late) {
    Refuse(id, DeadlineExceeded("no hello within 5 s"));
  }
}

}  // namespace agentmem
