#include "benchmarks/near_memd.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "benchmarks/connection.h"
#include "benchmarks/device_kv.h"
#include "benchmarks/hbm_bytes.h"

namespace agentmem::bench {
namespace {

constexpr std::uint32_t kBlocks = 24;

class NearMemdTest : public testing::Test {
 protected:
  void SetUp() override {
    const KvShape shape = KvShapeOfFragments(4 << 10);
    auto memd = NearMemd::Start(kBlocks, shape.BlockBytes());
    ASSERT_TRUE(memd.ok()) << memd.status();
    memd_ = std::move(*memd);
    auto client = Connection::Open(memd_->socket_path());
    ASSERT_TRUE(client.ok()) << client.status();
    client_.emplace(std::move(*client));
    auto kv = DeviceKv::Open(client_->get(), shape, kBlocks);
    ASSERT_TRUE(kv.ok()) << kv.status();
    kv_ = std::move(*kv);
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      keys_.push_back(KeyOf(1, i));
      seeds_.push_back(100 + i);
    }
  }
  bool IsResident(const agentmem_key& key) {
    return *client_->TierOf(key) == AGENTMEM_TIER_DRAM;
  }

  std::unique_ptr<NearMemd> memd_;
  std::optional<Connection> client_;
  std::unique_ptr<DeviceKv> kv_;
  std::vector<agentmem_key> keys_;
  std::vector<std::uint64_t> seeds_;
};

// More rounds than there is room for at once: room is used again.
TEST_F(NearMemdTest, WhatIsStoredComesBackRoundAfterRound) {
  for (int round = 0; round < 4; ++round) {
    for (std::uint64_t& seed : seeds_) seed += 1000;
    memd_->Forget(keys_);
    EXPECT_FALSE(IsResident(keys_[0]));
    ASSERT_TRUE(kv_->Fill(seeds_).ok());
    absl::Status status = kv_->Store(keys_, 0);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_TRUE(IsResident(keys_[kBlocks - 1]));
    ASSERT_TRUE(kv_->Poison().ok());
    EXPECT_EQ(kv_->Check(seeds_).code(), absl::StatusCode::kDataLoss);
    status = kv_->Load(keys_, 0);
    ASSERT_TRUE(status.ok()) << status;
    status = kv_->Check(seeds_);
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST_F(NearMemdTest, BytesOfOtherBlocksAreTold) {
  ASSERT_TRUE(kv_->Fill(seeds_).ok());
  ASSERT_TRUE(kv_->Store(keys_, 0).ok());
  std::swap(keys_[3], keys_[17]);
  ASSERT_TRUE(kv_->Load(keys_, 0).ok());
  const absl::Status status = kv_->Check(seeds_);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(std::string(status.message()).find("place 3 "), std::string::npos)
      << status;
}

TEST_F(NearMemdTest, WhatWasForgottenIsPoison) {
  ASSERT_TRUE(kv_->Fill(seeds_).ok());
  ASSERT_TRUE(kv_->Store(keys_, 0).ok());
  agentmem_span span = {};
  agentmem_error error = {};
  ASSERT_EQ(
      agentmem_get(client_->get(), keys_.data(), 1, kTimeoutNs, &span, &error),
      AGENTMEM_OK);
  const auto* bytes = static_cast<const char*>(span.data);
  EXPECT_EQ(WrongInOrder({bytes, kv_->block_bytes()}, seeds_[0]), std::nullopt);
  agentmem_release(client_->get(), &span, 1);
  memd_->Forget(keys_);
  EXPECT_EQ(std::vector<char>(bytes, bytes + kv_->block_bytes()),
            std::vector<char>(kv_->block_bytes(), kPoison));
}

}  // namespace
}  // namespace agentmem::bench
