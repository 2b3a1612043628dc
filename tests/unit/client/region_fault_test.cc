// Regions that are paged by faults.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cstring>
#include <string>

#include "tests/unit/client/agent_test_base.h"

namespace agentmem {
namespace {

// The signal that ends a child that touches `address`; 0: it came to its end.
int SignalOfChildThatReads(const volatile char* address) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    _exit(*address == 0 ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

std::string Unit(char fill) { return std::string(kUnitBytes, fill); }

TEST_F(FaultTest, ARegionOfNothingReadsZeros) {
  OpenAll();
  EXPECT_EQ(agentmem_region_size(region_), kTestRegionBytes);
  EXPECT_EQ(agentmem_region_version(region_), 0u);
  EXPECT_EQ(data()[0], 0);
  EXPECT_EQ(data()[kTestRegionBytes - 1], 0);
  EXPECT_EQ(State().mode, AGENTMEM_REGION_SYNC);
  EXPECT_STREQ(State().reason, "");
}

TEST_F(FaultTest, WhatIsCommittedComesBackAtTheNextOpen) {
  OpenAll();
  data()[5] = 'x';
  data()[9 * kUnitBytes] = 'y';
  EXPECT_EQ(Commit(), 1u);
  EXPECT_EQ(agentmem_region_version(region_), 1u);
  data()[5] = 'z';  // not committed
  CloseRegion();
  ASSERT_EQ(OpenRegion(0), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(data()[5], 'x');
  EXPECT_EQ(data()[9 * kUnitBytes], 'y');
  EXPECT_EQ(data()[9 * kUnitBytes + 1], 0);
  EXPECT_EQ(agentmem_region_version(region_), 1u);
}

TEST_F(FaultTest, AVersionHasWhatWasWrittenSinceTheLast) {
  OpenAll();
  data()[0] = 'a';
  Commit();
  data()[0] = 'b';
  data()[kUnitBytes] = 'c';
  Commit();
  EXPECT_EQ(agentd_->ContentOf("a", "heap", 1).size(), 1u);
  const FakeContent second = agentd_->ContentOf("a", "heap", 2);
  EXPECT_EQ(second.at(0)[0], 'b');
  EXPECT_EQ(second.at(1)[0], 'c');
}

TEST_F(FaultTest, OneDescriptorServesAllRegions) {
  OpenAll();
  const int offers = agentd_->Count(AgentOp::kUseFaults);
  CloseRegion();
  ASSERT_EQ(OpenRegion(), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(agentd_->Count(AgentOp::kUseFaults), offers);
  EXPECT_EQ(data()[0], 0);
}

TEST_F(FaultTest, LargeRegionsBeginAtAHugePageAndCostNothingToOpen) {
  StartAll();
  OpenAgent();
  ASSERT_EQ(OpenRegion(1ULL << 38), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data()) % (2 << 20), 0u);
  EXPECT_EQ(agentd_->Last(AgentOp::kRegionMapped).fixed.arg[0],
            reinterpret_cast<std::uintptr_t>(data()));
  EXPECT_EQ(data()[(1ULL << 38) - 1], 0);
}

TEST_F(FaultTest, AVersionIsForReadingAlone) {
  OpenAll();
  data()[0] = '1';
  Commit();
  data()[0] = '2';
  Commit();
  CloseRegion();
  ASSERT_EQ(OpenRegion(0, false, 1), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(data()[0], '1');
  EXPECT_EQ(State().read_only, 1);
  EXPECT_EQ(agentmem_region_commit(region_, nullptr, kLongNs, nullptr, &error_),
            AGENTMEM_FAILED_PRECONDITION);
  EXPECT_EQ(agentmem_region_write(region_, 0, "x", 1, kLongNs, &error_),
            AGENTMEM_FAILED_PRECONDITION);
  EXPECT_EQ(agentd_->Count(AgentOp::kCommit), 2);
}

TEST_F(FaultTest, AReaderMovesToANewVersion) {
  StartAll();
  agentd_->AddVersion("a", "heap", kTestRegionBytes, {{0, Unit('1')}});
  OpenReader();
  ASSERT_EQ(OpenRegion(0), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(data()[0], '1');
  agentd_->AddVersion("a", "heap", kTestRegionBytes, {{0, Unit('2')}});
  agentd_->OnReply(AgentOp::kRefresh,
                   [](const FakeAgentd::Request&, FakeAgentd::Answer* answer) {
                     FieldWriter ranges;
                     ranges.AddStruct(RangeEntry{0, kUnitBytes});
                     ranges.AddStruct(RangeEntry{8 * kUnitBytes, kUnitBytes});
                     answer->tail = ranges.bytes();
                   });
  std::string changed;
  const auto note = [](void* context, const agentmem_range* range) {
    *static_cast<std::string*>(context) += std::to_string(range->offset) + " ";
  };
  std::uint64_t version = 0;
  ASSERT_EQ(agentmem_region_refresh(region_, 0, kLongNs, &version, note,
                                    &changed, &error_),
            AGENTMEM_OK)
      << error_.message;
  EXPECT_EQ(version, 2u);
  EXPECT_EQ(agentmem_region_version(region_), 2u);
  EXPECT_EQ(changed, "0 32768 ");
  EXPECT_EQ(data()[0], '2');
}

TEST_F(FaultTest, CopiesLoadInOneRequestAndFaultAfterwards) {
  OpenAll();
  const std::string text(3 * kUnitBytes, 't');
  ASSERT_EQ(agentmem_region_write(region_, 100, text.data(), text.size(),
                                  kLongNs, &error_),
            AGENTMEM_OK)
      << error_.message;
  EXPECT_EQ(agentd_->Last(AgentOp::kPopulate).fixed.length, 4 * kUnitBytes);
  EXPECT_EQ(agentd_->pins(), 0u);
  EXPECT_EQ(
      std::memcmp(const_cast<char*>(data()) + 100, text.data(), text.size()),
      0);
  std::string back(text.size(), '\0');
  ASSERT_EQ(agentmem_region_read(region_, 100, back.data(), back.size(),
                                 kLongNs, &error_),
            AGENTMEM_OK);
  EXPECT_TRUE(back == text);
  Commit();
  EXPECT_EQ(agentd_->ContentOf("a", "heap", 1).at(1)[0], 't');
}

TEST_F(FaultTest, APutMayHaveItsBytesInARegion) {
  OpenAll();
  data()[0] = 'r';
  const agentmem_key key = TestKey(9);
  EXPECT_EQ(
      agentmem_put(client_, &key, const_cast<char*>(data()), 2 * kUnitBytes,
                   AGENTMEM_CACHE, AGENTMEM_VISIBLE, kLongNs, nullptr, &error_),
      AGENTMEM_OK)
      << error_.message;
}

// Where faults are only of user mode, a system call cannot page the buffer in.
TEST_F(FaultTest, CopiesOfAnExplicitRegionMayHaveTheirBytesInAMappedOne) {
  OpenAll();
  agentmem_region_options options = {};
  options.size = sizeof(options);
  options.bytes = kTestRegionBytes;
  options.force_explicit = 1;
  agentmem_region* other = nullptr;
  ASSERT_EQ(
      agentmem_region_open(agent_, "other", &options, kLongNs, &other, &error_),
      AGENTMEM_OK);
  char* const missing = const_cast<char*>(data()) + 100;
  const std::uint64_t bytes = 5 * kPageBytes;
  EXPECT_EQ(agentmem_region_write(other, 0, "sent", 4, kLongNs, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(agentmem_region_read(other, 0, missing, bytes, kLongNs, &error_),
            AGENTMEM_OK)
      << error_.message;
  EXPECT_EQ(std::memcmp(missing, "sent", 5), 0);
  EXPECT_EQ(agentmem_region_write(other, kUnitBytes, missing + bytes, bytes,
                                  kLongNs, &error_),
            AGENTMEM_OK)
      << error_.message;
  agentmem_region_close(other);
}

TEST_F(FaultTest, AForkedChildHasNoRegionMemory) {
  OpenAll();
  data()[0] = 'p';
  EXPECT_EQ(SignalOfChildThatReads(data()), SIGSEGV);
  EXPECT_EQ(data()[0], 'p');
}

TEST_F(FaultTest, AForkedChildIsRefusedAndClosesNothing) {
  OpenAll();
  const pid_t child = fork();
  if (child == 0) {
    agentmem_region_state state;
    agentmem_error error;
    std::uint64_t version;
    const bool refused =
        agentmem_region_status(region_, &state, &error) ==
            AGENTMEM_FAILED_PRECONDITION &&
        agentmem_region_commit(region_, nullptr, kLongNs, &version, &error) ==
            AGENTMEM_FAILED_PRECONDITION &&
        agentmem_agent_phase(agent_, AGENTMEM_IDLE, nullptr, 0, kLongNs,
                             nullptr, &error) == AGENTMEM_FAILED_PRECONDITION &&
        agentmem_agent_delete(client_, "a", kLongNs, &error) ==
            AGENTMEM_FAILED_PRECONDITION &&
        agentmem_region_data(region_) == nullptr;
    agentmem_region_close(region_);
    agentmem_agent_close(agent_);
    _exit(refused ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  data()[0] = 'p';
  EXPECT_EQ(Commit(), 1u);
  EXPECT_EQ(agentd_->Count(AgentOp::kRegionClose), 0);
}

}  // namespace
}  // namespace agentmem
