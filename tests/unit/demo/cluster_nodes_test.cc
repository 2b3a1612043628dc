#include "tests/demo/cluster_nodes.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "base/unique_fd.h"

namespace agentmem::demo {
namespace {

// A cluster's directory with one node, and somebody at its control socket.
class ClusterNodesTest : public testing::Test {
 protected:
  ClusterNodesTest() {
    std::string path = testing::TempDir() + "agentmem_nodes_XXXXXX";
    directory_ = mkdtemp(path.data());
    std::ofstream(directory_ + "/cluster.json")
        << R"({"nodes": [{"name": "n1", "socket": ")" << directory_
        << R"(/n1", "log": ")" << directory_ << R"(/log"}]})";
    std::ofstream(directory_ + "/log") << "last words\n";
    listener_ = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof(address.sun_path), "%s/control",
                  directory_.c_str());
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address),
                   sizeof(address)),
              0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
  }
  ~ClusterNodesTest() override { std::filesystem::remove_all(directory_); }

  // Answers one request, and returns it.
  std::string Answer(const std::string& text) const {
    const UniqueFd connection(accept(listener_.get(), nullptr, nullptr));
    char request[256] = {};
    const ssize_t got = read(connection.get(), request, sizeof(request) - 1);
    EXPECT_GT(got, 0);
    EXPECT_EQ(write(connection.get(), text.data(), text.size()),
              static_cast<ssize_t>(text.size()));
    return request;
  }

  std::string directory_;
  UniqueFd listener_;
};

TEST_F(ClusterNodesTest, ANodeIsKilledAndStartedByItsName) {
  const auto nodes = ClusterNodes::Open(directory_);
  ASSERT_TRUE(nodes.ok()) << nodes.status().message();
  ASSERT_EQ((*nodes)->count(), 1u);
  EXPECT_EQ((*nodes)->SocketPath(0), directory_ + "/n1");
  std::string killed;
  std::string started;
  std::thread cluster([&] {
    killed = Answer("ok\n");
    started = Answer("ok\n");
  });
  EXPECT_TRUE((*nodes)->Kill(0).ok());
  EXPECT_TRUE((*nodes)->Start(0).ok());
  cluster.join();
  EXPECT_EQ(killed, "kill n1\n");
  EXPECT_EQ(started, "start n1\n");
}

TEST_F(ClusterNodesTest, ARefusalIsToldInTheClustersWords) {
  const auto nodes = ClusterNodes::Open(directory_);
  ASSERT_TRUE(nodes.ok());
  for (const char* answer : {"error n1 does not run\n", ""}) {
    std::thread cluster([&] { Answer(answer); });
    const absl::Status status = (*nodes)->Kill(0);
    cluster.join();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    const std::string words = *answer == '\0' ? "no answer" : "does not run";
    EXPECT_NE(std::string(status.message()).find(words), std::string::npos);
  }
}

TEST_F(ClusterNodesTest, ANodeThatTakesNoConnectionsIsDeadWithItsLastWords) {
  const auto nodes = ClusterNodes::Open(directory_);
  ASSERT_TRUE(nodes.ok());
  const absl::Status status = (*nodes)->Check(0);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(std::string(status.message()).find("n1"), std::string::npos);
  EXPECT_NE(std::string(status.message()).find("last words"),
            std::string::npos);
}

TEST_F(ClusterNodesTest, WithoutADescriptionItSaysWhatIsMissing) {
  EXPECT_EQ(ClusterNodes::Open(directory_ + "/none").status().code(),
            absl::StatusCode::kNotFound);
  for (const char* text :
       {"", "[]", "{}", R"({"nodes": 1})", R"({"nodes": [1]})",
        R"({"nodes": [{"name": "n1", "socket": 5, "log": "x"}]})",
        R"({"nodes": [{"name": "n1", "log": "x"}]})"}) {
    EXPECT_EQ(ClusterNodes::Parse(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

}  // namespace
}  // namespace agentmem::demo
