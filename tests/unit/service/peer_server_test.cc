#include "memd/service/peer_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "peer_fixture.h"

namespace agentmem {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using PeerServerTest = PeerTest;

TEST_F(PeerServerTest, TwoNodesWithRightCertificatesShowTheirCards) {
  StartServer(Node("a"));
  PeerClient client(Node("b"));
  for (int i = 0; i < 3; ++i) {
    const absl::StatusOr<PeerCard> card = Hello(&client, SampleCard("b"));
    ASSERT_TRUE(card.ok()) << card.status();
    EXPECT_EQ(*card, SampleCard("a"));
  }
  ASSERT_EQ(backend_.seen.size(), 3u);
  EXPECT_EQ(backend_.seen[0], SampleCard("b"));
  EXPECT_EQ(server_->refused(), 0u);
}

TEST_F(PeerServerTest, InsecurePeersAreBelieved) {
  StartServer(PeerSecurity::Insecure());
  PeerClient client(PeerSecurity::Insecure());
  const absl::StatusOr<PeerCard> card = Hello(&client, SampleCard("b"));
  ASSERT_TRUE(card.ok()) << card.status();
  EXPECT_EQ(*card, SampleCard("a"));
}

}  // namespace
}  // namespace agentmem
