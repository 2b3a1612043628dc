// Bytes and messages between two nodes.
#include <algorithm>
#include <set>

#include "tests/unit/transport/fabric_fixture.h"

namespace agentmem {
namespace {

void Fill(std::vector<char>* bytes, std::uint64_t seed) {
  for (std::uint64_t i = 0; i < bytes->size(); ++i) {
    (*bytes)[i] = static_cast<char>((i + seed) * 131 + (i >> 9) * seed);
  }
}

// The parameter is FabricOptions::piece_bytes_max.
class FabricTransportTest : public FabricTest,
                            public testing::WithParamInterface<std::uint64_t> {
 protected:
  void SetUp() override {
    FabricOptions options = Options(/*peer=*/false);
    options.piece_bytes_max = GetParam();
    a_ = AddNode(options);
    b_ = AddNode();
    Fill(&a_->bytes, 3);
    Fill(&b_->bytes, 8);
    link_ = Connect(a_, b_->transport->address());
  }
  FabricTestNode* a_ = nullptr;
  FabricTestNode* b_ = nullptr;
  LinkId link_;
};

constexpr std::uint64_t kSizes[] = {
    1, 8, 4095, 64 << 10, (4 << 20), (4 << 20) + 1, 9437185};

TEST_P(FabricTransportTest, AReadBringsTheBytesAndNoneBesides) {
  const std::vector<char> before = a_->bytes;
  std::uint64_t ticket = 0;
  for (const std::uint64_t size : kSizes) {
    SCOPED_TRACE(size);
    a_->bytes = before;
    ASSERT_TRUE(a_->transport->Read(
        a_->Make(link_, b_->memory.remote, 77, size, 4099, ++ticket)));
    ASSERT_TRUE(Until([&] { return a_->done.size() == ticket; }));
    EXPECT_EQ(a_->done[ticket], Code::kOk);
    std::vector<char> expected = before;
    std::copy_n(b_->bytes.begin() + 4099, size, expected.begin() + 77);
    EXPECT_TRUE(a_->bytes == expected);
  }
}

TEST_P(FabricTransportTest, AWriteThatIsDoneIsInThePeersMemory) {
  const std::vector<char> before = b_->bytes;
  std::uint64_t ticket = 0;
  for (const std::uint64_t size : kSizes) {
    SCOPED_TRACE(size);
    b_->bytes = before;
    ASSERT_TRUE(a_->transport->Write(
        a_->Make(link_, b_->memory.remote, 4099, size, 77, ++ticket)));
    ASSERT_TRUE(Until([&] { return a_->done.size() == ticket; }));
    EXPECT_EQ(a_->done[ticket], Code::kOk);
    std::vector<char> expected = before;
    std::copy_n(a_->bytes.begin() + 4099, size, expected.begin() + 77);
    EXPECT_TRUE(b_->bytes == expected);
  }
}

// (tests/rdma/memd_rdma_test.py shows what becomes of memory that is.)
TEST_P(FabricTransportTest, DevicesPinMemoryAndSocketsDoNot) {
  EXPECT_EQ(a_->transport->limits().pins_memory, TestPlace().provider != "tcp");
}

TEST_P(FabricTransportTest, AsManyAsMayBeInFlightDoNotMixUpTheirBytes) {
  constexpr std::uint64_t kLength = 100'000;
  const std::uint64_t count = a_->transport->limits().transfers_in_flight;
  const auto make = [&](std::uint64_t i) {
    return a_->Make(link_, b_->memory.remote, i * kLength, kLength,
                    (count - 1 - i) * kLength, i);
  };
  for (std::uint64_t i = 0; i < count; ++i) {
    ASSERT_TRUE(a_->transport->Read(make(i))) << i;
  }
  EXPECT_FALSE(a_->transport->Read(make(0))) << "one too many";
  ASSERT_TRUE(Until([&] { return a_->done.size() == count; }));
  for (std::uint64_t i = 0; i < count; ++i) {
    EXPECT_EQ(a_->done[i], Code::kOk);
    EXPECT_TRUE(std::equal(a_->bytes.begin() + i * kLength,
                           a_->bytes.begin() + (i + 1) * kLength,
                           b_->bytes.begin() + (count - 1 - i) * kLength))
        << i;
  }
  EXPECT_TRUE(a_->transport->Read(make(0))) << "there is room again";
}

TEST_P(FabricTransportTest, MessagesOfAllLengthsArriveOnce) {
  const std::uint64_t max = a_->transport->limits().message_bytes_max;
  std::multiset<std::string> sent;
  std::uint64_t ticket = 0;
  for (const std::uint64_t size :
       {std::uint64_t{1}, std::uint64_t{63}, std::uint64_t{65},
        std::uint64_t{4096}, max - 1, max}) {
    std::string message(size, '\0');
    for (std::uint64_t i = 0; i < size; ++i) {
      message[i] = static_cast<char>(i * 7 + size);
    }
    sent.insert(message);
    ASSERT_TRUE(a_->transport->Send(link_, message, ++ticket, a_->Deadline()));
    // Its bytes were copied.
    std::fill(message.begin(), message.end(), 'x');
  }
  ASSERT_TRUE(Until([&] {
    return b_->messages.size() == sent.size() && a_->done.size() == ticket;
  }));
  EXPECT_TRUE(sent == std::multiset<std::string>(b_->messages.begin(),
                                                 b_->messages.end()));
  for (const auto& [id, code] : a_->done) EXPECT_EQ(code, Code::kOk) << id;
}

TEST_P(FabricTransportTest, BothWaysAtOnce) {
  const LinkId back = Connect(b_, a_->transport->address());
  constexpr std::uint64_t kOps = 200;
  std::uint64_t next[2] = {0, 0};
  FabricTestNode* const nodes[2] = {a_, b_};
  const LinkId links[2] = {link_, back};
  ASSERT_TRUE(Until([&] {
    for (int i = 0; i < 2; ++i) {
      FabricTestNode* const from = nodes[i];
      FabricTestNode* const to = nodes[1 - i];
      while (next[i] < kOps) {
        const Transfer transfer =
            from->Make(links[i], to->memory.remote, (10 << 20) + next[i] * 4096,
                       4096, next[i] * 4096, next[i]);
        if (!from->transport->Read(transfer)) break;
        ++next[i];
      }
    }
    return a_->done.size() == kOps && b_->done.size() == kOps;
  }));
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(std::equal(nodes[i]->bytes.begin() + (10 << 20),
                           nodes[i]->bytes.begin() + (10 << 20) + kOps * 4096,
                           nodes[1 - i]->bytes.begin()));
  }
}

INSTANTIATE_TEST_SUITE_P(Pieces, FabricTransportTest,
                         testing::Values(0, 1 << 20, 65'537));

class FabricRegistrationTest : public FabricTest {};

TEST_F(FabricRegistrationTest, KeysDifferAndMemoryForNobodyHasNone) {
  FabricTestNode* const node = AddNode();
  std::set<std::uint64_t> keys = {node->memory.remote.key};
  std::vector<char> memory(64 << 10);
  for (int i = 0; i < 8; ++i) {
    const auto registered =
        node->transport->Register(memory, RemoteAccess::kRead);
    ASSERT_TRUE(registered.ok());
    EXPECT_TRUE(keys.insert(registered->remote.key).second);
    EXPECT_EQ(registered->remote.bytes, memory.size());
  }
  const auto own = node->transport->Register(memory, RemoteAccess::kNone);
  ASSERT_TRUE(own.ok());
  EXPECT_EQ(own->remote.bytes, 0u);
  EXPECT_EQ(own->remote.key, 0u);
  EXPECT_EQ(node->transport->Register({}, RemoteAccess::kRead).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(FabricRegistrationTest, WhatIsNotAnAddressIsRefusedByItsFault) {
  FabricTestNode* const node = AddNode();
  const std::string good = node->transport->address();
  std::string other = good;
  other[1] ^= 1;
  std::string version = good;
  version[0] = 2;
  const std::pair<std::string, const char*> cases[] = {
      {"", "version"},       {"nonsense", "version"},
      {version, "version"},  {other, "provider"},
      {good + "x", "bytes"}, {good.substr(0, good.size() - 1), "bytes"},
  };
  for (const auto& [address, word] : cases) {
    const auto link = node->transport->Connect(address);
    ASSERT_FALSE(link.ok()) << word;
    EXPECT_EQ(link.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(std::string(link.status().message()).find(word),
              std::string::npos)
        << link.status().ToString();
  }
}

}  // namespace
}  // namespace agentmem
