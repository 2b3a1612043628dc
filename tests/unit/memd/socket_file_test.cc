// What a socket's file takes the place of, and what it leaves alone.
#include "memd/socket_file.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/status.h"
#include "base/unique_fd.h"
#include "gmock/gmock.h"

namespace agentmem {
namespace {

using testing::HasSubstr;

class SocketFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/socketXXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    path_ = directory_ + "/s";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  static UniqueFd Listen(const std::string& path, int type) {
    UniqueFd listener(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address),
                     sizeof(address)),
              0);
    EXPECT_EQ(::listen(listener.get(), 1), 0);
    return listener;
  }
  void ExpectRefused(const std::string& why) {
    const auto file = SocketFile::Make(path_, SOCK_SEQPACKET);
    EXPECT_EQ(file.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(StatusMessage(file.status()), HasSubstr(why));
    EXPECT_THAT(StatusMessage(file.status()), HasSubstr(path_));
  }

  std::string directory_;
  std::string path_;
};

TEST_F(SocketFileTest, WhatIsNoSocketIsLeftAlone) {
  std::ofstream(path_) << "precious";
  ExpectRefused("is not a socket");
  EXPECT_EQ(std::filesystem::file_size(path_), 8u);
  std::filesystem::rename(path_, directory_ + "/target");
  std::filesystem::create_symlink(directory_ + "/target", path_);
  ExpectRefused("is not a socket");
  EXPECT_TRUE(std::filesystem::is_symlink(path_));
}

TEST_F(SocketFileTest, WhereSomebodyAnswersNothingIsDone) {
  for (const int type : {SOCK_SEQPACKET, SOCK_STREAM}) {
    const UniqueFd other = Listen(path_, type);
    ExpectRefused("another process answers");
    EXPECT_TRUE(std::filesystem::is_socket(path_));
    std::filesystem::remove(path_);
  }
}

TEST_F(SocketFileTest, WhatADeadListenerLeftIsReplacedAndTakenAway) {
  Listen(path_, SOCK_STREAM).Reset();
  {
    auto file = SocketFile::Make(path_, SOCK_SEQPACKET);
    ASSERT_TRUE(file.ok()) << file.status();
    const UniqueFd listener = Listen((*file)->private_path(), SOCK_SEQPACKET);
    ASSERT_TRUE((*file)->Publish(0640).ok());
    struct stat info = {};
    ASSERT_EQ(::lstat(path_.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode, S_IFSOCK | 0640u);
    ExpectRefused("another process answers");
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(SocketFileTest, WhatTookItsPlaceIsLeftAlone) {
  auto file = SocketFile::Make(path_, SOCK_SEQPACKET);
  ASSERT_TRUE(file.ok()) << file.status();
  const UniqueFd listener = Listen((*file)->private_path(), SOCK_SEQPACKET);
  ASSERT_TRUE((*file)->Publish(0600).ok());
  std::filesystem::remove(path_);
  std::ofstream(path_) << "another's";
  file->reset();
  EXPECT_EQ(std::filesystem::file_size(path_), 9u);
}

TEST_F(SocketFileTest, ALongPathIsRefusedWithItsLimit) {
  const std::string longest =
      directory_ + "/" +
      std::string(SocketFile::kBytesMax - directory_.size() - 1, 'x');
  {
    auto file = SocketFile::Make(longest, SOCK_SEQPACKET);
    ASSERT_TRUE(file.ok()) << file.status();
    const UniqueFd listener = Listen((*file)->private_path(), SOCK_SEQPACKET);
    EXPECT_TRUE((*file)->Publish(0600).ok());
  }
  const auto longer = SocketFile::Make(longest + "x", SOCK_SEQPACKET);
  EXPECT_EQ(longer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(StatusMessage(longer.status()), HasSubstr("98"));
}

}  // namespace
}  // namespace agentmem
