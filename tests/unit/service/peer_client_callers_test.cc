// Many threads, and yet no *_thread_test: Debian's gRPC is not instrumented,
// and ThreadSanitizer sees a race in whatever it passes between threads.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/unit/service/peer_fixture.h"

namespace agentmem {
namespace {

using PeerClientCallersTest = PeerTest;

// Certificates are replaced, peers come and go, and callers of all kinds share
// one client meanwhile.
TEST_F(PeerClientCallersTest, ManyCallersShareAClientWhileCertificatesChange) {
  StartServer(Node("a"));
  PeerClient client(Node("b"));
  std::atomic<int> answered = 0;
  std::atomic<int> failed = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&, i] {
      for (int call = 0; call < 25; ++call) {
        // Some mean another node, and must never be given this one.
        const std::string node = (call + i) % 5 == 0 ? "z" : "a";
        const absl::StatusOr<PeerCard> card =
            HelloOf(&client, address_, node, SampleCard("b"), Soon());
        if (node == "z") {
          EXPECT_EQ(card.status().code(), absl::StatusCode::kPermissionDenied)
              << card.status();
          continue;
        }
        ++(card.ok() ? answered : failed);
        EXPECT_TRUE(card.ok()) << card.status();
      }
    });
  }
  // New certificates of the same authority: right at any time.
  for (int i = 0; i < 20; ++i) {
    WritePeerFiles(directory_, i % 2 == 0 ? "a" : "b",
                   authority_.SignNode("c", i % 2 == 0 ? "a" : "b"),
                   authority_.certificate());
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(answered, 80);
  EXPECT_EQ(failed, 0);
}

TEST_F(PeerClientCallersTest, AServerStopsWhileCallersCall) {
  StartServer(Node("a"));
  PeerClient client(Node("b"));
  std::atomic<bool> stopped = false;
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      while (!stopped) {
        const absl::Status status = Hello(&client, SampleCard("b")).status();
        EXPECT_TRUE(status.ok() ||
                    status.code() == absl::StatusCode::kUnavailable ||
                    status.code() == absl::StatusCode::kCancelled ||
                    status.code() == absl::StatusCode::kUnauthenticated)
            << status;
      }
    });
  }
  while (backend_.calls() < 20) std::this_thread::yield();
  server_.reset();
  stopped = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_GE(backend_.calls(), 20u);
}

}  // namespace
}  // namespace agentmem
