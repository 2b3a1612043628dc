#include "memd/agents/agent_record.h"

#include <gtest/gtest.h>

#include "base/status.h"
#include "memd/store/ref_store.h"

namespace agentmem {
namespace {

AgentRecord Sample() {
  AgentRecord record;
  record.lineage = 0x0123456789abcdef;
  record.created_wall_ns = 1'700'000'000'000'000'000;
  record.phase = tiering::Phase::kTool;
  record.phase_wall_ns = record.created_wall_ns + 5;
  record.phase_detail = "pytest";
  record.retention = {RetentionKind::kLast, 100};
  record.labels = {{"model", "8b"}, {"owner", "ci"}};
  record.origin = AgentOrigin{"coder", 77};
  record.next_region_id = 12;
  RegionRecord scratch;
  scratch.name = "scratch";
  scratch.id = 3;
  scratch.bytes = 1 << 30;
  RegionRecord heap;
  heap.name = "heap.0";
  heap.id = 11;
  heap.bytes = kRegionBytesMax;
  heap.retention = Retention{RetentionKind::kAge, 3'600'000'000'000};
  heap.head = {42, Key::FromWords(1, 2), 3000};
  heap.oldest_kept = 40;
  heap.origin_number = 7;
  heap.working_set = Key::FromWords(3, 4);
  heap.working_set_bytes = 512;
  record.regions = {scratch, heap};
  return record;
}

absl::Status EncodeStatus(const AgentRecord& record) {
  return EncodeAgentRecord(record).status();
}

TEST(AgentRecord, ARecordThatWasMadeIsRead) {
  const AgentRecord record = Sample();
  const auto value = EncodeAgentRecord(record);
  ASSERT_TRUE(value.ok()) << value.status().ToString();
  const auto read = DecodeAgentRecord("agents/a/b", *value);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(*read, record);
}

TEST(AgentRecord, ARecordThatWasCutOrGrewIsDataLoss) {
  const std::string value = *EncodeAgentRecord(Sample());
  for (std::size_t bytes = 0; bytes < value.size(); ++bytes) {
    EXPECT_EQ(DecodeAgentRecord("r", value.substr(0, bytes)).status().code(),
              absl::StatusCode::kDataLoss)
        << bytes;
  }
  EXPECT_EQ(DecodeAgentRecord("r", value + "x").status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(AgentRecord, AWrongBitNeverGivesARecordThatCouldNotHaveBeenWritten) {
  const std::string value = *EncodeAgentRecord(Sample());
  for (std::size_t bit = 0; bit < value.size() * 8; ++bit) {
    std::string bad = value;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    const auto read = DecodeAgentRecord("r", bad);
    if (!read.ok()) {
      EXPECT_EQ(read.status().code(), absl::StatusCode::kDataLoss);
      continue;
    }
    EXPECT_TRUE(EncodeStatus(*read).ok()) << "bit " << bit;
  }
}

TEST(AgentRecord, AnotherFormatIsRefusedAndBothAreNamed) {
  std::string value = *EncodeAgentRecord(Sample());
  value[8] = 2;
  const absl::Status status = DecodeAgentRecord("agents/x", value).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(StatusMessage(status), "ref 'agents/x': format 2, expected 1");
}

TEST(AgentRecord, TheLargestNumberOfRegionsFitsInARef) {
  AgentRecord record = Sample();
  RegionRecord region = record.regions[1];
  record.regions.clear();
  record.next_region_id = UINT64_MAX;
  region.head.number = UINT64_MAX;
  region.head.bytes = kMaxBlockBytes;
  region.oldest_kept = UINT64_MAX;
  region.origin_number = UINT64_MAX;
  region.working_set_bytes = kMaxBlockBytes;
  region.retention->limit = UINT64_MAX;
  for (std::uint32_t i = 0; i < kRegionsMax; ++i) {
    region.id = UINT64_MAX - 1 - i;
    region.name = std::to_string(1000 + i);
    region.name.resize(kRegionNameBytesMax, 'n');
    record.regions.push_back(region);
  }
  const auto value = EncodeAgentRecord(record);
  ASSERT_TRUE(value.ok()) << value.status().ToString();
  EXPECT_LE(value->size(), 48u << 10);
  EXPECT_EQ(*DecodeAgentRecord("r", *value), record);
  EXPECT_EQ(kAgentRecordBytesMax, RefStore::kValueBytesMax);

  record.regions.push_back(region);
  EXPECT_EQ(EncodeStatus(record).code(), absl::StatusCode::kInvalidArgument);
}

TEST(AgentRecord, WhatIsOutOfRangeIsRefusedByName) {
  const auto refused = [](const AgentRecord& record, const std::string& what) {
    const absl::Status status = EncodeStatus(record);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << what;
    EXPECT_NE(StatusMessage(status).find(what), std::string::npos)
        << StatusMessage(status);
  };
  AgentRecord record = Sample();
  record.lineage = 0;
  refused(record, "lineage");
  record = Sample();
  record.phase = static_cast<tiering::Phase>(6);
  refused(record, "phase 6");
  record = Sample();
  record.retention = {RetentionKind::kLast, 0};
  refused(record, "retention");
  record = Sample();
  record.regions[0].name = "a/b";
  refused(record, "a/b");
  record = Sample();
  record.regions[1].name = "scratch";
  refused(record, "scratch");
  record = Sample();
  record.regions[1].id = 12;
  refused(record, "id 12");
  record = Sample();
  record.regions[1].oldest_kept = 43;
  refused(record, "oldest version 43");
  record = Sample();
  record.regions[0].bytes = kRegionBytesMax + 1;
  refused(record, "bytes");
  record = Sample();
  record.labels = {{"a", ""}, {"a", "b"}};
  refused(record, "two labels");
}

}  // namespace
}  // namespace agentmem
