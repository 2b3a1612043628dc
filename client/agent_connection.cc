#include "client/agent_connection.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "client/packet_socket.h"
#include "proto/agent_fields.h"

namespace agentmem::client {
namespace {

// Unanswered requests stand in the socket's buffer, which has room for about as
// many (SOCK_SEQPACKET, 208 KiB, under 1 KiB each).
constexpr std::size_t kAbandonedMax = 256;

template <typename T>
std::string_view BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

Outcome NoTurn(const std::string& socket_path) {
  return Fail(
      Code::kDeadlineExceeded,
      "another request to memd at " + socket_path + " took until the deadline");
}

}  // namespace

AgentConnection::AgentConnection(const Endpoint& endpoint, AgentSocket socket,
                                 Mapping board)
    : process_(Process::Current()),
      cell_(Process::cell()),
      socket_path_(endpoint.socket_path),
      socket_(std::move(socket.socket)),
      board_(std::move(board)),
      room_(kAgentPacketMax) {}

AgentConnection::~AgentConnection() {
  // memd's side ends even where a forked child still has the socket.
  shutdown(socket_.get(), SHUT_RDWR);
}

Outcome AgentConnection::Open(const Endpoint& endpoint,
                              const Deadline& deadline,
                              std::shared_ptr<AgentConnection>* out) {
  AgentSocket socket;
  if (Outcome greeted = AgentHandshake(endpoint, deadline, &socket);
      !greeted.ok()) {
    return greeted;
  }
  Mapping board;
  if (Outcome mapped = Mapping::Map("board", socket.board.get(), kBoardBytes,
                                    PROT_READ | PROT_WRITE, &board);
      !mapped.ok()) {
    return mapped;
  }
  out->reset(
      new AgentConnection(endpoint, std::move(socket), std::move(board)));
  return {};
}

bool AgentConnection::Lost() {
  if (lost_.load(std::memory_order_acquire)) return true;
  // An answer that nobody took may still stand before the hang-up.
  if (!watchdog_.memd_is_gone() && !SocketHungUp(socket_.get())) return false;
  lost_.store(true, std::memory_order_release);
  return true;
}

Outcome AgentConnection::LostOutcome() const {
  return Fail(Code::kUnavailable,
              "memd at " + socket_path_ +
                  " ended or restarted; close this and open the agent again");
}

Outcome AgentConnection::Broken(const std::string& what) {
  lost_.store(true, std::memory_order_release);
  shutdown(socket_.get(), SHUT_RDWR);
  return Fail(Code::kFailedPrecondition,
              "memd at " + socket_path_ + " does not keep to the protocol: " +
                  what + "; the connection is closed");
}

std::atomic<std::uint32_t>* AgentConnection::BoardWord(
    std::uint64_t index) const {
  static_assert(sizeof(std::atomic<std::uint32_t>) == 4);
  if (index >= kBoardWords) return nullptr;
  return reinterpret_cast<std::atomic<std::uint32_t>*>(board_.base()) + index;
}

Outcome AgentConnection::Call(Exchange* exchange, const Deadline& deadline) {
  const std::size_t bytes = sizeof(AgentRequest) + exchange->tail.size();
  if (bytes > kAgentPacketMax) {
    return Fail(Code::kInvalidArgument,
                "a request of " + std::to_string(bytes) + " bytes; at most " +
                    std::to_string(kAgentPacketMax) + " are allowed");
  }
  if (!turn_.Lock(deadline)) return NoTurn(socket_path_);
  Outcome outcome = CallInTurn(exchange, deadline);
  SendUndoes();
  turn_.Unlock();
  return outcome;
}

Outcome AgentConnection::CallInTurn(Exchange* exchange,
                                    const Deadline& deadline) {
  if (lost_.load(std::memory_order_acquire)) return LostOutcome();
  if (!deadline.may_wait()) {
    return Fail(Code::kDeadlineExceeded,
                "a timeout of 0 is too short for a request to memd");
  }
  AgentRequest& request = exchange->request;
  request.magic = kAgentWireMagic;
  request.version = kAgentVersion;
  request.bytes =
      static_cast<std::uint32_t>(sizeof(request) + exchange->tail.size());
  request.id = ++last_id_;
  request.deadline_ns = deadline.at();
  switch (SendPacket(socket_.get(), BytesOf(request), exchange->tail,
                     exchange->send_fd, deadline)) {
    case PacketEnd::kDone:
      exchange->sent = true;
      return Receive(exchange, deadline);
    case PacketEnd::kDeadline:
      return Fail(Code::kDeadlineExceeded,
                  "memd at " + socket_path_ +
                      " did not take the request before the deadline");
    case PacketEnd::kHungUp:
      lost_.store(true, std::memory_order_release);
      return LostOutcome();
    case PacketEnd::kFailed:
      break;
  }
  return Fail(Code::kUnavailable,
              "memd at " + socket_path_ + ": " + std::strerror(errno));
}

Outcome AgentConnection::Receive(Exchange* exchange, const Deadline& deadline) {
  for (;;) {
    std::size_t bytes = 0;
    std::size_t fd_count = 0;
    UniqueFd fd;
    switch (ReceivePacket(socket_.get(), room_, deadline, &bytes, {&fd, 1},
                          &fd_count)) {
      case PacketEnd::kDone:
        break;
      case PacketEnd::kDeadline:
        Abandon(exchange->request);
        return Fail(
            Code::kDeadlineExceeded,
            "memd at " + socket_path_ + " did not answer before the deadline");
      case PacketEnd::kHungUp:
        lost_.store(true, std::memory_order_release);
        return LostOutcome();
      case PacketEnd::kFailed:
        return Broken(std::strerror(errno));
    }
    AgentReply reply;
    if (bytes < sizeof(reply) || bytes > room_.size()) {
      return Broken("a reply of " + std::to_string(bytes) + " bytes");
    }
    std::memcpy(&reply, room_.data(), sizeof(reply));
    if (reply.magic != kAgentWireMagic || reply.version != kAgentVersion ||
        reply.bytes != bytes || reply.id > last_id_ || fd_count > 1) {
      return Broken("a reply with a header that is wrong");
    }
    if (reply.id != exchange->request.id) {
      TakeLateReply(reply);
      continue;
    }
    exchange->reply_fd = std::move(fd);
    return Accept(exchange, reply,
                  {room_.data() + sizeof(reply), bytes - sizeof(reply)});
  }
}

Outcome AgentConnection::Accept(Exchange* exchange, const AgentReply& reply,
                                std::string_view tail) {
  if (reply.op != exchange->request.op) {
    return Broken("a reply to another operation");
  }
  exchange->reply = reply;
  if (reply.code == static_cast<std::uint32_t>(Code::kOk)) {
    exchange->reply_tail = tail;
    return {};
  }
  std::string_view message;
  FieldReader(tail).Next(&message);
  const bool known = reply.code <= static_cast<std::uint32_t>(Code::kDataLoss);
  return Fail(known ? static_cast<Code>(reply.code) : Code::kUnknown,
              message.empty()
                  ? "memd answers with code " + std::to_string(reply.code)
                  : std::string(message));
}

void AgentConnection::Abandon(const AgentRequest& request) {
  const bool leaves_something =
      request.op == AgentOp::kAgentOpen || request.op == AgentOp::kRegionOpen ||
      (request.op == AgentOp::kPopulate && (request.flags & kPopulatePin) != 0);
  if (leaves_something && abandoned_.size() < kAbandonedMax) {
    abandoned_.push_back(request);
  }
}

void AgentConnection::TakeLateReply(const AgentReply& reply) {
  const auto found = std::find_if(
      abandoned_.begin(), abandoned_.end(),
      [&](const AgentRequest& request) { return request.id == reply.id; });
  if (found == abandoned_.end()) return;
  const AgentRequest request = *found;
  abandoned_.erase(found);
  if (reply.code != static_cast<std::uint32_t>(Code::kOk)) return;
  AgentRequest undo = {};
  if (request.op == AgentOp::kAgentOpen) {
    undo.op = AgentOp::kAgentClose;
    undo.handle = static_cast<std::uint32_t>(reply.value[0]);
  } else if (request.op == AgentOp::kRegionOpen) {
    undo.op = AgentOp::kRegionClose;
    undo.region_handle = static_cast<std::uint32_t>(reply.value[0]);
  } else {
    undo.op = AgentOp::kUnpin;
    undo.region_handle = request.region_handle;
    undo.offset = request.offset;
    undo.length = request.length;
  }
  undoes_.push_back(undo);
}

void AgentConnection::SendUndoes() {
  while (!undoes_.empty() && !lost_.load(std::memory_order_acquire)) {
    AgentRequest request = undoes_.back();
    request.magic = kAgentWireMagic;
    request.version = kAgentVersion;
    request.bytes = sizeof(request);
    request.id = ++last_id_;
    request.deadline_ns = kNoDeadline;
    if (SendPacket(socket_.get(), BytesOf(request), {}, -1,
                   Deadline::After(0)) != PacketEnd::kDone) {
      return;  // with the next call
    }
    undoes_.pop_back();
  }
}

Outcome AgentConnection::ObtainFaults(const Deadline& deadline, Faults* out) {
  if (!faults_turn_.Lock(deadline)) return NoTurn(socket_path_);
  Outcome outcome;
  if (!negotiated_) outcome = Negotiate(deadline);
  if (outcome.ok()) *out = faults_;
  faults_turn_.Unlock();
  return outcome;
}

Outcome AgentConnection::Negotiate(const Deadline& deadline) {
  UserFault made;
  TrackingMode mode = TrackingMode::kNone;
  Outcome offered = Offer(deadline, &made, &mode);
  if (offered.code == Code::kUnavailable ||
      offered.code == Code::kDeadlineExceeded) {
    return offered;
  }
  if (offered.ok() && mode != TrackingMode::kNone) {
    user_fault_ = std::move(made);
    offered = watchdog_.Start(socket_.get(), &user_fault_);
    if (offered.ok()) faults_.mode = mode;
  } else if (offered.ok()) {
    offered.message = "memd does not resolve faults";
  }
  faults_.reason = offered.message;
  negotiated_ = true;
  return {};
}

Outcome AgentConnection::Offer(const Deadline& deadline, UserFault* made,
                               TrackingMode* mode) {
  if (Outcome opened = UserFault::Open(made); !opened.ok()) return opened;
  Exchange exchange(AgentOp::kUseFaults);
  exchange.send_fd = made->fd();
  exchange.request.arg[0] = made->features();
  exchange.request.arg[1] = made->user_mode_only() ? 1 : 0;
  if (Outcome called = Call(&exchange, deadline); !called.ok()) return called;
  const std::uint64_t answer = exchange.reply.value[0];
  if (answer > static_cast<std::uint64_t>(TrackingMode::kSync)) {
    return Broken("tracking mode " + std::to_string(answer));
  }
  *mode = static_cast<TrackingMode>(answer);
  return {};
}

}  // namespace agentmem::client
