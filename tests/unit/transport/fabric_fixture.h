// Nodes on real libfabric in one process, polled in turns.
#ifndef AGENTMEM_TESTS_UNIT_TRANSPORT_FABRIC_FIXTURE_H_
#define AGENTMEM_TESTS_UNIT_TRANSPORT_FABRIC_FIXTURE_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "memd/transport/fabric_transport.h"
#include "tests/unit/transport/fabric_peer_process.h"

namespace agentmem {

// Where the nodes are: over TCP on this machine unless a main() says otherwise.
struct FabricTestPlace {
  std::string provider = "tcp";
  std::string bind_address = "127.0.0.1";       // of the node under test
  std::string peer_bind_address = "127.0.0.1";  // of its peers
  DurationNs patience = 20 * kSecondNs;
  std::uint64_t piece_bytes_max = 0;
  bool lossy = false;  // packets are lost all the while
};
inline FabricTestPlace& TestPlace() {
  static FabricTestPlace place;
  return place;
}

// As main() does: before the first call to libfabric.
inline void SetFabricEnvironment() {
  for (const auto& [name, value] : FabricEnvironment()) {
    ::setenv(name.c_str(), value.c_str(), /*overwrite=*/0);
  }
}

// A transport with memory, and what happened to it.
class FabricTestNode {
 public:
  FabricTestNode(const FabricOptions& options, std::uint64_t memory_bytes)
      : bytes(memory_bytes) {
    auto opened = FabricTransport::Open(options);
    EXPECT_TRUE(opened.ok()) << opened.status().ToString();
    transport = std::move(opened).value();
    auto registered = transport->Register(bytes, RemoteAccess::kReadWrite);
    EXPECT_TRUE(registered.ok()) << registered.status().ToString();
    memory = std::move(registered).value();
  }

  // Returns whether something happened.
  bool Poll(std::size_t events_max = 16) {
    std::vector<TransportEvent> events(events_max);
    const std::size_t count = transport->Poll(MonotonicNowNs() + ahead, events);
    ++polls;
    for (std::size_t i = 0; i < count; ++i) {
      const TransportEvent& event = events[i];
      switch (event.kind) {
        case TransportEvent::Kind::kDone:
          EXPECT_TRUE(done.emplace(event.ticket, event.code).second)
              << "ticket " << event.ticket << " completed twice";
          EXPECT_EQ(lost.count(event.link), 0u) << "kLost is the last";
          break;
        case TransportEvent::Kind::kMessage:
          messages.emplace_back(event.message.begin(), event.message.end());
          break;
        case TransportEvent::Kind::kLost:
          EXPECT_EQ(lost[event.link]++, 0) << "lost twice";
          break;
      }
    }
    return count > 0;
  }

  // [offset, +length) of this node's memory from or to `remote_offset` of the
  // peer's.
  Transfer Make(LinkId link, const RemoteMemory& remote, std::uint64_t offset,
                std::uint64_t length, std::uint64_t remote_offset,
                std::uint64_t ticket) {
    Transfer transfer;
    transfer.link = link;
    transfer.memory = memory.id;
    transfer.local = bytes.data() + offset;
    transfer.length = length;
    transfer.remote_address = remote.address + remote_offset;
    transfer.remote_key = remote.key;
    transfer.ticket = ticket;
    transfer.deadline = Deadline();
    return transfer;
  }
  TimeNs Deadline() const { return MonotonicNowNs() + ahead + deadline_in; }

  std::vector<char> bytes;
  std::unique_ptr<FabricTransport> transport;
  Registered memory;
  DurationNs ahead = 0;  // of the real time
  DurationNs deadline_in = 20 * kSecondNs;
  std::uint64_t polls = 0;
  std::map<std::uint64_t, Code> done;
  std::vector<std::string> messages;
  std::map<LinkId, int> lost;
};

class FabricTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kBytes = 20 << 20;

  static void SetUpTestSuite() { SetFabricEnvironment(); }

  static FabricOptions Options(bool peer) {
    FabricOptions options;
    options.provider = TestPlace().provider;
    options.bind_address =
        peer ? TestPlace().peer_bind_address : TestPlace().bind_address;
    options.piece_bytes_max = TestPlace().piece_bytes_max;
    return options;
  }
  FabricTestNode* AddNode(const FabricOptions& options) {
    nodes_.push_back(std::make_unique<FabricTestNode>(options, kBytes));
    return nodes_.back().get();
  }
  FabricTestNode* AddNode() { return AddNode(Options(!nodes_.empty())); }

  // Polls all nodes in turns until it is so.
  [[nodiscard]] bool Until(const std::function<bool()>& is_so) {
    const TimeNs end = MonotonicNowNs() + TestPlace().patience;
    while (!is_so()) {
      if (MonotonicNowNs() > end) return false;
      for (const auto& node : nodes_) node->Poll();
    }
    return true;
  }

  static LinkId Connect(FabricTestNode* from, const std::string& address) {
    const auto link = from->transport->Connect(address);
    EXPECT_TRUE(link.ok()) << link.status().ToString();
    return *link;
  }
  // A link that has been used: what is posted goes out at once.
  LinkId ConnectAndUse(FabricTestNode* from, const std::string& address,
                       const RemoteMemory& remote) {
    const LinkId link = Connect(from, address);
    EXPECT_EQ(ReadOne(from, link, remote), Code::kOk);
    return link;
  }
  LinkId ConnectAndUse(FabricTestNode* from, const FabricTestNode& to) {
    return ConnectAndUse(from, to.transport->address(), to.memory.remote);
  }
  // Reads the peer's first byte.
  Code ReadOne(FabricTestNode* node, LinkId link, const RemoteMemory& remote) {
    const std::uint64_t ticket = next_ticket_++;
    EXPECT_TRUE(
        node->transport->Read(node->Make(link, remote, 0, 1, 0, ticket)));
    EXPECT_TRUE(Until([&] { return node->done.count(ticket) > 0; }));
    return node->done[ticket];
  }

  std::vector<std::unique_ptr<FabricTestNode>> nodes_;
  std::uint64_t next_ticket_ = 1'000'000;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_TRANSPORT_FABRIC_FIXTURE_H_
