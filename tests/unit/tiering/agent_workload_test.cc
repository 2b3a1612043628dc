#include "tiering/traces/agent_workload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"

namespace agentmem::tiering {
namespace {

double Quantile(std::vector<double> values, double share) {
  EXPECT_FALSE(values.empty());
  const auto at =
      values.begin() + static_cast<std::ptrdiff_t>(share * (values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

struct Statistics {
  std::vector<double> cached_tokens, appended_tokens, output_tokens;
  std::vector<double> tool_seconds, human_seconds, turns;
  std::vector<double> first_context, last_context;
  double hits = 0, references = 0;
};

// A cache without bound, of one bit a block: ids are dense.
Statistics Measure(const AgentWorkloadOptions& options) {
  AgentWorkload workload(options);
  Statistics statistics;
  std::vector<bool> seen;
  std::map<std::uint64_t, TraceRequest> last_of_agent;
  TraceRequest request;
  while (*workload.Next(&request)) {
    std::size_t hits = 0;
    bool in_prefix = true;
    for (const std::uint64_t id : request.block_ids) {
      if (id >= seen.size()) seen.resize(id + 1);
      in_prefix = in_prefix && seen[id];
      hits += in_prefix ? 1 : 0;
      seen[id] = true;
    }
    statistics.hits += hits;
    statistics.references += request.block_ids.size();
    statistics.cached_tokens.push_back(static_cast<double>(hits) *
                                       options.block_tokens);
    statistics.output_tokens.push_back(request.output_tokens);
    (request.think_phase == Phase::kTool ? statistics.tool_seconds
                                         : statistics.human_seconds)
        .push_back(request.think_ns * 1e-9);
    TraceRequest& last = last_of_agent[request.agent];
    if (request.turn == 0) {
      statistics.first_context.push_back(request.input_tokens);
      if (last.input_tokens > 0) {
        statistics.turns.push_back(last.turn + 1);
        statistics.last_context.push_back(last.input_tokens);
      }
    } else if (request.input_tokens >= last.input_tokens) {
      statistics.appended_tokens.push_back(
          1.0 * request.input_tokens - last.input_tokens - last.output_tokens);
    }
    last = request;
  }
  return statistics;
}

constexpr AgentWorkloadOptions kLong = {
    .seed = 1, .agents = 64, .requests = 100'000};

void ExpectWithin10Percent(double value, double published,
                           const std::string& what) {
  EXPECT_NEAR(value, published, 0.1 * published) << what;
}

TEST(AgentWorkloadTest, FollowsThePublishedStatistics) {
  const Statistics statistics = Measure(kLong);
  ExpectWithin10Percent(Quantile(statistics.cached_tokens, 0.5), 119'000,
                        "cached tokens");
  ExpectWithin10Percent(Quantile(statistics.appended_tokens, 0.5), 875,
                        "appended tokens");
  ExpectWithin10Percent(Quantile(statistics.output_tokens, 0.5), 214,
                        "output tokens");
  ExpectWithin10Percent(Quantile(statistics.tool_seconds, 0.5), 0.3,
                        "tool p50");
  ExpectWithin10Percent(Quantile(statistics.tool_seconds, 0.9), 13.6,
                        "tool p90");
  ExpectWithin10Percent(Quantile(statistics.tool_seconds, 0.99), 216,
                        "tool p99");
  ExpectWithin10Percent(Quantile(statistics.human_seconds, 0.5), 84,
                        "human wait p50");
  ExpectWithin10Percent(Quantile(statistics.human_seconds, 0.9), 1236,
                        "human wait p90");
  ExpectWithin10Percent(Quantile(statistics.turns, 0.5), 33, "turns");
  ExpectWithin10Percent(Quantile(statistics.first_context, 0.5), 12'000,
                        "context at the first turn");
  EXPECT_NEAR(statistics.hits / statistics.references, 0.957, 0.02);
}

TEST(AgentWorkloadTest, SameSeedSameRequestsOtherSeedOthers) {
  AgentWorkload a({.seed = 5, .requests = 500});
  AgentWorkload b({.seed = 5, .requests = 500});
  AgentWorkload c({.seed = 6, .requests = 500});
  TraceRequest from_a, from_b, from_c;
  bool differs = false;
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(*a.Next(&from_a) && *b.Next(&from_b) && *c.Next(&from_c));
    ASSERT_EQ(from_a.timestamp_ns, from_b.timestamp_ns);
    ASSERT_EQ(from_a.agent, from_b.agent);
    ASSERT_EQ(from_a.block_ids, from_b.block_ids);
    ASSERT_EQ(from_a.think_ns, from_b.think_ns);
    differs |= from_a.output_tokens != from_c.output_tokens;
  }
  EXPECT_TRUE(differs);
  EXPECT_FALSE(*a.Next(&from_a)) << "500 were asked for";
}

TEST(AgentWorkloadTest, AnIdStandsAtOnePlaceBehindOnePredecessor) {
  AgentWorkload workload({.seed = 2, .agents = 9, .requests = 3000});
  std::map<std::uint64_t, std::pair<std::size_t, std::uint64_t>> place_of_id;
  TraceRequest request;
  DurationNs last_ns = 0;
  while (*workload.Next(&request)) {
    ASSERT_GE(request.timestamp_ns, last_ns);
    last_ns = request.timestamp_ns;
    ASSERT_EQ(request.block_ids.size(), request.input_tokens / 512);
    std::uint64_t parent = UINT64_MAX;
    for (std::size_t i = 0; i < request.block_ids.size(); ++i) {
      const auto [place, is_new] =
          place_of_id.emplace(request.block_ids[i], std::make_pair(i, parent));
      ASSERT_TRUE(is_new || place->second == std::make_pair(i, parent));
      parent = request.block_ids[i];
    }
  }
}

TEST(AgentWorkloadTest, AgentsShareThePrefixOfTheirProjectOnly) {
  AgentWorkload workload(
      {.seed = 3, .agents = 6, .requests = 2000, .agents_per_project = 2});
  std::map<std::uint64_t, std::set<std::uint64_t>> agents_of_first_block;
  std::map<std::uint64_t, std::set<std::uint64_t>> agents_of_last_block;
  TraceRequest request;
  while (*workload.Next(&request)) {
    ASSERT_GE(request.block_ids.size(), 15u) << "8 K tokens at least";
    agents_of_first_block[request.block_ids[14]].insert(request.agent);
    // Block 24 begins at 12,288 tokens: behind every project's prefix.
    if (request.block_ids.size() > 24) {
      agents_of_last_block[request.block_ids[24]].insert(request.agent);
    }
  }
  ASSERT_EQ(agents_of_first_block.size(), 3u);
  for (const auto& [block, agents] : agents_of_first_block) {
    EXPECT_EQ(agents.size(), 2u);
    EXPECT_EQ(*agents.begin() / 2, *agents.rbegin() / 2);
  }
  for (const auto& [block, agents] : agents_of_last_block) {
    ASSERT_EQ(agents.size(), 1u);
  }
}

TEST(AgentWorkloadTest, ContextScaleScalesTokensAndNotTimes) {
  AgentWorkloadOptions options = kLong;
  options.requests = 20'000;
  const Statistics whole = Measure(options);
  options.context_scale = 0.1;
  options.block_tokens = 51;
  const Statistics tenth = Measure(options);
  EXPECT_NEAR(
      Quantile(tenth.cached_tokens, 0.5) / Quantile(whole.cached_tokens, 0.5),
      0.1, 0.005);
  EXPECT_EQ(Quantile(tenth.tool_seconds, 0.5),
            Quantile(whole.tool_seconds, 0.5));
}

TEST(AgentWorkloadTest, OptionsOutOfRangeAreNamedWithValueAndRange) {
  EXPECT_TRUE(Validate(AgentWorkloadOptions{}).ok());
  EXPECT_EQ(StatusMessage(Validate({.agents = 0})),
            "agents is 0; it must be from 1 to 100000");
  EXPECT_EQ(StatusMessage(Validate({.block_tokens = 0})),
            "block_tokens is 0; it must be from 1 to 1048576");
  EXPECT_EQ(StatusMessage(Validate({.context_scale = 1000})),
            "context_scale is 1000.000000; it must be from 0.001 to 100");
  EXPECT_FALSE(
      Validate({.context_scale = std::numeric_limits<double>::quiet_NaN()})
          .ok());
  EXPECT_FALSE(Validate({.agents_per_project = 0}).ok());
}

}  // namespace
}  // namespace agentmem::tiering
