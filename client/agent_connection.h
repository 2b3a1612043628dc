// One connection for agents to one run of memd: requests, the board, faults.
//
// One request at a time stands for an answer. A caller that gives up leaves its
// reply behind: it is recognised by its id and dropped, and what it opened or
// pinned is undone, by a request that nobody waits for.
//
// When memd hangs up the connection is lost for good: every call then answers
// UNAVAILABLE. Agents and regions keep it alive until they are closed.
//
// Ownership: owns socket, board, userfaultfd and watchdog; shared by what was
// opened on it. Threads: thread-safe. Nothing of the caller's memory is touched
// under its locks: requests are made before, and replies read behind them.
// Errors: memd's own answer; DEADLINE_EXCEEDED: no answer in time; UNAVAILABLE:
// memd is gone. Cost: a request is two system calls and a wait.
#ifndef AGENTMEM_CLIENT_AGENT_CONNECTION_H_
#define AGENTMEM_CLIENT_AGENT_CONNECTION_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "client/handshake_client.h"
#include "client/mapping.h"
#include "client/process.h"
#include "client/timed_mutex.h"
#include "client/user_fault.h"
#include "client/watchdog.h"
#include "proto/agent_messages.h"
#include "proto/outcome.h"

namespace agentmem::client {

// A request and what came back.
struct Exchange {
  explicit Exchange(AgentOp op) { request.op = op; }

  AgentRequest request = {};
  std::string tail;
  int send_fd = -1;

  bool sent = false;  // memd may have seen it
  AgentReply reply = {};
  std::string reply_tail;
  UniqueFd reply_fd;
};

// How regions of a connection are paged.
struct Faults {
  TrackingMode mode = TrackingMode::kNone;
  std::string reason;  // why kNone
};

class AgentConnection {
 public:
  static Outcome Open(const Endpoint& endpoint, const Deadline& deadline,
                      std::shared_ptr<AgentConnection>* out);
  ~AgentConnection();
  AgentConnection(const AgentConnection&) = delete;
  AgentConnection& operator=(const AgentConnection&) = delete;

  Outcome Call(Exchange* exchange, const Deadline& deadline)
      AGENTMEM_EXCLUDES(turn_);

  // Offers memd a userfaultfd, the first time. OK also when there is none.
  Outcome ObtainFaults(const Deadline& deadline, Faults* out)
      AGENTMEM_EXCLUDES(faults_turn_);
  const UserFault& user_fault() const { return user_fault_; }
  Watchdog& watchdog() { return watchdog_; }

  // Null: memd named no word of the board.
  std::atomic<std::uint32_t>* BoardWord(std::uint64_t index) const;
  // Regions that watch a word (one that BoardWord knows). RemoveWatcher: true:
  // it was the last.
  void AddWatcher(std::uint32_t word) { ++watchers_[word]; }
  bool RemoveWatcher(std::uint32_t word) { return --watchers_[word] == 0; }

  // Looks, unless it is known already.
  bool Lost();
  Outcome LostOutcome() const;
  // In a forked child: nothing of this may be touched.
  bool Forked() const {
    return cell_->load(std::memory_order_relaxed) != process_;
  }
  const std::string& socket_path() const { return socket_path_; }

 private:
  AgentConnection(const Endpoint& endpoint, AgentSocket socket, Mapping board);

  Outcome CallInTurn(Exchange* exchange, const Deadline& deadline)
      AGENTMEM_REQUIRES(turn_);
  Outcome Receive(Exchange* exchange, const Deadline& deadline)
      AGENTMEM_REQUIRES(turn_);
  Outcome Accept(Exchange* exchange, const AgentReply& reply,
                 std::string_view tail);
  void Abandon(const AgentRequest& request) AGENTMEM_REQUIRES(turn_);
  void TakeLateReply(const AgentReply& reply) AGENTMEM_REQUIRES(turn_);
  void SendUndoes() AGENTMEM_REQUIRES(turn_);
  Outcome Negotiate(const Deadline& deadline) AGENTMEM_REQUIRES(faults_turn_);
  Outcome Offer(const Deadline& deadline, UserFault* made, TrackingMode* mode);
  Outcome Broken(const std::string& what);

  Process* const process_;
  const Process::Cell* const cell_;
  const std::string socket_path_;
  const UniqueFd socket_;
  const Mapping board_;
  std::atomic<bool> lost_ = false;
  std::array<std::atomic<std::uint32_t>, kBoardWords> watchers_ = {};

  TimedMutex turn_;
  std::uint64_t last_id_ AGENTMEM_GUARDED_BY(turn_) = 0;
  std::vector<char> room_ AGENTMEM_GUARDED_BY(turn_);
  // Given up on, not answered yet, and to be undone if they succeed.
  std::vector<AgentRequest> abandoned_ AGENTMEM_GUARDED_BY(turn_);
  // Requests that undo what late replies did.
  std::vector<AgentRequest> undoes_ AGENTMEM_GUARDED_BY(turn_);

  TimedMutex faults_turn_;
  bool negotiated_ AGENTMEM_GUARDED_BY(faults_turn_) = false;
  Faults faults_ AGENTMEM_GUARDED_BY(faults_turn_);
  // Set once, before the first region is mapped. The watchdog ends first.
  UserFault user_fault_;
  Watchdog watchdog_;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_AGENT_CONNECTION_H_
