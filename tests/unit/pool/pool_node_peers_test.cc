// PoolNode: how often it wants to be looked at while peers come and go.
#include "tests/unit/pool/pool_node_fixture.h"

namespace agentmem {
namespace {

class PoolNodePeersTest : public PoolNodeTest {};

TEST_F(PoolNodePeersTest, ANodeIsBusyWhileALinkComesUpAndIdleAfterwards) {
  cluster_ = std::make_unique<PoolCluster>(Roomy());
  cluster_->Start("a", 0);
  cluster_->Start("b", 0);
  EXPECT_FALSE(Node("a").busy());
  cluster_->IntroduceAll();
  // Its Tick alone tries a link again.
  cluster_->RunFor(0);
  EXPECT_TRUE(Node("a").busy());
  cluster_->RunFor(100 * kMillisecondNs);
  EXPECT_FALSE(Node("a").busy());
}

TEST_F(PoolNodePeersTest, APeerThatDiedKeepsNobodyBusyForLong) {
  Make({"a", "b"}, /*export_bytes=*/0);
  EXPECT_FALSE(Node("a").busy());
  cluster_->Kill("b");
  cluster_->RunFor(100 * kMillisecondNs);
  EXPECT_TRUE(Node("a").busy());
  cluster_->RunFor(20 * kSecondNs);
  EXPECT_FALSE(Node("a").busy());
}

}  // namespace
}  // namespace agentmem
