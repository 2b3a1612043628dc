#include "tiering/traces/agent_workload.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/check.h"
#include "base/status.h"

namespace agentmem::tiering {
namespace {

// z of the published quantiles: P(Z < z) = 0.9 and 0.99.
constexpr double kZ90 = 1.2816;
constexpr double kZ99 = 2.3263;

// A log-normal in two pieces through three published quantiles: ln x is linear
// in z from p50 to p90 and from p90 to p99; the ends go on with their slopes.
struct Quantiles {
  double p50;
  double p90;
  double p99;

  double At(double z) const {
    const double slope_low = std::log(p90 / p50) / kZ90;
    if (z <= kZ90) return p50 * std::exp(slope_low * z);
    const double slope_high = std::log(p99 / p90) / (kZ99 - kZ90);
    return p90 * std::exp(slope_high * (z - kZ90));
  }
};

// Seconds; p50, p90 and p99 as published by TraceLab (arXiv 2606.30560,
// CC BY 4.0). Tool calls are close to one log-normal: the sigmas are 2.98 and
// 2.65, and 3.3% exceed one minute (published: 4%). Human waits have a heavier
// tail: the sigmas are 2.10 and 3.54.
constexpr Quantiles kToolSeconds = {0.3, 13.6, 3.6 * 60};
constexpr Quantiles kHumanSeconds = {1.4 * 60, 20.6 * 60, 13.9 * 3600};

// TraceLab: the median. The sigma is assumed.
constexpr double kStepSecondsMedian = 4.9;
constexpr double kStepSecondsSigma = 0.8;

// TraceLab: the medians, 875 tokens appended and 214 put out. The sigmas are
// fitted so that the means, 1,710 and 353, add up to the growth that the vLLM x
// Mooncake blog reports: 12 K to 80 K tokens in 33 turns, 2,060 a turn.
//   mean = median * exp(sigma^2 / 2)
constexpr double kAppendedMedian = 875;
constexpr double kAppendedSigma = 1.157;
constexpr double kOutputMedian = 214;
constexpr double kOutputSigma = 1.0;

// The blog: 12 K tokens at the first turn. Assumed: 10 K of them are tools and
// system prompt, within 20% from project to project, and the rest the task.
constexpr double kProjectTokens = 10'000;
constexpr double kProjectSpread = 0.2;
constexpr double kTaskMedian = 2'000;
constexpr double kTaskSigma = 0.8;

// The blog: a median of 33 turns. The sigma and the window are fitted to
// TraceLab's median of 119 K cached tokens a step: steps are counted in long
// sessions more often than in short ones, so it lies above the 80 K at which
// the median session ends. Longer sessions than the maximum are cut.
constexpr double kTurnsMedian = 33;
constexpr double kTurnsSigma = 1.6;
constexpr double kTurnsMax = 1000;
constexpr double kWindowTokens = 370'000;
constexpr double kSummaryTokens = 6'000;  // assumed

// Fitted to TraceLab's 95.7% prefix hits. Growth alone would miss 1.4%; what
// is left over is history written anew behind a point anywhere in it.
constexpr double kRewriteShare = 0.065;

// Assumed: one step in twelve ends with a question to the human, the others
// call a tool. A session's last step always does.
constexpr double kHumanShare = 1.0 / 12;

// Assumed: agents do not start in step.
constexpr double kStartSeconds = 60;

DurationNs ToDuration(double seconds) {
  // A month bounds the tail of the human wait (the largest z of a 53-bit
  // uniform number would be years).
  constexpr double kSecondsMax = 30.0 * 86400;
  return static_cast<DurationNs>(std::min(seconds, kSecondsMax) *
                                 static_cast<double>(kSecondNs));
}

std::uint32_t WholeTokens(double tokens) {
  return static_cast<std::uint32_t>(std::max(1.0, std::floor(tokens)));
}

absl::Status OutOfRange(const std::string& field, const std::string& value,
                        const std::string& range) {
  return InvalidArgument(field + " is " + value + "; it must be " + range);
}

}  // namespace

absl::Status Validate(const AgentWorkloadOptions& options) {
  if (options.agents < 1 || options.agents > 100'000) {
    return OutOfRange("agents", std::to_string(options.agents),
                      "from 1 to 100000");
  }
  if (options.block_tokens < 1 || options.block_tokens > 1'048'576) {
    return OutOfRange("block_tokens", std::to_string(options.block_tokens),
                      "from 1 to 1048576");
  }
  // Written so that NaN is refused.
  if (!(options.context_scale >= 0.001 && options.context_scale <= 100)) {
    return OutOfRange("context_scale", std::to_string(options.context_scale),
                      "from 0.001 to 100");
  }
  if (options.agents_per_project < 1) {
    return OutOfRange("agents_per_project", "0", "at least 1");
  }
  return absl::OkStatus();
}

AgentWorkload::AgentWorkload(const AgentWorkloadOptions& options)
    : options_(options), random_(options.seed), agents_(options.agents) {
  AGENTMEM_CHECK(Validate(options).ok());
  const std::uint32_t last_project =
      (options.agents - 1) / options.agents_per_project;
  projects_.resize(last_project + 1);
  for (Project& project : projects_) {
    const double spread = kProjectSpread * (2 * random_.Uniform() - 1);
    project.prefix_tokens =
        options.context_scale * kProjectTokens * (1 + spread);
    ExtendBlocks(project.prefix_tokens, &project.blocks);
  }
  for (std::uint32_t agent = 0; agent < options.agents; ++agent) {
    agents_[agent].next_ns = ToDuration(kStartSeconds * random_.Uniform());
    Schedule(agent);
  }
}

absl::StatusOr<bool> AgentWorkload::Next(TraceRequest* request) {
  if (requests_made_ == options_.requests) return false;
  ++requests_made_;
  const auto later = [this](std::uint32_t a, std::uint32_t b) {
    return agents_[a].next_ns > agents_[b].next_ns;
  };
  std::pop_heap(schedule_.begin(), schedule_.end(), later);
  const std::uint32_t index = schedule_.back();
  schedule_.pop_back();

  Agent& agent = agents_[index];
  if (agent.turn == agent.turns) {
    BeginSession(index);
  } else {
    ContinueSession(index);
  }
  const double output = ScaledLogNormal(kOutputMedian, kOutputSigma);
  request->timestamp_ns = agent.next_ns;
  request->input_tokens = WholeTokens(agent.context_tokens);
  request->output_tokens = WholeTokens(output);
  request->block_ids = agent.blocks;
  request->agent = index;
  request->session = agent.session;
  request->turn = agent.turn;
  agent.context_tokens += output;
  ++agent.turn;
  Think(agent.turn == agent.turns, request);
  agent.next_ns += ToDuration(kStepSecondsMedian *
                              std::exp(kStepSecondsSigma * random_.Normal())) +
                   request->think_ns;
  Schedule(index);
  return true;
}

AgentWorkload::Project& AgentWorkload::ProjectOf(std::uint32_t agent) {
  return projects_[agent / options_.agents_per_project];
}

void AgentWorkload::BeginSession(std::uint32_t index) {
  Agent& agent = agents_[index];
  agent.session = next_session_++;
  agent.turn = 0;
  const double turns = kTurnsMedian * std::exp(kTurnsSigma * random_.Normal());
  agent.turns =
      static_cast<std::uint32_t>(std::clamp(std::round(turns), 1.0, kTurnsMax));
  agent.context_tokens =
      ProjectOf(index).prefix_tokens + ScaledLogNormal(kTaskMedian, kTaskSigma);
  agent.blocks = ProjectOf(index).blocks;
  ExtendBlocks(agent.context_tokens, &agent.blocks);
}

void AgentWorkload::ContinueSession(std::uint32_t index) {
  Agent& agent = agents_[index];
  const double prefix = ProjectOf(index).prefix_tokens;
  agent.context_tokens += ScaledLogNormal(kAppendedMedian, kAppendedSigma);
  if (agent.context_tokens > options_.context_scale * kWindowTokens) {
    agent.context_tokens = prefix + ScaledLogNormal(kTaskMedian, kTaskSigma) +
                           options_.context_scale * kSummaryTokens;
    KeepPrefix(index, prefix);
  } else if (random_.Uniform() < kRewriteShare) {
    const double behind = agent.context_tokens - prefix;
    KeepPrefix(index, prefix + behind * random_.Uniform());
  }
  ExtendBlocks(agent.context_tokens, &agent.blocks);
}

// Forgets the blocks that reach behind the first `tokens` of the context.
void AgentWorkload::KeepPrefix(std::uint32_t index, double tokens) {
  std::vector<std::uint64_t>& blocks = agents_[index].blocks;
  const auto kept = static_cast<std::size_t>(tokens / options_.block_tokens);
  if (kept < blocks.size()) blocks.resize(kept);
}

void AgentWorkload::ExtendBlocks(double tokens,
                                 std::vector<std::uint64_t>* blocks) {
  const auto whole = static_cast<std::size_t>(tokens / options_.block_tokens);
  while (blocks->size() < whole) blocks->push_back(next_block_id_++);
}

void AgentWorkload::Think(bool session_ended, TraceRequest* request) {
  const bool human = random_.Uniform() < kHumanShare || session_ended;
  request->think_phase = human ? Phase::kHumanWait : Phase::kTool;
  const Quantiles& wait = human ? kHumanSeconds : kToolSeconds;
  request->think_ns = ToDuration(wait.At(random_.Normal()));
}

double AgentWorkload::ScaledLogNormal(double median, double sigma) {
  return options_.context_scale * median * std::exp(sigma * random_.Normal());
}

void AgentWorkload::Schedule(std::uint32_t agent) {
  schedule_.push_back(agent);
  std::push_heap(schedule_.begin(), schedule_.end(),
                 [this](std::uint32_t a, std::uint32_t b) {
                   return agents_[a].next_ns > agents_[b].next_ns;
                 });
}

}  // namespace agentmem::tiering
