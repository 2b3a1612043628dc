// Whom a node says Hello to, and when: members that are silent, that refuse,
// and that answer.
#include "memd/service/cluster_door.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "memd/cluster/static_membership.h"
#include "proto/pool_messages.h"
#include "tests/unit/service/peer_fixture.h"

namespace agentmem {
namespace {

using testing::ElementsAre;

// Takes peers, and has none of them up.
class WaitingHost final : public PoolHost {
 public:
  PoolIdentity identity() const override {
    PoolIdentity identity;
    const PeerCard card = SampleCard("b");
    identity.instance = card.instance;
    identity.provider = card.provider;
    identity.fabric_address = card.fabric_address;
    return identity;
  }
  void AddPeer(const PoolPeer& peer) override {
    MutexLock lock(&mutex_);
    added_.push_back(peer.node);
    came_.NotifyAll();
  }
  void RemovePeer(const std::string&) override {}
  absl::StatusOr<std::vector<PoolPeerSnapshot>> Peers() override {
    return std::vector<PoolPeerSnapshot>();
  }
  void ShowCluster(const ClusterView&) override {}

  std::vector<std::string> AwaitPeer() {
    MutexLock lock(&mutex_);
    while (added_.empty()) came_.Wait(&mutex_);
    return added_;
  }

 private:
  Mutex mutex_;
  CondVar came_;
  std::vector<std::string> added_ AGENTMEM_GUARDED_BY(mutex_);
};

class ClusterDoorTest : public PeerTest {
 protected:
  // "z", the last of all.
  void StartLast() {
    PeerServerOptions options = Options();
    options.node = "z";
    options.pool_version = kPoolVersion;
    options.security = PeerSecurity::Insecure();
    backend_.card = SampleCard("z");
    backend_.card.pool_version = kPoolVersion;
    auto server = PeerServer::Start(options, &backend_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    Member("z", "127.0.0.1:" + std::to_string(server_->port()));
  }
  void Member(const std::string& node, const std::string& address) {
    MemberInfo member;
    member.node = node;
    member.peer_address = address;
    members_.push_back(member);
  }
  std::unique_ptr<ClusterDoor> Open() {
    ClusterConfig config;
    config.name = "c";
    config.node = "b";
    config.listen = "127.0.0.1:0";
    config.advertise = "127.0.0.1:1";
    config.insecure = true;
    auto door = ClusterDoor::Start(
        config, std::make_unique<StaticMembership>(members_), &host_);
    EXPECT_TRUE(door.ok()) << door.status();
    return door.ok() ? std::move(*door) : nullptr;
  }

  std::vector<MemberInfo> members_;
  WaitingHost host_;
};

// Each would cost two seconds.
TEST_F(ClusterDoorTest, SilentMembersHoldUpNobody) {
  std::vector<SilentPort> silent(10);
  for (std::size_t i = 0; i < silent.size(); ++i) {
    Member("c" + std::to_string(i), silent[i].address());
  }
  StartLast();
  const TimeNs start = MonotonicNowNs();
  const auto door = Open();
  ASSERT_NE(door, nullptr);
  EXPECT_THAT(host_.AwaitPeer(), ElementsAre("z"));
  EXPECT_LT(MonotonicNowNs() - start, 10 * kSecondNs);
}

TEST_F(ClusterDoorTest, WhoRefusesIsAskedAgain) {
  StartLast();
  {
    MutexLock lock(&backend_.mutex);
    backend_.failure = MakeStatus(absl::StatusCode::kUnavailable, "starting");
  }
  const auto door = Open();
  ASSERT_NE(door, nullptr);
  while (backend_.calls() == 0) std::this_thread::yield();
  const TimeNs first = MonotonicNowNs();
  {
    MutexLock lock(&backend_.mutex);
    backend_.failure = absl::OkStatus();
  }
  while (backend_.calls() == 1) std::this_thread::yield();
  EXPECT_GE(MonotonicNowNs() - first, kSecondNs / 2) << "it goes around";
  EXPECT_THAT(host_.AwaitPeer(), ElementsAre("z"));
}

}  // namespace
}  // namespace agentmem
