#include "memd/reactor.h"

#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <filesystem>
#include <future>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"

namespace agentmem {
namespace {

// Tags of descriptors in epoll (kTagFabric is another). A connection's are
// id * 4 + which.
constexpr std::uint64_t kTagListener = 1;
constexpr std::uint64_t kTagWake = 2;
constexpr std::uint64_t kTagStore = 3;
constexpr std::uint64_t kSocket = 0;
constexpr std::uint64_t kProcess = 1;
constexpr std::uint64_t kDoorbell = 2;

// Submissions taken from one client before the next has its turn.
constexpr std::size_t kDrainPerTurn = 64;
// Time's work: soon while something waits, else as often as access notes ask
// for it (256 a thread are kept).
constexpr DurationNs kTickSoonNs = 2 * kMillisecondNs;
constexpr DurationNs kTickIdleNs = 100 * kMillisecondNs;
// Sockets are looked at this often while rings keep the loop busy.
constexpr std::uint64_t kTurnsPerPoll = 64;

}  // namespace

Reactor::Reactor(const ReactorOptions& options, const Clock* clock, Node* node,
                 BlockStore* store, std::vector<TenantDoor> doors)
    : options_(options),
      clock_(clock),
      node_(node),
      store_(store),
      doors_(std::move(doors)),
      started_at_(clock->Now()) {}

Reactor::~Reactor() = default;

void Reactor::Watch(int fd, std::uint64_t tag, std::uint32_t events) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = tag;
  AGENTMEM_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0);
}

absl::Status Reactor::Start() {
  const std::string& path = options_.socket_path;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(),
                                      error);
  if (error) return ErrnoStatus("directory of socket " + path, error.value());
  AGENTMEM_ASSIGN_OR_RETURN(file_, SocketFile::Make(path, SOCK_SEQPACKET));
  listener_ = UniqueFd(
      ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_.valid()) return ErrnoStatus("socket");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  file_->private_path().copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address),
             sizeof(address)) != 0) {
    return ErrnoStatus("bind " + path);
  }
  // Who may use which tenant is decided by uid in the handshake; the mode only
  // keeps others out where nobody else may come in.
  const bool others =
      std::any_of(doors_.begin(), doors_.end(), [](const TenantDoor& door) {
        return std::any_of(door.users.begin(), door.users.end(),
                           [](std::uint32_t uid) { return uid != geteuid(); });
      });
  if (::listen(listener_.get(), SOMAXCONN) != 0) {
    return ErrnoStatus("listen on " + path);
  }
  AGENTMEM_RETURN_IF_ERROR(file_->Publish(others ? 0666 : 0600));
  // Descriptors that nobody takes would be closed by the reactor's thread, and
  // closing a socket may wait for its peer. (An older kernel: left as it is.)
  TakeDescriptors(listener_.get(), false);
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_.valid() || !wake_.valid()) return ErrnoStatus("epoll, eventfd");
  Watch(listener_.get(), kTagListener, EPOLLIN);
  Watch(wake_.get(), kTagWake, EPOLLIN);
  Watch(store_->completion_fd(), kTagStore, EPOLLIN);
  return options_.pool == nullptr ? absl::OkStatus() : WatchPool();
}

bool Reactor::Run() {
  // A start that failed ends it before it has served anybody.
  serves_ = !stop_.load(std::memory_order_relaxed);
  TouchAhead();
  for (std::uint64_t turn = 0;; ++turn) {
    const TimeNs now = clock_->Now();
    if (stop_.load(std::memory_order_relaxed) && Drain(now)) break;
    if (Turn(now) != 0) {
      last_work_ = now;
      if (turn % kTurnsPerPoll != 0) continue;
    } else if (now - last_work_ < SpinNs()) {
      // Whoever waits for this processor may be the one whose answer is waited
      // for. (Alone on it this costs a third of a microsecond.)
      ::sched_yield();
      continue;
    }
    Sleep(now);
  }
  {
    MutexLock lock(&mutex_);
    ended_ = true;
  }
  RunPosted();
  return !stop_now_.load(std::memory_order_relaxed);
}

// First the agents, which need their blocks written, then the blocks.
bool Reactor::Drain(TimeNs now) {
  if (stop_until_ == 0) {
    stop_until_ = now + options_.stop_ns;
    agents_until_ = now + options_.stop_ns / 3;
  }
  const bool at_once = stop_now_.load(std::memory_order_relaxed);
  if (!draining_ && (at_once || AgentsStopped(now))) {
    draining_ = true;
    node_->BeginDrain();
    if (serves_) LogInfo("draining: writing down what is not stored yet");
  }
  if (!draining_) return false;
  if (!node_->DrainOn() && !at_once && now < stop_until_) return false;
  const DrainReport report = node_->ReportDrain();
  if (report.whole()) {
    if (serves_) LogInfo(report.Text());
  } else {
    LogWarning(report.Text());
  }
  return true;
}

// Longer while another node's answer is awaited, or its next question is
// likely: they come in the time that a sleep and a wake-up would take.
DurationNs Reactor::SpinNs() const {
  if (options_.pool == nullptr ||
      (!options_.pool->node->busy() &&
       last_work_ - last_pool_work_ > options_.pool->spin_ns)) {
    return options_.spin_ns;
  }
  return std::max(options_.spin_ns, options_.pool->spin_ns);
}

bool Reactor::AgentsStopped(TimeNs now) {
  if (options_.agents == nullptr || options_.agents->Stopped()) return true;
  if (now < agents_until_) return false;
  LogError(
      "agents did not end in time: what they acknowledged as visible "
      "only may be lost");
  return true;
}

std::size_t Reactor::Turn(TimeNs now) {
  std::size_t work = 0;
  for (std::size_t i = 0; i < active_.size(); ++i) {
    auto found = connections_.find(active_[i]);
    if (found == connections_.end()) continue;
    Connection& connection = *found->second;
    work += connection.tenant->Drain(connection.client, kDrainPerTurn, now);
    if (connection.client->closed) End(active_[i], now);
  }
  if (node_->store_busy()) work += node_->PollStore(now);
  if (now >= next_tick_) {
    node_->Tick(now);
    if (strangers_ != 0) DropStrangers(now);
    agents_busy_ = options_.agents != nullptr && options_.agents->Tick();
    if (now >= next_durability_look_) LookAtDurability(now);
    next_tick_ = now + kTickIdleNs;
  }
  // After all that may have given it something to send.
  if (options_.pool != nullptr) work += PoolTurn(now);
  if (!accepting_ && strangers_ < kStrangersMax && now >= accept_again_) {
    accepting_ = true;
    Watch(listener_.get(), kTagListener, EPOLLIN);
  }
  if (node_->restless()) next_tick_ = std::min(next_tick_, now + kTickSoonNs);
  Tell();
  if (work != 0) TouchAhead();
  return work;
}

void Reactor::TouchAhead() {
  if (options_.populator == nullptr) return;
  for (const TenantDoor& door : doors_) {
    options_.populator->Ahead(door.populator_index,
                              door.tenant->extents_touched());
    for (const std::uint32_t extent : door.tenant->TakeEmptiedInUse()) {
      options_.populator->Again(door.populator_index, extent);
    }
  }
  if (options_.pool != nullptr && options_.pool->exports != nullptr) {
    // All of it: what was promised to peers is there, and none of their writes
    // waits for the kernel to make pages.
    options_.populator->Ahead(
        options_.pool->populator_index,
        static_cast<std::uint32_t>(options_.pool->exports->capacity_bytes() /
                                   kExtentBytes));
  }
}

void Reactor::Tell() {
  for (const auto& tenant : node_->tenants()) {
    for (const ClientId id : tenant->TakeSignalled()) {
      auto found = tenant->clients().find(id);
      if (found == tenant->clients().end()) continue;
      if (!found->second->TakeSignal()) continue;
      if (found->second->identity().is_port) {
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t put =
            ::write(connections_.find(id.value())->second->wake.get(), &one,
                    sizeof(one));
        continue;
      }
      syscall(SYS_futex, &found->second->file().header().completion_signal,
              FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
    }
  }
}

int Reactor::TimeoutMs(TimeNs now) const {
  const bool quiet = connections_.empty() && stop_until_ == 0 && accepting_ &&
                     !agents_busy_ && !node_->restless();
  if (quiet && options_.pool == nullptr) return -1;
  DurationNs until = stop_until_ != 0
                         ? std::min<DurationNs>(next_tick_ - now, kTickSoonNs)
                         : next_tick_ - now;
  if (options_.pool != nullptr) {
    until = quiet ? next_pool_tick_ - now
                  : std::min<DurationNs>(until, next_pool_tick_ - now);
  }
  return static_cast<int>(
      std::max<DurationNs>(0, (until + kMillisecondNs - 1) / kMillisecondNs));
}

void Reactor::Sleep(TimeNs now) {
  // Before waiting: whoever submits from here on must ring. One more look
  // after saying so closes the gap (proto/client_layout.h).
  const bool busy = now - last_work_ < SpinNs();
  bool ready = busy;
  bool stuck = false;
  if (!busy) {
    std::erase_if(active_, [&](std::uint64_t id) {
      auto found = connections_.find(id);
      if (found == connections_.end()) return true;
      Connection& connection = *found->second;
      auto& sleeping = connection.client->file().header().memd_sleeping;
      sleeping.exchange(1, std::memory_order_seq_cst);
      if (connection.client->IsStuck()) {
        stuck = true;  // it does not read its answers: look again in a while
        return false;
      }
      if (connection.client->HasSubmissions()) {
        ready = true;
        sleeping.exchange(0, std::memory_order_seq_cst);
        return false;
      }
      connection.active = false;
      return true;
    });
  }
  // The network's completions that no descriptor tells of any more.
  if (!ready && options_.pool != nullptr &&
      !options_.pool->transport->ReadyToWait()) {
    ready = true;
  }
  std::array<epoll_event, 64> events;
  const int timeout = ready   ? 0
                      : stuck ? static_cast<int>(kTickSoonNs / kMillisecondNs)
                              : TimeoutMs(now);
  const int count = epoll_wait(epoll_.get(), events.data(),
                               static_cast<int>(events.size()), timeout);
  const TimeNs after = clock_->Now();
  if (count > 0) last_work_ = after;
  for (int i = 0; i < count; ++i) {
    Handle(events[static_cast<std::size_t>(i)].data.u64,
           events[static_cast<std::size_t>(i)].events, after);
  }
}

void Reactor::Handle(std::uint64_t tag, std::uint32_t events, TimeNs now) {
  switch (tag) {
    case kTagListener:
      return Accept(now);
    case kTagWake: {
      std::uint64_t count;
      [[maybe_unused]] ssize_t got = ::read(wake_.get(), &count, sizeof(count));
      return RunPosted();
    }
    case kTagStore:
      node_->PollStore(now);
      return Tell();
    case kTagFabric:
      // PoolTurn reads it. More of it is likely, though bytes that peers write
      // make no event.
      last_pool_work_ = now;
      return;
    default:
      break;
  }
  const std::uint64_t id = tag / 4;
  auto found = connections_.find(id);
  if (found == connections_.end()) return;  // ended in this round
  Connection& connection = *found->second;
  switch (tag % 4) {
    case kSocket:
      return OnSocket(id, now);
    case kProcess:
      // What it posted before it died was whole: puts that nobody waited for.
      // One ring's worth: a forked child may go on filling it.
      connection.tenant->Drain(connection.client, kSubmissionEntries, now);
      if (!connection.client->closed) ++clients_died_;
      return End(id, now);
    case kDoorbell:
      // Never read: the client shares the descriptor's flags, and could make a
      // read block. Edge-triggered, it need not be (Attach).
      return Activate(id);
    default:
      (void)events;
  }
}

void Reactor::Activate(std::uint64_t id) {
  Connection& connection = *connections_.find(id)->second;
  if (connection.client == nullptr) return;
  connection.client->file().header().memd_sleeping.store(
      0, std::memory_order_seq_cst);
  if (connection.active) return;
  connection.active = true;
  active_.push_back(id);
}

void Reactor::Stop() {
  stop_.store(true, std::memory_order_relaxed);
  const std::uint64_t one = 1;
  [[maybe_unused]] ssize_t put = ::write(wake_.get(), &one, sizeof(one));
}

bool Reactor::StopNow() {
  {
    MutexLock lock(&mutex_);
    if (ended_) return false;
    stop_now_.store(true, std::memory_order_relaxed);
  }
  Stop();
  return true;
}

bool Reactor::Post(std::function<void()> work) {
  {
    MutexLock lock(&mutex_);
    if (ended_ || posted_.size() >= kPostedMax) return false;
    posted_.push_back(std::move(work));
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] ssize_t put = ::write(wake_.get(), &one, sizeof(one));
  return true;
}

void Reactor::RunPosted() {
  std::vector<std::function<void()>> work;
  {
    MutexLock lock(&mutex_);
    work.swap(posted_);
  }
  for (const auto& item : work) item();
}

absl::StatusOr<NodeSnapshot> Reactor::Snapshot() {
  auto promise = std::make_shared<std::promise<NodeSnapshot>>();
  auto future = promise->get_future();
  const bool posted = Post([this, promise] {
    const TimeNs now = clock_->Now();
    NodeSnapshot snapshot;
    snapshot.version = "0.1.0";
    snapshot.state = draining_ ? "draining" : "serving";
    snapshot.state_directory = options_.state_directory;
    snapshot.socket_path = options_.socket_path;
    snapshot.pid = ::getpid();
    snapshot.instance = options_.instance;
    snapshot.uptime_ns = now - started_at_;
    snapshot.store_disk_bytes = options_.disk_bytes();
    snapshot.clients_died = clients_died_;
    snapshot.clients_refused = clients_refused_;
    for (const auto& tenant : node_->tenants()) {
      snapshot.tenants.push_back(tenant->Snapshot(now));
      tenant->SnapshotClients(now, &snapshot.clients);
    }
    std::sort(snapshot.clients.begin(), snapshot.clients.end(),
              [](const ClientSnapshot& a, const ClientSnapshot& b) {
                return a.id < b.id;
              });
    promise->set_value(std::move(snapshot));
  });
  if (!posted) return Unavailable("memd is shutting down, or overloaded");
  NodeSnapshot snapshot = future.get();
  // On the caller's thread: the reactor does not wait for these books.
  for (TenantSnapshot& tenant : snapshot.tenants) {
    if (options_.agents != nullptr) {
      tenant.hbm = options_.agents->Hbm(tenant.id);
    }
  }
  return snapshot;
}

absl::StatusOr<BlockSnapshot> Reactor::ShowBlock(const std::string& tenant,
                                                 const Key& key) {
  using Answer = absl::StatusOr<BlockSnapshot>;
  auto promise = std::make_shared<std::promise<Answer>>();
  auto future = promise->get_future();
  const bool posted = Post([this, promise, tenant, key] {
    Tenant* found =
        tenant.empty() ? node_->tenants()[0].get() : node_->FindTenant(tenant);
    promise->set_value(found == nullptr
                           ? Answer(NotFound("no tenant \"" + tenant + "\""))
                           : found->ShowBlock(key));
  });
  if (!posted) return Unavailable("memd is shutting down, or overloaded");
  return future.get();
}

}  // namespace agentmem
