#include "tests/demo/agent.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>
#include <vector>

#include "agentmem/agentmem.hpp"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "tests/demo/protocol.h"
#include "tests/demo/request_worker.h"
#include "tests/demo/shared_region.h"

namespace agentmem::demo {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kPosePins = 32;
constexpr std::size_t kPoseHolds = 8;
constexpr Timeout kVerifyTimeout = seconds(2);
constexpr DurationNs kVerifyPatienceNs = 20 * kSecondNs;

Key KeyOf(const ContentId& id) {
  Key key;
  key.group = static_cast<std::uint32_t>(id.low);
  key.name[0] = static_cast<std::uint32_t>(id.low >> 32);
  key.name[1] = static_cast<std::uint32_t>(id.high);
  key.name[2] = static_cast<std::uint32_t>(id.high >> 32);
  return key;
}

class Agent {
 public:
  Agent(const AgentArguments& arguments, Client client,
        const Workload& workload, Scoreboard* board)
      : arguments_(arguments),
        client_(std::move(client)),
        workload_(workload),
        board_(board),
        lane_(&board->lanes[arguments.lane]),
        worker_(&client_, workload, board, lane_, arguments.demo_socket) {}

  void Run() {
    Answer(MessageType::kReady, 0);
    Message message;
    while (true) {
      lane_->stage = Stage::kWaiting;
      if (!ReceiveMessage(arguments_.demo_socket, &message)) return;
      if (message.type == MessageType::kQuit) return;
      if (message.type == MessageType::kWork) Work(message);
      if (message.type == MessageType::kProbe) Probe();
      if (message.type == MessageType::kVerify) Verify(message);
    }
  }

 private:
  void Answer(MessageType type, std::uint64_t number, std::uint64_t length = 0,
              const std::string& text = "") {
    Message message;
    message.type = type;
    message.number = number;
    message.length = length;
    std::snprintf(message.text, sizeof(message.text), "%s", text.c_str());
    SendMessage(arguments_.demo_socket, message);
  }

  void Work(const Message& message) {
    worker_.Run(message.number);
    if ((message.flags & kPoseAtEnd) != 0) {
      Pose(message.number, (message.flags & kForkBeforePose) != 0);
    }
    Answer(MessageType::kDone, message.number);
  }

  void Pose(std::uint64_t request, bool fork_first) {
    const std::vector<Key>& keys = worker_.keys();
    const std::size_t pins = std::min(keys.size(), kPosePins);
    const Blocks pinned = client_.Get({keys.data(), pins}, seconds(5));
    Blocks held =
        client_.Get({keys.data(), std::min(pins, kPoseHolds)}, seconds(5));
    if (const Status status = held.Hold(seconds(5)); !status.ok()) {
      worker_.Trouble("hold: " + status.ToString());
    }
    const std::uint64_t bytes = workload_.header().block_bytes;
    Result<Reservation> room = client_.Reserve(bytes, seconds(5));
    if (room.ok()) {
      FillContent({request, 1}, room->data().first(bytes / 2));
    } else {
      worker_.Trouble("reserve: " + room.status().ToString());
    }
    const ContentId id = {Mix(request), static_cast<std::uint64_t>(getpid())};
    std::vector<std::byte> last(ContentLength(id, bytes));
    FillContent(id, last);
    const ::agentmem::Put put = client_.Put(KeyOf(id), last);
    if (fork_first) ForkChild(keys.front());
    lane_->stage = Stage::kPosed;
    Answer(MessageType::kPosed, request);
    Message never;
    ReceiveMessage(arguments_.demo_socket, &never);
  }

  // The child keeps every descriptor and mapping, memd's socket among them,
  // after this process is killed; memd must not wait for it.
  void ForkChild(const Key& key) {
    if (fork() != 0) return;
    const Result<std::vector<Tier>> tiers = client_.Contains({&key, 1});
    if (tiers.ok() || tiers.status().code() != Code::kFailedPrecondition) {
      board_->Count(Counter::kForkNotRefused);
    }
    char byte;
    while (read(arguments_.lifeline, &byte, 1) > 0) {
    }
    _exit(0);
  }

  // memd may be dead: what is in DRAM must be there all the same.
  void Probe() {
    std::uint64_t right = 0;
    std::uint64_t absent = 0;
    for (const Key& key : worker_.keys()) {
      const Blocks blocks = client_.Get(key, milliseconds(0));
      if (!blocks.has(0)) {
        ++absent;
      } else if (worker_.Check(ContentOf(key), blocks[0], "block")) {
        ++right;
      }
    }
    Answer(MessageType::kProbed, right, absent);
  }

  void Verify(const Message& message) {
    const ContentId id = {message.low, message.high};
    const TimeNs deadline = MonotonicNowNs() + kVerifyPatienceNs;
    Status status;
    do {  // memd has only just come back
      bool right = false;
      status = (message.flags & kIsObject) != 0 ? VerifyObject(id, &right)
                                                : VerifyBlock(id, &right);
      if (status.ok()) {
        return Answer(MessageType::kVerified, right ? 1 : 0, message.length,
                      "wrong bytes");
      }
    } while ((status.code() == Code::kUnavailable ||
              status.code() == Code::kDeadlineExceeded) &&
             MonotonicNowNs() < deadline);
    Answer(MessageType::kVerified, 0, message.length, status.ToString());
  }

  Status VerifyBlock(const ContentId& id, bool* right) {
    const Blocks blocks = client_.Get(KeyOf(id), kVerifyTimeout);
    if (blocks.has(0)) *right = worker_.Check(id, blocks[0], "block");
    return blocks.status();
  }
  Status VerifyObject(const ContentId& id, bool* right) {
    const Result<std::vector<std::byte>> bytes =
        client_.GetObject(RequestWorker::ObjectName(id.low), kVerifyTimeout);
    if (bytes.ok()) *right = worker_.Check(id, *bytes, "object");
    return bytes.status();
  }

  const AgentArguments& arguments_;
  Client client_;
  const Workload workload_;
  Scoreboard* const board_;
  Lane* const lane_;
  RequestWorker worker_;
};

}  // namespace

int AgentMain(const AgentArguments& arguments) {
  auto workload = SharedRegion::Open(UniqueFd(arguments.workload));
  auto board = SharedRegion::Open(UniqueFd(arguments.board));
  if (!workload.ok() || !board.ok() || arguments.lane >= kLanesMax) return 1;
  ConnectOptions options;
  options.socket_path = arguments.memd_socket_path;
  options.name = "demo-agent-" + std::to_string(arguments.lane);
  options.timeout = seconds(10);
  Result<Client> client = Client::Connect(options);
  if (!client.ok()) {
    Message message;
    message.type = MessageType::kTrouble;
    std::snprintf(message.text, sizeof(message.text), "connect: %s",
                  client.status().ToString().c_str());
    SendMessage(arguments.demo_socket, message);
    return 1;
  }
  auto* const shared = reinterpret_cast<Scoreboard*>(board->data());
  Agent(arguments, std::move(*client), Workload(workload->data()), shared)
      .Run();
  return 0;
}

}  // namespace agentmem::demo
