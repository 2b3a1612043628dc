// Agents: what is sent, what is checked, and what memd's answers become.
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "tests/unit/client/agent_test_base.h"

namespace agentmem {
namespace {

std::vector<std::string> FieldsOf(const std::string& tail) {
  std::vector<std::string> fields;
  FieldReader reader(tail);
  std::string_view field;
  while (reader.Next(&field)) fields.emplace_back(field);
  return fields;
}

class AgentsTest : public AgentTest {
 protected:
  agentmem_code Open(const char* name, agentmem_agent_options options,
                     std::uint64_t timeout_ns = kLongNs) {
    CloseAgent();
    error_ = {};
    options.size = sizeof(options);
    return agentmem_agent_open(client_, name, &options, timeout_ns, &agent_,
                               &error_);
  }
  agentmem_code Phase(agentmem_phase phase, const char* tool = nullptr,
                      std::uint64_t timeout_ns = kLongNs) {
    return agentmem_agent_phase(agent_, phase, tool, 0, timeout_ns, nullptr,
                                &error_);
  }
  bool Says(const std::string& part) {
    return std::string(error_.message).find(part) != std::string::npos;
  }
};

TEST_F(AgentsTest, AMemdWithoutAgentsIsNamed) {
  StartAndConnect();
  EXPECT_EQ(Open("a", {}), AGENTMEM_UNIMPLEMENTED);
  EXPECT_TRUE(Says(socket_path_)) << error_.message;
}

TEST_F(AgentsTest, AnotherVersionIsRefusedAndBothAreNamed) {
  FakeAgentd::Options options;
  options.agent_version = kAgentVersion + 6;
  StartAll(options);
  EXPECT_EQ(Open("a", {}), AGENTMEM_FAILED_PRECONDITION);
  EXPECT_TRUE(Says("version 7") && Says("version 1")) << error_.message;
}

TEST_F(AgentsTest, OpenSaysWhatIsWanted) {
  StartAll();
  const agentmem_label labels[] = {{"team", "red"}, {"run", nullptr}};
  agentmem_agent_options options = {};
  options.mode = AGENTMEM_AGENT_WRITE;
  options.create = 1;
  options.take_over = 1;
  options.labels = labels;
  options.label_count = 2;
  ASSERT_EQ(Open("coder-7", options), AGENTMEM_OK) << error_.message;
  const FakeAgentd::Request request = agentd_->Last(AgentOp::kAgentOpen);
  EXPECT_STREQ(request.fixed.agent, "coder-7");
  EXPECT_EQ(request.fixed.flags, kOpenWrite | kOpenCreate | kOpenTakeOver);
  EXPECT_EQ(FieldsOf(request.tail),
            (std::vector<std::string>{"team", "red", "run", ""}));
  EXPECT_GT(request.fixed.deadline_ns, MonotonicNowNs());
}

TEST_F(AgentsTest, WhatIsWrongIsNamedAndNothingIsSent) {
  StartAll();
  EXPECT_EQ(Open("", {}), AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(Open(std::string(AGENTMEM_AGENT_NAME_MAX + 1, 'n').c_str(), {}),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_TRUE(Says("127")) << error_.message;
  agentmem_agent_options options = {};
  options.mode = 2;
  EXPECT_EQ(Open("a", options), AGENTMEM_INVALID_ARGUMENT);
  options = {};
  options.create = 1;
  EXPECT_EQ(Open("a", options), AGENTMEM_INVALID_ARGUMENT);
  EXPECT_TRUE(Says("AGENTMEM_AGENT_WRITE")) << error_.message;
  options = {};
  options.label_count = kLabelsMax + 1;
  EXPECT_EQ(Open("a", options), AGENTMEM_INVALID_ARGUMENT);
  const agentmem_label nameless = {"", "value"};
  options.label_count = 1;
  options.labels = &nameless;
  EXPECT_EQ(Open("a", options), AGENTMEM_INVALID_ARGUMENT);
  const std::string large(kLabelsBytesMax, 'l');
  const agentmem_label heavy = {"k", large.c_str()};
  options.labels = &heavy;
  EXPECT_EQ(Open("a", options), AGENTMEM_INVALID_ARGUMENT);
  options = {};
  options.size = 4;
  EXPECT_EQ(
      agentmem_agent_open(client_, "a", &options, kLongNs, &agent_, &error_),
      AGENTMEM_INVALID_ARGUMENT);
  EXPECT_TRUE(Says("sizeof(agentmem_agent_options)")) << error_.message;
  EXPECT_EQ(agentd_->Count(AgentOp::kAgentOpen), 0);
}

TEST_F(AgentsTest, ANameOfTheLongestKindFits) {
  StartAll();
  const std::string name(AGENTMEM_AGENT_NAME_MAX, 'n');
  agentmem_agent_options options = {};
  options.mode = AGENTMEM_AGENT_WRITE;
  options.create = 1;
  ASSERT_EQ(Open(name.c_str(), options), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(agentd_->Last(AgentOp::kAgentOpen).fixed.agent, name);
}

TEST_F(AgentsTest, MemdsAnswerIsTheErrorOfTheCall) {
  StartAll();
  EXPECT_EQ(Open("nobody", {}), AGENTMEM_NOT_FOUND);
  EXPECT_STREQ(error_.message, "no such agent");
  EXPECT_EQ(agent_, nullptr);
}

TEST_F(AgentsTest, AnAgentEndsWithItsLastRegion) {
  StartAll();
  OpenAgent();
  ASSERT_EQ(OpenRegion(kTestRegionBytes, true), AGENTMEM_OK);
  CloseAgent();
  EXPECT_EQ(agentd_->open_agents(), 1);
  CloseRegion();
  EXPECT_EQ(agentd_->open_agents(), 0);
  EXPECT_EQ(agentd_->open_regions(), 0);
}

TEST_F(AgentsTest, PhasesAreToldAndAnswered) {
  StartAll();
  OpenAgent();
  agentmem_answer answer = 0;
  ASSERT_EQ(agentmem_agent_phase(agent_, AGENTMEM_TOOL, "pytest", 5000, kLongNs,
                                 &answer, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(answer, AGENTMEM_ACCEPTED);
  const FakeAgentd::Request request = agentd_->Last(AgentOp::kAgentPhase);
  EXPECT_EQ(request.fixed.arg[0], AGENTMEM_TOOL);
  EXPECT_EQ(request.fixed.arg[1], 5000u);
  EXPECT_EQ(FieldsOf(request.tail), (std::vector<std::string>{"pytest"}));
  EXPECT_EQ(Phase(0), AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(Phase(AGENTMEM_DONE + 1), AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(Phase(AGENTMEM_IDLE, "pytest"), AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(agentd_->Count(AgentOp::kAgentPhase), 1);
}

TEST_F(AgentsTest, OperationsByNameSayWhatTheyMean) {
  StartAll();
  agentd_->OnReply(AgentOp::kAgentHibernate,
                   [](const FakeAgentd::Request&, FakeAgentd::Answer* answer) {
                     answer->value[0] = 10;
                     answer->value[1] = 20;
                   });
  agentmem_hibernate_stats stats = {};
  ASSERT_EQ(agentmem_agent_hibernate(client_, "a", kLongNs, &stats, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(stats.written_bytes, 10u);
  EXPECT_EQ(stats.released_bytes, 20u);
  ASSERT_EQ(agentmem_agent_fork(client_, "a", 4, "b", kLongNs, &error_),
            AGENTMEM_OK);
  const AgentRequest fork = agentd_->Last(AgentOp::kAgentFork).fixed;
  EXPECT_STREQ(fork.agent, "a");
  EXPECT_STREQ(fork.other, "b");
  EXPECT_EQ(fork.region_version, 4u);
  ASSERT_EQ(agentmem_agent_set_retention(client_, "a", AGENTMEM_RETAIN_LAST, 9,
                                         kLongNs, &error_),
            AGENTMEM_OK);
  const AgentRequest kept = agentd_->Last(AgentOp::kAgentRetention).fixed;
  EXPECT_EQ(kept.arg[0], static_cast<std::uint64_t>(RetentionKind::kLast));
  EXPECT_EQ(kept.arg[1], 9u);
  EXPECT_EQ(agentmem_agent_set_retention(client_, "a", AGENTMEM_RETAIN_LAST, 0,
                                         kLongNs, &error_),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(agentmem_agent_delete(client_, nullptr, kLongNs, &error_),
            AGENTMEM_INVALID_ARGUMENT);
}

TEST_F(AgentsTest, ATimeoutOf0SendsNothing) {
  StartAll();
  OpenAgent();
  EXPECT_EQ(Phase(AGENTMEM_IDLE, nullptr, 0), AGENTMEM_DEADLINE_EXCEEDED);
  EXPECT_EQ(agentd_->Count(AgentOp::kAgentPhase), 0);
}

TEST_F(AgentsTest, ALateAnswerIsNotTheNextCalls) {
  StartAll();
  OpenAgent();
  agentd_->Hold(AgentOp::kAgentPhase);
  EXPECT_EQ(Phase(AGENTMEM_IDLE, nullptr, kShortNs),
            AGENTMEM_DEADLINE_EXCEEDED);
  agentd_->AwaitCount(AgentOp::kAgentPhase, 1);
  agentd_->Release();
  agentd_->OnReply(AgentOp::kAgentResume,
                   [](const FakeAgentd::Request&, FakeAgentd::Answer* answer) {
                     answer->value[0] = 77;
                   });
  std::uint64_t blocks = 0;
  ASSERT_EQ(agentmem_agent_resume(client_, "a", kLongNs, &blocks, &error_),
            AGENTMEM_OK)
      << error_.message;
  EXPECT_EQ(blocks, 77u);
  EXPECT_EQ(agentd_->connections(), 1);
}

TEST_F(AgentsTest, WhatALateAnswerOpenedIsClosedAgain) {
  StartAll();
  agentmem_agent_options options = {};
  options.mode = AGENTMEM_AGENT_WRITE;
  options.create = 1;
  // To connect may take longer than what follows.
  ASSERT_EQ(agentmem_agent_delete(client_, "b", kLongNs, &error_), AGENTMEM_OK)
      << error_.message;
  agentd_->Hold(AgentOp::kAgentOpen);
  EXPECT_EQ(Open("a", options, kShortNs), AGENTMEM_DEADLINE_EXCEEDED);
  agentd_->AwaitCount(AgentOp::kAgentOpen, 1);
  agentd_->Release();
  ASSERT_EQ(Open("a", options), AGENTMEM_OK) << error_.message;
  agentd_->AwaitCount(AgentOp::kAgentClose, 1);
  EXPECT_EQ(agentd_->open_agents(), 1);
  EXPECT_EQ(Phase(AGENTMEM_IDLE), AGENTMEM_OK) << error_.message;
}

TEST_F(AgentsTest, ACallWaitsForItsTurnOnlyUntilItsDeadline) {
  StartAll();
  OpenAgent();
  agentd_->Hold(AgentOp::kAgentLabels);
  std::thread other([this] {
    agentmem_error error;
    EXPECT_EQ(agentmem_agent_set_labels(agent_, nullptr, 0, kLongNs, &error),
              AGENTMEM_OK)
        << error.message;
  });
  agentd_->AwaitCount(AgentOp::kAgentLabels, 1);
  EXPECT_EQ(Phase(AGENTMEM_IDLE, nullptr, kShortNs),
            AGENTMEM_DEADLINE_EXCEEDED);
  EXPECT_TRUE(Says("another request")) << error_.message;
  agentd_->Release();
  other.join();
  EXPECT_EQ(agentd_->Count(AgentOp::kAgentPhase), 0);
}

TEST_F(AgentsTest, AQuestionIsAskedAgainOfTheNextMemd) {
  StartAll();
  agentd_->Hold(AgentOp::kAgentShow);
  agentd_->OnReply(AgentOp::kAgentShow,
                   [](const FakeAgentd::Request&, FakeAgentd::Answer* answer) {
                     FieldWriter fields;
                     AgentEntry agent = {};
                     SetName(&agent.name, "a");
                     fields.AddStruct(agent);
                     answer->tail = fields.bytes();
                   });
  std::thread asker([this] {
    agentmem_error error;
    EXPECT_EQ(agentmem_agent_show(client_, "a", kLongNs, nullptr, nullptr,
                                  nullptr, &error),
              AGENTMEM_OK)
        << error.message;
  });
  agentd_->AwaitCount(AgentOp::kAgentShow, 1);
  agentd_->Kill();
  asker.join();
  EXPECT_EQ(agentd_->Count(AgentOp::kAgentShow), 2);
}

TEST_F(AgentsTest, WhatMayHaveBeenDoneIsNotDoneTwice) {
  StartAll();
  agentd_->Hold(AgentOp::kAgentFork);
  agentmem_code code = AGENTMEM_OK;
  std::thread forker([this, &code] {
    code = agentmem_agent_fork(client_, "a", 0, "b", kLongNs, nullptr);
  });
  agentd_->AwaitCount(AgentOp::kAgentFork, 1);
  agentd_->Kill();
  forker.join();
  EXPECT_EQ(code, AGENTMEM_UNAVAILABLE);
  EXPECT_EQ(agentd_->Count(AgentOp::kAgentFork), 1);
}

TEST_F(AgentsTest, HandlesOutliveTheClientWithoutHarm) {
  StartAll();
  OpenAgent();
  Close();
  EXPECT_EQ(Phase(AGENTMEM_IDLE), AGENTMEM_OK) << error_.message;
}

}  // namespace
}  // namespace agentmem
