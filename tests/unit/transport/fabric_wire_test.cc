#include "memd/transport/fabric_wire.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <string>

#include "base/unique_fd.h"

namespace agentmem {
namespace {

// Two ends of a TCP connection on this machine.
std::array<UniqueFd, 2> TcpPair() {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof(address);
  auto* const general = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(::bind(listener.get(), general, bytes), 0);
  EXPECT_EQ(::listen(listener.get(), 1), 0);
  EXPECT_EQ(::getsockname(listener.get(), general, &bytes), 0);
  UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(client.get(), general, bytes), 0);
  UniqueFd server(::accept(listener.get(), nullptr, nullptr));
  return {std::move(client), std::move(server)};
}

UniqueFd Epoll(std::initializer_list<int> watched) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  for (const int fd : watched) {
    epoll_event event = {};
    event.events = EPOLLIN;
    EXPECT_EQ(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event), 0);
  }
  return epoll;
}

bool AtEnd(int fd) {
  char byte = 0;
  return ::recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}
bool IsOpen(int fd) {
  char byte = 0;
  return ::recv(fd, &byte, 1, MSG_DONTWAIT) == -1;
}

TEST(FabricCutTest, CutsWhatIsWatchedThroughOthersAndNothingElse) {
  const auto watched = TcpPair();
  const auto other = TcpPair();
  int local[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, local), 0);
  const UniqueFd local_ends[] = {UniqueFd(local[0]), UniqueFd(local[1])};
  const UniqueFd inner = Epoll({watched[0].get(), local[0]});
  const UniqueFd outer = Epoll({inner.get()});
  EXPECT_TRUE(IsOpen(watched[1].get()));
  EXPECT_EQ(CountConnections(outer.get()), 1u);
  EXPECT_TRUE(IsOpen(watched[1].get()));
  EXPECT_EQ(CutConnections(outer.get()), 1u);
  EXPECT_TRUE(AtEnd(watched[0].get()));
  EXPECT_TRUE(AtEnd(watched[1].get()));
  EXPECT_TRUE(IsOpen(other[0].get()));
  EXPECT_TRUE(IsOpen(local[1]));
}

TEST(FabricCutTest, WhatHasArrivedIsDroppedAndNothingFollowsIt) {
  const auto watched = TcpPair();
  const UniqueFd epoll = Epoll({watched[0].get()});
  const std::string sent(100'000, 's');
  ASSERT_EQ(::send(watched[1].get(), sent.data(), sent.size(), 0),
            static_cast<ssize_t>(sent.size()));
  char byte = 0;
  ASSERT_EQ(::recv(watched[0].get(), &byte, 1, MSG_PEEK), 1);
  EXPECT_EQ(CutConnections(epoll.get()), 1u);
  EXPECT_TRUE(AtEnd(watched[0].get()));
  EXPECT_EQ(::send(watched[1].get(), sent.data(), 1, MSG_NOSIGNAL), 1);
  EXPECT_LE(::recv(watched[0].get(), &byte, 1, 0), 0);
}

TEST(FabricCutTest, ANumberThatIsAnotherFilesByNowIsNotCut) {
  auto watched = TcpPair();
  const auto other = TcpPair();
  const UniqueFd epoll = Epoll({watched[0].get()});
  // The epoll descriptor watches on: the file lives, under another number.
  const UniqueFd copy(::dup(watched[0].get()));
  ASSERT_EQ(::dup2(other[0].get(), watched[0].get()), watched[0].get());
  EXPECT_EQ(CutConnections(epoll.get()), 0u);
  EXPECT_TRUE(IsOpen(other[1].get()));
}

TEST(FabricCutTest, ASocketThatIsNotConnectedIsLeftAlone) {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd epoll = Epoll({socket.get()});
  EXPECT_EQ(CutConnections(epoll.get()), 0u);
  EXPECT_EQ(CutConnections(-1), 0u);
}

}  // namespace
}  // namespace agentmem
