// Agents and regions by the C++ layer.
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agentmem/agentmem.hpp"
#include "gtest/gtest.h"
#include "tests/unit/client/fake_node.h"

namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

constexpr std::uint64_t kBytes = 1 << 20;

class AgentsCppTest : public testing::Test {
 protected:
  void SetUp() override {
    auto client =
        agentmem::Client::Connect({.socket_path = node_.socket_path()});
    ASSERT_TRUE(client.ok()) << client.status().ToString();
    client_.emplace(std::move(*client));
  }
  agentmem::Result<agentmem::Agent> Open() {
    return client_->Agents().Open(
        "coder", {.write = true, .create = true, .labels = {{"team", "red"}}});
  }
  static std::string Text(const agentmem::Region& region, std::size_t bytes) {
    std::vector<std::byte> read(bytes);
    const agentmem::Status status = region.Read(0, read);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return {reinterpret_cast<const char*>(read.data()), read.size()};
  }
  static agentmem::Status Write(agentmem::Region& region,
                                const std::string& text) {
    return region.Write(0, std::as_bytes(std::span(text)));
  }

  FakeNode node_;
  std::optional<agentmem::Client> client_;
};

TEST_F(AgentsCppTest, ARegionIsWrittenCommittedAndReadAsItWas) {
  auto agent = Open();
  ASSERT_TRUE(agent.ok()) << agent.status().ToString();
  auto region = agent->OpenRegion("heap", {.bytes = kBytes});
  ASSERT_TRUE(region.ok()) << region.status().ToString();
  EXPECT_EQ(region->size(), kBytes);
  ASSERT_TRUE(Write(*region, "first").ok());
  auto first = region->Commit({.message = "one", .labels = {{"step", "1"}}});
  ASSERT_TRUE(first.ok()) << first.status().ToString();
  ASSERT_TRUE(Write(*region, "later").ok());
  ASSERT_TRUE(agent->Commit().ok());
  EXPECT_EQ(Text(*region, 5), "later");
  auto before = agent->OpenRegion("heap", {.version = *first});
  ASSERT_TRUE(before.ok()) << before.status().ToString();
  EXPECT_EQ(Text(*before, 5), "first");

  auto history = client_->Agents().History("coder", "heap");
  ASSERT_TRUE(history.ok()) << history.status().ToString();
  ASSERT_EQ(history->size(), 2u);
  EXPECT_EQ((*history)[1].message, "one");
  EXPECT_EQ((*history)[1].labels, (agentmem::Labels{{"step", "1"}}));
}

TEST_F(AgentsCppTest, DataIsTheMemoryThatReadReads) {
  auto agent = Open();
  auto region = agent->OpenRegion("heap", {.bytes = kBytes});
  ASSERT_TRUE(region.ok());
  if (region->data() == nullptr) GTEST_SKIP() << region->State()->reason;
  std::memcpy(region->data(), "touch", 5);
  EXPECT_EQ(Text(*region, 5), "touch");
  EXPECT_TRUE(region->Pin({0, 4096}).ok());
  EXPECT_TRUE(region->Unpin({0, 4096}).ok());
  EXPECT_EQ(*region->Hint({0, 4096}, 5s), agentmem::HintAnswer::kClipped);
}

TEST_F(AgentsCppTest, AgentsAreListedShownForkedAndDeleted) {
  auto agent = Open();
  ASSERT_TRUE(agent->OpenRegion("heap", {.bytes = kBytes}).ok());
  ASSERT_TRUE(client_->Agents().Fork("coder", "coder-2").ok());
  auto names = client_->Agents().List("coder");
  ASSERT_TRUE(names.ok()) << names.status().ToString();
  ASSERT_EQ(names->size(), 2u);
  EXPECT_EQ((*names)[1].name, "coder-2");
  auto shown = client_->Agents().Show("coder-2");
  ASSERT_TRUE(shown.ok());
  ASSERT_EQ(shown->regions.size(), 1u);
  EXPECT_EQ(shown->regions[0].bytes, kBytes);
  ASSERT_TRUE(client_->Agents().Delete("coder-2").ok());
  EXPECT_EQ(client_->Agents().List("coder")->size(), 1u);
  EXPECT_EQ(client_->Agents().RetainLast("coder", 0).code(),
            agentmem::Code::kInvalidArgument);
}

TEST_F(AgentsCppTest, WhatWasMovedFromClosesNothing) {
  auto agent = Open();
  auto region = agent->OpenRegion("heap", {.bytes = kBytes});
  agentmem::Region moved = std::move(*region);
  agentmem::Agent owner = std::move(*agent);
  EXPECT_EQ(region->data(), nullptr);
  EXPECT_TRUE(Write(moved, "still").ok());
  EXPECT_EQ(region->Commit().status().code(), agentmem::Code::kInvalidArgument);
  EXPECT_EQ(*owner.SetPhase(agentmem::Phase::kTool, "pytest", 30s),
            agentmem::HintAnswer::kAccepted);
}

}  // namespace
