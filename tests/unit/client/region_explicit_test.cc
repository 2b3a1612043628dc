// Regions without faults, and what holds for every region.
#include <cstring>
#include <string>
#include <thread>

#include "tests/unit/client/agent_test_base.h"

namespace agentmem {
namespace {

using Request = FakeAgentd::Request;
using Answer = FakeAgentd::Answer;

class ExplicitTest : public AgentTest {
 protected:
  void OpenAll(std::uint64_t bytes = kTestRegionBytes) {
    StartAll();
    OpenAgent();
    ASSERT_EQ(OpenRegion(bytes, true), AGENTMEM_OK) << error_.message;
  }
  agentmem_code Write(std::uint64_t offset, const std::string& text) {
    return agentmem_region_write(region_, offset, text.data(), text.size(),
                                 kLongNs, &error_);
  }
  std::string Read(std::uint64_t offset, std::size_t bytes) {
    std::string text(bytes, '?');
    EXPECT_EQ(agentmem_region_read(region_, offset, text.data(), bytes, kLongNs,
                                   &error_),
              AGENTMEM_OK)
        << error_.message;
    return text;
  }
  // Opens a region to which memd answers so.
  agentmem_code OpenWithAnswer(FakeAgentd::Handler handler) {
    agentd_->OnReply(AgentOp::kRegionOpen, std::move(handler));
    return OpenRegion(kTestRegionBytes, true);
  }
};

TEST_F(ExplicitTest, ItHasNoMemoryAndSaysWhy) {
  OpenAll();
  EXPECT_EQ(agentmem_region_data(region_), nullptr);
  EXPECT_EQ(State().mode, AGENTMEM_REGION_EXPLICIT);
  EXPECT_STRNE(State().reason, "");
  EXPECT_EQ(agentd_->Count(AgentOp::kUseFaults), 0);
}

TEST_F(ExplicitTest, WhereMemdResolvesNoFaultsARegionIsExplicit) {
  if (!CanFault()) GTEST_SKIP() << "this process gets no userfaultfd";
  FakeAgentd::Options options;
  options.tracking = TrackingMode::kNone;
  StartAll(options);
  OpenAgent();
  ASSERT_EQ(OpenRegion(), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(agentmem_region_data(region_), nullptr);
  EXPECT_NE(std::string(State().reason).find("memd"), std::string::npos);
  EXPECT_EQ(Write(0, "x"), AGENTMEM_OK) << error_.message;
}

TEST_F(ExplicitTest, WhatIsWrittenIsReadMarkedAndLetGo) {
  OpenAll();
  ASSERT_EQ(Write(4000, "hello, region"), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(Read(4000, 13), "hello, region");
  EXPECT_EQ(Read(3999, 2), std::string("\0h", 2));
  const AgentRequest marked = agentd_->Last(AgentOp::kMarkDirty).fixed;
  EXPECT_EQ(marked.offset, 0u);  // whole units
  EXPECT_EQ(marked.length, kUnitBytes);
  EXPECT_EQ(agentd_->pins(), 0u);
  EXPECT_EQ(Commit(), 1u);
  EXPECT_EQ(agentd_->ContentOf("a", "heap", 1).at(0).substr(4000, 13),
            "hello, region");
}

TEST_F(ExplicitTest, WhatWasCommittedIsReadAtTheNextOpen) {
  OpenAll();
  ASSERT_EQ(Write(10 * kUnitBytes, "kept"), AGENTMEM_OK);
  Commit();
  ASSERT_EQ(Write(10 * kUnitBytes, "lost"), AGENTMEM_OK);
  CloseRegion();
  ASSERT_EQ(OpenRegion(0, true), AGENTMEM_OK);
  EXPECT_EQ(Read(10 * kUnitBytes, 4), "kept");
}

TEST_F(ExplicitTest, LongCopiesGoByChunks) {
  OpenAll(16 << 20);
  std::string text(9 << 20, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = char(i * 31 >> 8);
  ASSERT_EQ(Write(1000, text), AGENTMEM_OK) << error_.message;
  EXPECT_TRUE(Read(1000, text.size()) == text);
  EXPECT_EQ(agentd_->Count(AgentOp::kMarkDirty), 3);
  EXPECT_EQ(agentd_->pins(), 0u);
}

TEST_F(ExplicitTest, ACopyThatMemdRefusesLeavesNothingPinned) {
  OpenAll();
  agentd_->OnReply(AgentOp::kMarkDirty, [](const Request&, Answer* answer) {
    answer->code = Code::kAborted;
    answer->message = "fenced off";
  });
  EXPECT_EQ(Write(0, "x"), AGENTMEM_ABORTED);
  EXPECT_STREQ(error_.message, "fenced off");
  EXPECT_EQ(agentd_->pins(), 0u);
}

TEST_F(ExplicitTest, ACopyThatMemdAnswersTooLateLeavesNothingPinned) {
  OpenAll();
  agentd_->Hold(AgentOp::kPopulate);
  char byte = 0;
  EXPECT_EQ(agentmem_region_read(region_, 0, &byte, 1, kShortNs, &error_),
            AGENTMEM_DEADLINE_EXCEEDED);
  agentd_->AwaitCount(AgentOp::kPopulate, 1);
  EXPECT_EQ(agentd_->pins(), 1u);
  agentd_->Release();
  EXPECT_EQ(agentmem_agent_phase(agent_, AGENTMEM_IDLE, nullptr, 0, kLongNs,
                                 nullptr, &error_),
            AGENTMEM_OK);
  agentd_->AwaitCount(AgentOp::kUnpin, 1);
  EXPECT_EQ(agentd_->pins(), 0u);
}

TEST_F(ExplicitTest, WhatIsOutsideTheRegionIsRefused) {
  OpenAll();
  char byte = 0;
  for (const auto& [offset, bytes] :
       {std::pair<std::uint64_t, std::uint64_t>{kTestRegionBytes, 1},
        {kTestRegionBytes - 1, 2},
        {UINT64_MAX, 2},
        {1, UINT64_MAX}}) {
    EXPECT_EQ(
        agentmem_region_read(region_, offset, &byte, bytes, kLongNs, &error_),
        AGENTMEM_OUT_OF_RANGE);
    EXPECT_EQ(agentmem_region_pin(region_, offset, bytes, kLongNs, &error_),
              AGENTMEM_OUT_OF_RANGE);
    EXPECT_EQ(agentmem_region_hint(region_, offset, bytes, 0, kLongNs, nullptr,
                                   &error_),
              AGENTMEM_OUT_OF_RANGE);
  }
  EXPECT_EQ(agentd_->Count(AgentOp::kPopulate), 0);
  EXPECT_EQ(Read(kTestRegionBytes, 0), "");
}

TEST_F(ExplicitTest, SizesThatAreNoneAreRefusedWithTheRule) {
  StartAll();
  OpenAgent();
  for (const std::uint64_t bytes :
       {std::uint64_t{1}, std::uint64_t{kUnitBytes - 1},
        std::uint64_t{kUnitBytes + 1}, kRegionBytesMax + kUnitBytes}) {
    EXPECT_EQ(OpenRegion(bytes, true), AGENTMEM_INVALID_ARGUMENT) << bytes;
  }
  EXPECT_NE(std::string(error_.message).find("a multiple of 4096"),
            std::string::npos)
      << error_.message;
  EXPECT_EQ(agentd_->Count(AgentOp::kRegionOpen), 0);
  EXPECT_EQ(OpenRegion(kUnitBytes, true), AGENTMEM_OK) << error_.message;
}

TEST_F(ExplicitTest, ARegionThatMemdDescribesWrongIsNotOpened) {
  StartAll();
  OpenAgent();
  EXPECT_EQ(OpenWithAnswer([](const Request&, Answer* answer) {
              answer->value[1] = 5000;
            }),
            AGENTMEM_INTERNAL);
  EXPECT_EQ(OpenWithAnswer([](const Request&, Answer* answer) {
              answer->value[1] = 1 << 30;  // its memory is not as long
            }),
            AGENTMEM_INTERNAL);
  EXPECT_EQ(
      OpenWithAnswer([](const Request&, Answer* answer) { answer->fd = -1; }),
      AGENTMEM_INTERNAL);
  EXPECT_EQ(region_, nullptr);
  EXPECT_EQ(agentd_->open_regions(), 0);
}

TEST_F(ExplicitTest, ACommitCarriesItsOptions) {
  OpenAll();
  const agentmem_label label = {"k", "v"};
  agentmem_commit_options options = {};
  options.size = sizeof(options);
  options.ack = AGENTMEM_VISIBLE;
  options.message = "step 3";
  options.labels = &label;
  options.label_count = 1;
  options.trace_id[0] = 0xab;
  ASSERT_EQ(
      agentmem_region_commit(region_, &options, kLongNs, nullptr, &error_),
      AGENTMEM_OK);
  const Request request = agentd_->Last(AgentOp::kCommit);
  EXPECT_EQ(request.fixed.arg[0], AGENTMEM_VISIBLE);
  EXPECT_EQ(request.fixed.trace[0], 0xab);
  FieldWriter expected;
  for (const char* field : {"step 3", "k", "v"}) expected.Add(field);
  EXPECT_EQ(request.tail, expected.bytes());
  Commit();
  EXPECT_EQ(agentd_->Last(AgentOp::kCommit).fixed.arg[0], AGENTMEM_DURABLE);
  options.ack = 9;
  EXPECT_EQ(
      agentmem_region_commit(region_, &options, kLongNs, nullptr, &error_),
      AGENTMEM_INVALID_ARGUMENT);
  const std::string large(kMessageBytesMax + 1, 'm');
  options.ack = AGENTMEM_VISIBLE;
  options.message = large.c_str();
  EXPECT_EQ(
      agentmem_region_commit(region_, &options, kLongNs, nullptr, &error_),
      AGENTMEM_INVALID_ARGUMENT);
}

TEST_F(ExplicitTest, AnAgentsCommitIsOfAllItsRegions) {
  OpenAll();
  ASSERT_EQ(agentmem_agent_commit(agent_, nullptr, kLongNs, &error_),
            AGENTMEM_OK);
  const AgentRequest request = agentd_->Last(AgentOp::kCommit).fixed;
  EXPECT_EQ(request.region_handle, 0u);
  EXPECT_NE(request.handle, 0u);
}

TEST_F(ExplicitTest, PinsStayUntilUnpinned) {
  OpenAll();
  ASSERT_EQ(agentmem_region_pin(region_, 0, kUnitBytes, kLongNs, &error_),
            AGENTMEM_OK);
  Read(0, 10);
  EXPECT_EQ(agentd_->pins(), 1u);
  ASSERT_EQ(agentmem_region_unpin(region_, 0, kUnitBytes, kLongNs, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(agentd_->pins(), 0u);
  agentmem_answer answer = 0;
  ASSERT_EQ(agentmem_region_hint(region_, 0, kUnitBytes, AGENTMEM_FOREVER,
                                 kLongNs, &answer, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(answer, AGENTMEM_CLIPPED);
  EXPECT_EQ(agentd_->Last(AgentOp::kHint).fixed.arg[0], UINT64_MAX);
}

TEST_F(ExplicitTest, RangesThatAreTooManyAreTheWholeRegion) {
  StartAll();
  agentd_->AddVersion("a", "heap", kTestRegionBytes, {});
  OpenReader();
  ASSERT_EQ(OpenRegion(0, true), AGENTMEM_OK) << error_.message;
  agentd_->OnReply(AgentOp::kRefresh, [](const Request&, Answer* answer) {
    answer->value[1] = 1;
  });
  agentmem_range seen = {1, 1};
  const auto note = [](void* context, const agentmem_range* range) {
    *static_cast<agentmem_range*>(context) = *range;
  };
  EXPECT_EQ(agentmem_region_refresh(region_, 0, kLongNs, nullptr, note, &seen,
                                    &error_),
            AGENTMEM_OK);
  EXPECT_EQ(seen.offset, 0u);
  EXPECT_EQ(seen.bytes, kTestRegionBytes);
}

TEST_F(ExplicitTest, AWriterDoesNotRefresh) {
  OpenAll();
  EXPECT_EQ(agentmem_region_refresh(region_, 0, kLongNs, nullptr, nullptr,
                                    nullptr, &error_),
            AGENTMEM_FAILED_PRECONDITION);
}

TEST_F(ExplicitTest, WatchAnswersAtOnceWhatIsThere) {
  StartAll();
  agentd_->AddVersion("a", "heap", kTestRegionBytes, {});
  OpenReader();
  ASSERT_EQ(OpenRegion(0, true), AGENTMEM_OK);
  std::uint64_t version = 0;
  EXPECT_EQ(agentmem_region_watch(region_, 0, kLongNs, &version, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(version, 1u);
  EXPECT_EQ(agentmem_region_watch(region_, 1, kShortNs, &version, &error_),
            AGENTMEM_DEADLINE_EXCEEDED);
}

TEST_F(ExplicitTest, AWatcherSleepsWithoutKeepingOthersFromMemd) {
  StartAll();
  agentd_->AddVersion("a", "heap", kTestRegionBytes, {});
  OpenReader();
  ASSERT_EQ(OpenRegion(0, true), AGENTMEM_OK);
  std::uint64_t version = 0;
  std::thread watcher([&] {
    agentmem_error error;
    EXPECT_EQ(agentmem_region_watch(region_, 1, kLongNs, &version, &error),
              AGENTMEM_OK)
        << error.message;
  });
  agentd_->AwaitCount(AgentOp::kWatch, 2);  // it is about to sleep
  EXPECT_EQ(Read(0, 1), std::string(1, '\0'));
  agentd_->AddVersion("a", "heap", kTestRegionBytes, {});
  watcher.join();
  EXPECT_EQ(version, 2u);
}

TEST_F(ExplicitTest, AVersionThatTheBoardDidNotTellIsSeenAllTheSame) {
  StartAll();
  agentd_->AddVersion("a", "heap", kTestRegionBytes, {});
  OpenReader();
  ASSERT_EQ(OpenRegion(0, true), AGENTMEM_OK);
  std::thread committer([this] {
    agentd_->AwaitCount(AgentOp::kWatch, 2);
    agentd_->AddVersion("a", "heap", kTestRegionBytes, {},
                        FakeAgentd::Tell::kNobody);
  });
  std::uint64_t version = 0;
  EXPECT_EQ(agentmem_region_watch(region_, 1, kLongNs, &version, &error_),
            AGENTMEM_OK)
      << error_.message;
  EXPECT_EQ(version, 2u);
  committer.join();
}

TEST_F(ExplicitTest, AWordIsGivenBackByItsLastWatcher) {
  OpenAll();
  agentmem_region* first = region_;
  ASSERT_EQ(OpenRegion(0, true), AGENTMEM_OK);
  Commit();
  std::uint64_t version = 0;
  for (agentmem_region* region : {first, region_}) {
    ASSERT_EQ(agentmem_region_watch(region, 0, kLongNs, &version, &error_),
              AGENTMEM_OK);
  }
  agentmem_region_close(first);
  EXPECT_EQ(agentd_->Count(AgentOp::kUnwatch), 0);
  CloseRegion();
  EXPECT_EQ(agentd_->Count(AgentOp::kUnwatch), 1);
  EXPECT_EQ(agentd_->Last(AgentOp::kUnwatch).fixed.arg[0], 3u);
}

TEST_F(ExplicitTest, AWordOutsideTheBoardIsRefused) {
  OpenAll();
  agentd_->OnReply(AgentOp::kWatch, [](const Request&, Answer* answer) {
    answer->value[0] = kBoardWords;
  });
  std::uint64_t version = 0;
  EXPECT_EQ(agentmem_region_watch(region_, 0, kLongNs, &version, &error_),
            AGENTMEM_INTERNAL);
}

}  // namespace
}  // namespace agentmem
