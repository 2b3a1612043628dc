#include <cstring>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "agentmem/agentmem.hpp"
#include "gtest/gtest.h"
#include "tests/unit/client/fake_node.h"

namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

agentmem::Bytes BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text));
}
std::string TextOf(agentmem::Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class CppLayerTest : public testing::Test {
 protected:
  agentmem::Result<agentmem::Client> Connect() {
    return agentmem::Client::Connect({.socket_path = node_.socket_path()});
  }

  FakeNode node_;
};

TEST_F(CppLayerTest, TheReadmesExampleWorks) {
  std::vector<std::uint32_t> tokens(1200);
  std::iota(tokens.begin(), tokens.end(), 0u);
  auto client = Connect();
  ASSERT_TRUE(client.ok()) << client.status().ToString();
  auto sequence =
      client->Sequence({.model = "llama-3-8b", .block_tokens = 512});
  auto hit = sequence.Match(tokens);
  EXPECT_EQ(hit.blocks(), 0u);
  auto none = client->Get(hit.keys(), 50ms);
  EXPECT_TRUE(none.complete());
  EXPECT_TRUE(none.empty());
  auto put = client->Put(sequence.Next(tokens), BytesOf("kv of block 0"),
                         agentmem::Ack::kDurable);
  EXPECT_TRUE(put.Wait(10s).ok()) << put.status().ToString();

  hit = sequence.Match(tokens);
  EXPECT_EQ(hit.blocks(), 1u);
  EXPECT_EQ(hit.tokens(), 512u);
  auto blocks = client->Get(hit.keys(), 50ms);
  ASSERT_TRUE(blocks.complete()) << blocks.status().ToString();
  EXPECT_EQ(TextOf(blocks[0]), "kv of block 0");
  EXPECT_EQ(blocks.tier(0), agentmem::Tier::kDram);
}

TEST_F(CppLayerTest, BlocksReleaseThemselvesAlsoWhenMoved) {
  auto client = Connect();
  ASSERT_TRUE(client.ok());
  const agentmem::Key key = {{7, {1, 2, 3}}};
  ASSERT_TRUE(client->Put(key, BytesOf("bytes")).Wait(10s).ok());
  {
    auto blocks = client->Get(key);
    auto moved = std::move(blocks);
    EXPECT_EQ(TextOf(moved[0]), "bytes");
    EXPECT_EQ(node_.pins(), 1);
  }
  EXPECT_EQ(node_.pins(), 0);
}

TEST_F(CppLayerTest, APartialGetKeepsWhatItGot) {
  auto client = Connect();
  ASSERT_TRUE(client.ok());
  const std::vector<agentmem::Key> keys = {{{7, {1, 2, 3}}}, {{8, {1, 2, 3}}}};
  ASSERT_TRUE(client->Put(keys[0], BytesOf("bytes")).Wait(10s).ok());
  auto blocks = client->Get(keys, 10s);
  EXPECT_EQ(blocks.status().code(), agentmem::Code::kNotFound);
  EXPECT_TRUE(blocks.has(0));
  EXPECT_EQ(TextOf(blocks[0]), "bytes");
  EXPECT_FALSE(blocks.has(1));
  EXPECT_TRUE(blocks[1].empty());
  auto tiers = client->Contains(keys);
  ASSERT_TRUE(tiers.ok());
  EXPECT_EQ((*tiers)[0], agentmem::Tier::kDram);
  EXPECT_EQ((*tiers)[1], agentmem::Tier::kNone);
}

TEST_F(CppLayerTest, AnErrorOfOpeningASequenceIsTheAnswerOfItsOperations) {
  auto client = Connect();
  ASSERT_TRUE(client.ok());
  auto sequence = client->Sequence({.model = "", .block_tokens = 0});
  const std::vector<std::uint32_t> tokens(10);
  constexpr auto kInvalid = agentmem::Code::kInvalidArgument;
  EXPECT_EQ(sequence.status().code(), kInvalid);
  EXPECT_EQ(sequence.Match(tokens).status().code(), kInvalid);
  EXPECT_EQ(sequence.Next(tokens).status().code(), kInvalid);
  EXPECT_EQ(sequence.Load(tokens).status().code(), kInvalid);
  EXPECT_EQ(sequence.Append(tokens, BytesOf("x")).status().code(), kInvalid);
  auto put = client->Put(sequence.Next(tokens), BytesOf("x"));
  EXPECT_EQ(put.Wait(1s).code(), kInvalid);
}

TEST_F(CppLayerTest, AReservationIsWrittenInPlace) {
  auto client = Connect();
  ASSERT_TRUE(client.ok());
  const agentmem::Key key = {{7, {1, 2, 3}}};
  auto room = client->Reserve(5);
  ASSERT_TRUE(room.ok());
  std::memcpy(room->data().data(), "there", 5);
  ASSERT_TRUE(room->Publish(key, 5).Wait(10s).ok());
  EXPECT_EQ(TextOf(client->Get(key)[0]), "there");
}

TEST_F(CppLayerTest, ObjectsOfAnySizeComeBack) {
  auto client = Connect();
  ASSERT_TRUE(client.ok());
  const std::string bytes(3 << 20, 'o');
  ASSERT_TRUE(client->PutObject("o", BytesOf(bytes)).ok());
  auto read = client->GetObject("o", 10s);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_TRUE(TextOf(*read) == bytes);
  EXPECT_EQ(client->GetObject("p", 10s).status().code(),
            agentmem::Code::kNotFound);
}

TEST_F(CppLayerTest, AppendAndLoadAreEnoughForASequence) {
  auto client = Connect();
  ASSERT_TRUE(client.ok());
  const std::vector<std::uint32_t> tokens(30, 7);
  auto sequence = client->Sequence({.model = "m", .block_tokens = 10});
  for (const char* text : {"a", "b", "c"}) {
    ASSERT_TRUE(sequence.Append(tokens, BytesOf(text)).Wait(10s).ok());
  }
  auto blocks = sequence.Load(tokens, 10s);
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(TextOf(blocks[2]), "c");
  EXPECT_EQ(sequence.Next(tokens).status().code(), agentmem::Code::kOutOfRange);
}

}  // namespace
