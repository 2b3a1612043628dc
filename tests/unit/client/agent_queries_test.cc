// Lists, histories and differences: packets become calls of the callback.
#include <cstring>
#include <string>

#include "agentmem/kv.h"
#include "proto/hbm_messages.h"
#include "tests/unit/client/agent_test_base.h"

namespace agentmem {
namespace {

using Request = FakeAgentd::Request;
using Answer = FakeAgentd::Answer;

void NoteAgent(void* context, const agentmem_agent_info* info) {
  *static_cast<std::string*>(context) += std::string(info->name) + " ";
}
void NoteRegion(void* context, const agentmem_region_info* info) {
  *static_cast<std::string*>(context) +=
      std::string(info->name) + "@" + std::to_string(info->version) + " ";
}
void NoteRange(void* context, const agentmem_range* range) {
  *static_cast<std::string*>(context) +=
      std::to_string(range->offset) + "+" + std::to_string(range->bytes) + " ";
}
void NoteVersion(void* context, const agentmem_version_info* info) {
  std::string& text = *static_cast<std::string*>(context);
  text += std::to_string(info->number) + ":" + info->message;
  for (std::size_t i = 0; i < info->label_count; ++i) {
    text +=
        std::string(",") + info->labels[i].key + "=" + info->labels[i].value;
  }
  text += " ";
}

class QueriesTest : public AgentTest {
 protected:
  void SetUp() override {
    AgentTest::SetUp();
    StartAll();
  }
  agentmem_code History(std::uint64_t from, std::uint64_t count) {
    noted_.clear();
    return agentmem_region_history(client_, "a", "heap", from, count, kLongNs,
                                   NoteVersion, &noted_, &error_);
  }
  agentmem_code Diff() {
    noted_.clear();
    return agentmem_region_diff(client_, "a", "heap", 1, 2, kLongNs, NoteRange,
                                &noted_, &error_);
  }

  std::string noted_;
};

TEST_F(QueriesTest, ALongListComesInPackets) {
  agentd_->OnReply(AgentOp::kAgentList,
                   [](const Request& request, Answer* answer) {
                     FieldWriter fields;
                     AgentEntry entry = {};
                     const bool first = request.fixed.other[0] == '\0';
                     SetName(&entry.name, first ? "w1" : "w2");
                     fields.AddStruct(entry);
                     answer->tail = fields.bytes();
                     answer->value[0] = first ? 1 : 0;
                   });
  EXPECT_EQ(
      agentmem_agent_list(client_, "w", kLongNs, NoteAgent, &noted_, &error_),
      AGENTMEM_OK)
      << error_.message;
  EXPECT_EQ(noted_, "w1 w2 ");
  EXPECT_STREQ(agentd_->Last(AgentOp::kAgentList).fixed.agent, "w");
  EXPECT_STREQ(agentd_->Last(AgentOp::kAgentList).fixed.other, "w1");
}

TEST_F(QueriesTest, AListThatDoesNotMoveOnEnds) {
  agentd_->OnReply(AgentOp::kAgentList, [](const Request&, Answer* answer) {
    answer->value[0] = 1;
  });
  EXPECT_EQ(agentmem_agent_list(client_, nullptr, kLongNs, NoteAgent, &noted_,
                                &error_),
            AGENTMEM_INTERNAL);
}

void NoteHbm(void* context, const agentmem_hbm_info* info) {
  *static_cast<std::string*>(context) +=
      std::string(info->agent) + "/" + info->client + "/" + info->device + "/" +
      std::to_string(info->pid) + ":" + std::to_string(info->bytes) + "," +
      std::to_string(info->blocks) + "," + std::to_string(info->wish) + "," +
      std::to_string(info->phase) + "," + std::to_string(info->wish_open) +
      "," + std::to_string(info->wish_late) + "," +
      std::to_string(info->wish_ns) + "," + std::to_string(info->budget_bytes) +
      "," + std::to_string(info->allocated_bytes) + "," +
      std::to_string(info->wanted_bytes) + "," + std::to_string(info->hits) +
      "," + std::to_string(info->hit_bytes) + " ";
}

TEST_F(QueriesTest, BlocksInDeviceMemoryComeInPackets) {
  agentd_->OnReply(AgentOp::kHbmList, [](const Request& request,
                                         Answer* answer) {
    FieldWriter fields;
    HbmEntry entry = {};
    SetName(&entry.client_name, "engine");
    SetName(&entry.device, "GPU");
    entry.pid = 7;
    entry.bytes = 1;
    entry.blocks = 2;
    if (request.fixed.arg[0] == 0) {
      entry.budget_bytes = 8;
      entry.allocated_bytes = 9;
      entry.wanted_bytes = 10;
      entry.hits = 11;
      entry.hit_bytes = 12;
      fields.AddStruct(entry);
      SetName(&entry.agent, "a");
      fields.AddStruct(entry);
    } else {
      std::memset(entry.agent, 'x', sizeof(entry.agent));
      entry.wish = HbmWishKind::kBringBack;
      entry.phase = AgentPhase::kReasoning;
      entry.wish_open = 1;
      entry.wish_late = 1;
      entry.wish_ns = 5;
      entry.hits = 99;  // not part of it
      fields.Add({reinterpret_cast<const char*>(&entry), kHbmEntryBytesMin});
    }
    answer->tail = fields.bytes();
    answer->value[0] = request.fixed.arg[0] == 0 ? 1 : 0;
  });
  EXPECT_EQ(agentmem_hbm_list(client_, kLongNs, NoteHbm, &noted_, &error_),
            AGENTMEM_OK)
      << error_.message;
  EXPECT_EQ(noted_,
            "/engine/GPU/7:1,2,0,0,0,0,0,8,9,10,11,12 "
            "a/engine/GPU/7:1,2,0,0,0,0,0,8,9,10,11,12 " +
                std::string(kAgentNameBytes - 1, 'x') +
                "/engine/GPU/7:1,2,2,1,1,1,5,0,0,0,0,0 ");
  const AgentRequest last = agentd_->Last(AgentOp::kHbmList).fixed;
  EXPECT_EQ(last.arg[0], 2u);
  EXPECT_EQ(last.arg[1], kHbmEntriesMax);
  EXPECT_EQ(last.arg[2], sizeof(HbmEntry));
  EXPECT_EQ(agentmem_hbm_list(client_, kLongNs, nullptr, nullptr, &error_),
            AGENTMEM_INVALID_ARGUMENT);
}

TEST_F(QueriesTest, AnAnswerOfOtherBlocksInDeviceMemoryIsNone) {
  const auto list = [&] {
    return agentmem_hbm_list(client_, kLongNs, NoteHbm, &noted_, &error_);
  };
  agentd_->OnReply(AgentOp::kHbmList, [](const Request&, Answer* answer) {
    answer->value[0] = 1;
  });
  EXPECT_EQ(list(), AGENTMEM_INTERNAL);
  for (const std::size_t bytes :
       {kHbmEntryBytesMin - 1, sizeof(HbmEntry) + 1}) {
    agentd_->OnReply(AgentOp::kHbmList,
                     [bytes](const Request&, Answer* answer) {
                       FieldWriter fields;
                       fields.Add(std::string(bytes, 'x'));
                       answer->tail = fields.bytes();
                     });
    EXPECT_EQ(list(), AGENTMEM_INTERNAL) << bytes;
  }
  agentd_->OnReply(AgentOp::kHbmList,
                   [](const Request&, Answer* answer) { answer->tail = "x"; });
  EXPECT_EQ(list(), AGENTMEM_INTERNAL);
  EXPECT_EQ(noted_, "");
}

TEST_F(QueriesTest, ShowTellsTheAgentThenItsRegions) {
  agentd_->OnReply(AgentOp::kAgentShow, [](const Request&, Answer* answer) {
    FieldWriter fields;
    AgentEntry agent = {};
    std::memset(agent.name, 'x', sizeof(agent.name));  // without an end
    fields.AddStruct(agent);
    RegionEntry region = {};
    SetName(&region.name, "heap");
    region.version = 3;
    fields.AddStruct(region);
    answer->tail = fields.bytes();
  });
  EXPECT_EQ(agentmem_agent_show(client_, "x", kLongNs, NoteAgent, NoteRegion,
                                &noted_, &error_),
            AGENTMEM_OK)
      << error_.message;
  EXPECT_EQ(noted_, std::string(AGENTMEM_AGENT_NAME_MAX, 'x') + " heap@3 ");
}

TEST_F(QueriesTest, HistoryIsNewestFirstWithMessagesAndLabels) {
  OpenAgent();
  ASSERT_EQ(OpenRegion(kTestRegionBytes, true), AGENTMEM_OK);
  const agentmem_label label = {"step", "3"};
  agentmem_commit_options options = {};
  options.size = sizeof(options);
  for (const char* message : {"one", "two", "three"}) {
    options.message = message;
    options.labels = &label;
    options.label_count = std::strcmp(message, "three") == 0 ? 1 : 0;
    ASSERT_EQ(
        agentmem_region_commit(region_, &options, kLongNs, nullptr, &error_),
        AGENTMEM_OK);
  }
  EXPECT_EQ(History(0, 0), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(noted_, "3:three,step=3 2:two 1:one ");
  EXPECT_EQ(History(2, 0), AGENTMEM_OK);
  EXPECT_EQ(noted_, "2:two 1:one ");
  EXPECT_EQ(History(0, 1), AGENTMEM_OK);
  EXPECT_EQ(noted_, "3:three,step=3 ");
}

TEST_F(QueriesTest, AHistoryThatCannotBeReadIsAnError) {
  agentd_->AddVersion("a", "heap", kTestRegionBytes, {});
  agentd_->OnReply(AgentOp::kHistory, [](const Request&, Answer* answer) {
    answer->tail.resize(answer->tail.size() - 3);
  });
  EXPECT_EQ(History(0, 0), AGENTMEM_INTERNAL);
}

TEST_F(QueriesTest, ADifferenceGoesOnBehindItsLastRange) {
  agentd_->OnReply(AgentOp::kDiff, [](const Request& request, Answer* answer) {
    FieldWriter fields;
    const std::uint64_t begin = request.fixed.offset;
    fields.AddStruct(RangeEntry{begin + 4096, 4096});
    answer->tail = fields.bytes();
    answer->value[0] = begin == 0 ? 1 : 0;
  });
  EXPECT_EQ(Diff(), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(noted_, "4096+4096 12288+4096 ");
  const AgentRequest request = agentd_->Last(AgentOp::kDiff).fixed;
  EXPECT_EQ(request.arg[0], 1u);
  EXPECT_EQ(request.arg[1], 2u);
}

TEST_F(QueriesTest, RangesThatCannotBeAreAnError) {
  for (const RangeEntry bad : {RangeEntry{0, 0}, RangeEntry{UINT64_MAX, 4096},
                               RangeEntry{4096, UINT64_MAX}}) {
    agentd_->OnReply(AgentOp::kDiff, [=](const Request&, Answer* answer) {
      FieldWriter fields;
      fields.AddStruct(bad);
      answer->tail = fields.bytes();
    });
    EXPECT_EQ(Diff(), AGENTMEM_INTERNAL);
    EXPECT_EQ(noted_, "");
  }
}

TEST_F(QueriesTest, RevertNamesTheVersionAndAnswersTheNewOne) {
  agentd_->OnReply(AgentOp::kRevert,
                   [](const Request& request, Answer* answer) {
                     answer->value[0] = request.fixed.region_version + 10;
                   });
  std::uint64_t made = 0;
  EXPECT_EQ(
      agentmem_region_revert(client_, "a", "heap", 4, kLongNs, &made, &error_),
      AGENTMEM_OK);
  EXPECT_EQ(made, 14u);
  EXPECT_EQ(
      agentmem_region_revert(client_, "a", "heap", 0, kLongNs, &made, &error_),
      AGENTMEM_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace agentmem
