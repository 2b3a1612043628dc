// The side of memd that serves agents, for tests of libagentmem: the agent
// socket's protocol, versions in memory, faults resolved as memd would.
//
// Stands beside a FakeMemd, which hands it connections for agents. Kill closes
// all of them, as memd's death does.
//
// Ownership: owns its connections and thread. Threads: thread-safe. Errors: a
// failed system call ends the test. Cost: one thread, asleep when nothing
// comes.
#ifndef AGENTMEM_TESTS_UNIT_CLIENT_FAKE_AGENTD_H_
#define AGENTMEM_TESTS_UNIT_CLIENT_FAKE_AGENTD_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "proto/agent_fields.h"
#include "proto/agent_messages.h"
#include "tests/unit/client/fake_region.h"

namespace agentmem {

class FakeAgentd {
 public:
  struct Options {
    TrackingMode tracking = TrackingMode::kSync;  // what it takes at most
    std::uint32_t agent_version = kAgentVersion;
  };
  struct Request {
    AgentRequest fixed;
    std::string tail;
  };
  struct Answer {
    Code code = Code::kOk;
    std::string message;
    std::uint64_t value[6] = {};
    std::string tail;
    int fd = -1;
  };
  using Handler = std::function<void(const Request&, Answer*)>;

  explicit FakeAgentd(const Options& options);
  FakeAgentd() : FakeAgentd(Options()) {}
  ~FakeAgentd();

  // A connection whose Hello was read already.
  void Serve(UniqueFd socket);
  // memd dies: sockets, descriptors of faults, what was open.
  void Kill();

  // The answer to `op` passes here last.
  void OnReply(AgentOp op, Handler handler);
  // Replies to `op` are kept back until Release.
  void Hold(AgentOp op);
  void Release();
  // Faults are read and left.
  void LeaveFaults();
  void AwaitLeftFault(int count);
  void AwaitCount(AgentOp op, int count);
  int Count(AgentOp op);
  // The last request of this kind; fails the test without one.
  Request Last(AgentOp op);
  int connections();
  int open_agents();
  int open_regions();
  std::size_t pins();
  int left_faults();

  // As another process would commit it; makes agent and region at need.
  enum class Tell { kBoard, kNobody };
  std::uint64_t AddVersion(const std::string& agent, const std::string& region,
                           std::uint64_t bytes, const FakeContent& content,
                           Tell tell = Tell::kBoard);
  FakeContent ContentOf(const std::string& agent, const std::string& region,
                        std::uint64_t version);

 private:
  struct Client {
    UniqueFd socket;
    UniqueFd uffd;
    TrackingMode tracking = TrackingMode::kNone;
    std::map<std::uint32_t, std::string> agents;  // handle -> name
    std::map<std::uint32_t, bool> writers;
    std::map<std::uint32_t, std::unique_ptr<FakeOpenRegion>> regions;
  };
  struct Held {
    int socket;
    AgentReply reply;
    std::string tail;
  };

  void Run();
  void Wake();
  bool ServeRequest(Client* client);
  void ServeFaults(Client* client);
  void Dispatch(Client* client, const Request& request, UniqueFd fd,
                Answer* answer);
  void DispatchAgent(Client* client, const Request& request, Answer* answer);
  void DispatchRegion(Client* client, const Request& request, Answer* answer);
  void OpenRegion(Client* client, const AgentRequest& request, Answer* answer);
  void Commit(Client* client, const Request& request, Answer* answer);
  void CommitOne(FakeOpenRegion* open, const Request& request, Answer* answer);
  void History(const AgentRequest& request, Answer* answer);
  FakeRegion* Find(const std::string& agent, const std::string& region);
  void Publish(const std::string& region);
  std::uint32_t WordOf(const std::string& region);

  const Options options_;
  UniqueFd wake_;
  UniqueFd board_fd_;
  std::atomic<std::uint32_t>* board_ = nullptr;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool leave_faults_ = false;
  int left_faults_ = 0;
  int connections_ = 0;
  std::uint32_t next_handle_ = 1;
  std::set<AgentOp> held_ops_;
  std::vector<Held> held_;
  std::map<AgentOp, Handler> handlers_;
  std::map<AgentOp, int> counts_;
  std::map<AgentOp, Request> last_;
  std::map<std::string, std::uint32_t> words_;
  // Agent -> its regions; they do not move.
  std::map<std::string, std::map<std::string, FakeRegion>> agents_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::thread thread_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_CLIENT_FAKE_AGENTD_H_
