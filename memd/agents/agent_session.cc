#include "memd/agents/agent_session.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"
#include "memd/handshake.h"
#include "proto/agent_fields.h"

namespace agentmem {
namespace {

constexpr int kFaultsPerRound = 16;
// Without work for so long, the thread sleeps: to be woken costs as much.
// Longer while what comes comes in short intervals, as the faults of a process
// that wakes up do.
constexpr DurationNs kLookNs = 20 * kMicrosecondNs;
constexpr DurationNs kLookMaxNs = 200 * kMicrosecondNs;
constexpr DurationNs kRetryNs = 20 * kMillisecondNs;
// How long what was committed as visible may be in this node's memory only,
// when nothing else makes it durable.
constexpr DurationNs kSettleNs = kSecondNs;

std::string FaultyRequest(const std::string& what) {
  return "an agent request: " + what;
}

bool SendPacket(int socket, const void* head, std::size_t head_bytes,
                const std::string& tail, int fd) {
  iovec parts[2] = {{const_cast<void*>(head), head_bytes},
                    {const_cast<char*>(tail.data()), tail.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = tail.empty() ? 1 : 2;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof(int));
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

// The descriptors that came along; one is kept, others are closed.
UniqueFd TakeDescriptor(msghdr* message) {
  UniqueFd first;
  for (cmsghdr* part = CMSG_FIRSTHDR(message); part != nullptr;
       part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      UniqueFd owned(fd);
      if (!first.valid()) first = std::move(owned);
    }
  }
  return first;
}

}  // namespace

AgentSession::AgentSession(AgentPeer peer, std::uint64_t token,
                           std::uint64_t instance, PortSource* ports,
                           TenantAgents* tenant, const Clock* clock)
    : peer_(std::move(peer)),
      token_(token),
      instance_(instance),
      ports_(ports),
      tenant_(tenant),
      clock_(clock),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      packet_(std::make_unique_for_overwrite<char[]>(kAgentPacketMax + 1)),
      scratch_(std::make_unique_for_overwrite<char[]>(kPageBytes)) {}

AgentSession::~AgentSession() = default;

void AgentSession::Stop() {
  stopping_.store(true);
  Wake();
}

void AgentSession::Wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t put = ::write(wake_.get(), &one, sizeof(one));
}

void AgentSession::Post(std::function<void(AgentSession*)> work) {
  {
    MutexLock lock(&mutex_);
    posted_.push_back(std::move(work));
  }
  Wake();
}

void AgentSession::RunPosted() {
  std::vector<std::function<void(AgentSession*)>> work;
  {
    MutexLock lock(&mutex_);
    work.swap(posted_);
  }
  for (const auto& item : work) item(this);
  if (room_wanted_.exchange(false)) GiveSome();
}

void TenantAgents::ForEachSession(
    const std::function<void(AgentSession*)>& visit,
    const std::function<void()>& then) {
  MutexLock lock(&mutex);
  for (const auto& [token, session] : sessions) visit(session);
  then();
}

void TenantAgents::PostTo(std::uint64_t token,
                          std::function<void(AgentSession*)> work) {
  MutexLock lock(&mutex);
  auto found = sessions.find(token);
  if (found != sessions.end()) found->second->Post(std::move(work));
}

void TenantAgents::WakeSession(std::uint64_t token) {
  MutexLock lock(&mutex);
  auto found = sessions.find(token);
  if (found != sessions.end()) found->second->Wake();
}

void AgentSession::Run() {
  if (const absl::Status status = Welcome(); !status.ok()) {
    const Refusal refusal = MakeRefusal(status);
    SendPacket(peer_.socket.get(), &refusal, sizeof(refusal), "", -1);
    return;
  }
  {
    MutexLock lock(&tenant_->mutex);
    tenant_->sessions[token_] = this;
  }
  while (!ended_ && !stopping_.load()) {
    bool work = ServeFaults();
    work |= PollPort();
    work |= ReadPlanned();
    RunPosted();
    work |= ServeSocket();
    if (ended_) break;
    const TimeNs now = clock_->Now();
    work |= RetryWaiting(now);
    if (now >= settle_at_) Settle();
    if (now >= publish_at_) PublishColdest();
    for (const auto& [handle, mapped] : regions_) DropDeadBlocks(mapped.get());
    if (!LookOn(work, now))
      Sleep(true, std::min({retry_at_, settle_at_, publish_at_}));
  }
  StopLooking();
  tenant_->hbm->Close(tenant_->id, token_);
  {
    MutexLock lock(&tenant_->mutex);
    tenant_->sessions.erase(token_);
  }
  RunPosted();  // who asked counts the answers
  while (!regions_.empty()) (void)CloseRegion(regions_.begin()->first);
  Settle();
  for (auto& [handle, agent] : agents_) {
    tenant_->book.Release(agent.state.get(), token_);
  }
  // What was acknowledged as visible is not lost while memd lives.
  while (!settling_.empty() && !stopping_.load()) {
    std::uint64_t count;  // of what woke it before
    [[maybe_unused]] const ssize_t got =
        ::read(wake_.get(), &count, sizeof(count));
    if (stopping_.load()) break;
    pollfd woken = {wake_.get(), POLLIN, 0};
    ::poll(&woken, 1, static_cast<int>(kSettleNs / kMillisecondNs));
    Settle();
  }
  for (std::shared_ptr<AgentState>& state : watched_) {
    if (state != nullptr) AgentBook::Unwatch(state.get(), token_, std::nullopt);
    state.reset();
  }
  agents_.clear();
  // Here and not where the session is reaped: a port may have to wait for the
  // reactor, which reaps.
  faults_.Reset();
  board_.reset();
  nodes_.reset();
  port_.reset();
  peer_.socket.Reset();
}

absl::Status AgentSession::Welcome() {
  if (!wake_.valid()) return ErrnoStatus("eventfd");
  AGENTMEM_ASSIGN_OR_RETURN(
      PortHandle handle,
      ports_->OpenPort(tenant_->name, "memd: agents of " + peer_.client_name,
                       peer_.pid));
  port_ = std::make_unique<BlockPort>(std::move(handle));
  nodes_ = std::make_unique<PortNodes>(port_.get(), clock_);
  AGENTMEM_ASSIGN_OR_RETURN(
      SharedMemory board,
      SharedMemory::Create("agentmem-board", kBoardBytes,
                           SharedMemory::Access::kClientsWrite));
  board_ = std::make_shared<SharedMemory>(std::move(board));
  AgentWelcome welcome = {};
  welcome.header = MakeHeader(MessageType::kAgentWelcome, sizeof(welcome));
  welcome.agent_version = kAgentVersion;
  welcome.tenant_id = peer_.tenant_id.value();
  welcome.instance = instance_;
  SetField(peer_.tenant, welcome.tenant, sizeof(welcome.tenant));
  if (!SendPacket(peer_.socket.get(), &welcome, sizeof(welcome), "",
                  board_->fd())) {
    return ErrnoStatus("welcoming a client");
  }
  return absl::OkStatus();
}

// Is it worth while to look again, and not to sleep? For a share of the cores
// only: the others have work to do.
bool AgentSession::LookOn(bool work, TimeNs now) {
  if (work) {
    const DurationNs gap = now - last_work_;
    last_work_ = now;
    look_ns_ = gap > kLookMaxNs
                   ? kLookNs
                   : std::clamp<DurationNs>(2 * gap, look_ns_ / 2, kLookMaxNs);
    look_ns_ = std::max(look_ns_, kLookNs);
    return true;
  }
  if (now - last_work_ >= look_ns_) return false;
  if (!looks_) {
    looks_ = tenant_->looking.fetch_add(1) < tenant_->looking_max;
    if (!looks_) tenant_->looking.fetch_sub(1);
  }
  return looks_;
}

void AgentSession::StopLooking() {
  if (std::exchange(looks_, false)) tenant_->looking.fetch_sub(1);
}

void AgentSession::Sleep(bool also_socket, TimeNs until) {
  StopLooking();
  if (port_->PrepareSleep()) {
    pollfd waited[5] = {{port_->wake_fd(), POLLIN, 0},
                        {wake_.get(), POLLIN, 0},
                        {faults_.valid() ? faults_.get() : -1, POLLIN, 0},
                        {peer_.process.get(), POLLIN, 0},
                        {peer_.socket.get(), POLLIN, 0}};
    int timeout = -1;
    if (until != kNoDeadline) {
      const DurationNs left =
          std::clamp<DurationNs>(until - clock_->Now(), 0, 3600 * kSecondNs);
      timeout = static_cast<int>((left + kMillisecondNs - 1) / kMillisecondNs);
    }
    ::poll(waited, also_socket ? 5 : 4, timeout);
    if (waited[3].revents != 0) ended_ = true;
    // It was made to block, and would be polled for ever.
    if ((waited[2].revents & (POLLERR | POLLNVAL)) != 0) ended_ = true;
    if (waited[1].revents != 0) {
      std::uint64_t count;
      [[maybe_unused]] const ssize_t got =
          ::read(wake_.get(), &count, sizeof(count));
    }
  }
  port_->Awake();
}

bool AgentSession::ServeUntil(const std::function<bool()>& done,
                              TimeNs deadline) {
  for (;;) {
    bool work = ServeFaults();
    work |= PollPort();
    work |= ReadPlanned();
    RunPosted();
    if (ended_ || stopping_.load()) return false;
    if (done()) return true;
    const TimeNs now = clock_->Now();
    if (now >= deadline) return false;
    work |= RetryWaiting(now);
    if (!LookOn(work, now)) Sleep(false, std::min(deadline, retry_at_));
  }
}

// Regions that wait for room or for the store try again now and then.
bool AgentSession::PollPort() {
  collects_ = true;
  const bool some = port_->Poll() != 0;
  collects_ = false;
  if (!some) return false;
  for (const auto& [handle, mapped] : regions_) {
    mapped->region->FinishCollected();
  }
  return true;
}

bool AgentSession::RetryWaiting(TimeNs now) {
  bool waiting = false;
  for (const auto& [handle, mapped] : regions_) {
    waiting |= mapped->region->waiting();
  }
  if (!waiting) {
    retry_at_ = kNoDeadline;
    return false;
  }
  if (now < retry_at_ && retry_at_ != kNoDeadline) return false;
  const bool due = retry_at_ != kNoDeadline;
  retry_at_ = now + kRetryNs;
  if (!due) return false;
  for (const auto& [handle, mapped] : regions_) mapped->region->Retry();
  return true;
}

bool AgentSession::ServeFaults() {
  if (!faults_.valid()) return false;
  PageFault faults[kFaultsPerRound];
  const int count = ReadFaults(faults_.get(), faults, kFaultsPerRound);
  if (count < 0) {
    LogError("the faults of process " + std::to_string(peer_.pid) +
             " cannot be read: " + std::strerror(errno));
    ended_ = true;
    return false;
  }
  for (int i = 0; i < count; ++i) {
    for (const auto& [handle, mapped] : regions_) {
      if (!mapped->region->Covers(faults[i].address)) continue;
      mapped->region->OnFault(faults[i], count == 1);
      break;
    }
    // Of an address that is nobody's: the process registered it, and waits for
    // itself.
  }
  return count > 0;
}

void AgentSession::DropDeadBlocks(Mapped* mapped) {
  const std::vector<Key> dead = mapped->region->TakeDeadBlocks();
  if (dead.empty()) return;
  const std::uint64_t lineage = LineageOf(dead.front());
  for (const Key& key : dead) {
    port_->Ask(Op::kDrop, key, kNoDeadline,
               [tenant = tenant_, lineage](const CompletionEntry& answer) {
                 if (answer.code != Code::kOk)
                   tenant->book.NoteGarbage(lineage);
               });
  }
  PutDown(mapped->state.get(), dead);
}

void AgentSession::SettleSoon() {
  settle_at_ = std::min(settle_at_, clock_->Now() + kSettleNs);
}

// What was acknowledged as visible becomes durable.
void AgentSession::Settle() {
  settle_at_ = kNoDeadline;
  // Each try would hold up this thread, which has faults to serve, for as long
  // as the store of refs may take to answer.
  if (!tenant_->reachable() && !ended_ && !stopping_.load()) {
    return SettleSoon();
  }
  auto states = std::exchange(settling_, {});
  for (const auto& [handle, agent] : agents_) {
    if (agent.writes) states.push_back(agent.state);
  }
  for (auto& state : states) {
    const absl::Status status =
        SettleAhead(state.get(), clock_->Now() + 10 * kSecondNs);
    if (status.ok() || status.code() == absl::StatusCode::kAborted) continue;
    LogError("agent " + state->name +
             ": writing down what it committed as visible: " +
             StatusMessage(status));
    SettleLater(std::move(state));
  }
}

// While it is held here, what it is ahead of the store is not lost.
void AgentSession::SettleLater(std::shared_ptr<AgentState> state) {
  if (std::find(settling_.begin(), settling_.end(), state) == settling_.end()) {
    settling_.push_back(std::move(state));
  }
  SettleSoon();
}

absl::StatusOr<bool> AgentSession::Receive(Request* request) {
  iovec part = {packet_.get(), kAgentPacketMax + 1};
  alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t got =
      recvmsg(peer_.socket.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got >= 0) request->fd = TakeDescriptor(&message);
  if (got <= 0) {
    ended_ = true;
    return false;
  }
  const auto bytes = static_cast<std::size_t>(got);
  if (bytes < sizeof(AgentRequest) || bytes > kAgentPacketMax) {
    return InvalidArgument(FaultyRequest(std::to_string(bytes) + " bytes"));
  }
  std::memcpy(static_cast<void*>(&request->fixed), packet_.get(),
              sizeof(AgentRequest));
  AgentRequest& fixed = request->fixed;
  if (fixed.magic != kAgentWireMagic || fixed.bytes != bytes) {
    return InvalidArgument(FaultyRequest("not one of libagentmem"));
  }
  if (fixed.version != kAgentVersion) {
    return FailedPrecondition(
        FaultyRequest("version " + std::to_string(fixed.version) +
                      ", this memd speaks " + std::to_string(kAgentVersion) +
                      "; update the older of memd and libagentmem"));
  }
  fixed.agent[kAgentNameBytes - 1] = 0;
  fixed.region[kRegionNameBytes - 1] = 0;
  fixed.other[kAgentNameBytes - 1] = 0;
  request->tail.assign(packet_.get() + sizeof(AgentRequest),
                       bytes - sizeof(AgentRequest));
  return true;
}

bool AgentSession::ServeSocket() {
  Request request;
  const absl::StatusOr<bool> got = Receive(&request);
  if (got.ok() && !*got) return false;
  Reply reply;
  absl::Status status = got.status();
  if (status.ok()) status = Dispatch(&request, &reply);
  Answer(request, status, reply);
  if (!got.ok()) ended_ = true;  // out of step
  return true;
}

void AgentSession::Answer(const Request& request, const absl::Status& status,
                          const Reply& reply) {
  AgentReply fixed = {};
  fixed.magic = kAgentWireMagic;
  fixed.version = kAgentVersion;
  fixed.op = request.fixed.op;
  fixed.code = static_cast<std::uint32_t>(status.code());
  fixed.id = request.fixed.id;
  std::string tail = reply.tail;
  if (status.ok()) {
    std::memcpy(fixed.value, reply.value, sizeof(fixed.value));
  } else {
    FieldWriter fields;
    fields.Add(StatusMessage(status));
    tail = fields.bytes();
  }
  fixed.bytes = static_cast<std::uint32_t>(sizeof(fixed) + tail.size());
  AGENTMEM_CHECK(fixed.bytes <= kAgentPacketMax);
  if (!SendPacket(peer_.socket.get(), &fixed, sizeof(fixed), tail,
                  status.ok() && reply.fd.valid() ? reply.fd.get() : -1)) {
    ended_ = true;  // it does not read, or is gone
  }
}

absl::Status AgentSession::Dispatch(Request* request, Reply* reply) {
  const std::uint32_t handle = request->fixed.handle;
  switch (request->fixed.op) {
    case AgentOp::kUseFaults:
      return UseFaults(request, reply);
    case AgentOp::kAgentOpen:
      return OpenAgent(*request, reply);
    case AgentOp::kAgentClose:
      return CloseAgent(handle);
    case AgentOp::kAgentPhase:
      return SetPhase(*request, reply);
    case AgentOp::kAgentHibernate:
      return Hibernate(*request, reply);
    case AgentOp::kAgentResume:
      return Resume(*request, reply);
    case AgentOp::kAgentDelete:
      return DeleteAgent(*request);
    case AgentOp::kAgentList:
      return ListAgents(*request, reply);
    case AgentOp::kAgentFork:
      return ForkAgent(*request);
    case AgentOp::kAgentLabels:
      return SetLabels(*request);
    case AgentOp::kAgentRetention:
      return SetRetention(*request);
    case AgentOp::kAgentShow:
      return ShowAgent(*request, reply);
    case AgentOp::kRegionOpen:
      return OpenRegion(*request, reply);
    case AgentOp::kRegionMapped:
      return MapRegion(*request);
    case AgentOp::kRegionClose:
      return CloseRegion(request->fixed.region_handle);
    case AgentOp::kCommit:
      return Commit(*request, reply);
    case AgentOp::kPopulate:
    case AgentOp::kUnpin:
    case AgentOp::kMarkDirty:
      return Populate(*request);
    case AgentOp::kHint:
      return Hint(*request, reply);
    case AgentOp::kRefresh:
      return Refresh(*request, reply);
    case AgentOp::kRevert:
      return Revert(*request, reply);
    case AgentOp::kHistory:
      return History(*request, reply);
    case AgentOp::kDiff:
      return DiffVersions(*request, reply);
    case AgentOp::kWatch:
      return Watch(*request, reply);
    case AgentOp::kUnwatch:
      return Unwatch(*request);
    case AgentOp::kHbmOpen:
      return HbmOpen(*request, reply);
    case AgentOp::kHbmReport:
      return HbmReport(*request, reply);
    case AgentOp::kHbmClose:
      return HbmClose(*request);
    case AgentOp::kHbmList:
      return HbmList(*request, reply);
    case AgentOp::kNone:
      break;
  }
  return MakeStatus(
      absl::StatusCode::kUnimplemented,
      FaultyRequest("operation " +
                    std::to_string(static_cast<unsigned>(request->fixed.op)) +
                    " is not known to this memd"));
}

}  // namespace agentmem
