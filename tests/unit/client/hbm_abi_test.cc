// The pool in device memory through the C ABI, with its own thread.
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "agentmem/kv.h"
#include "base/clock.h"
#include "client/deadline.h"
#include "client/kv_wait.h"
#include "gmock/gmock.h"
#include "proto/hbm_messages.h"
#include "tests/unit/client/agent_test_base.h"

namespace agentmem {
namespace {

using testing::Each;
using testing::HasSubstr;

constexpr std::uint64_t kStream = 77;
constexpr std::uint32_t kPages = 8;
// A layer: pages of 4 tokens of 2 heads of 16 floats, K and V.
constexpr std::uint64_t kPageBytes = 4 * 2 * 16 * 4;
constexpr std::uint64_t kLayerBytes = 2 * kPageBytes * kPages;

// Of reports that memd gets; answers them with wishes.
class FakeHbm {
 public:
  void Serve(FakeAgentd* agentd) {
    agentd->OnReply(
        AgentOp::kHbmOpen,
        [this](const FakeAgentd::Request& request, FakeAgentd::Answer* answer) {
          std::lock_guard<std::mutex> lock(mutex_);
          *answer = {};
          answer->value[0] = budget_;
          answer->value[1] = 3;
          FieldReader(request.tail).NextStruct(&device_);
        });
    agentd->OnReply(
        AgentOp::kHbmReport,
        [this](const FakeAgentd::Request& request, FakeAgentd::Answer* answer) {
          std::lock_guard<std::mutex> lock(mutex_);
          hits_ = {request.fixed.arg[2], request.fixed.arg[3]};
          Report(request, answer);
          changed_.notify_all();
        });
    agentd->OnReply(
        AgentOp::kHbmClose,
        [this](const FakeAgentd::Request& request, FakeAgentd::Answer* answer) {
          std::lock_guard<std::mutex> lock(mutex_);
          last_hits_ = {request.fixed.arg[0], request.fixed.arg[1]};
          *answer = {};
        });
  }
  // Made with the next report that says that it has blocks.
  void WishEmpty(const std::string& agent) {
    std::lock_guard<std::mutex> lock(mutex_);
    wanted_ = agent;
  }
  HbmUse AwaitAnswer() {
    std::unique_lock<std::mutex> lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::minutes(1),
                                  [this] { return answered_.answers != 0; }));
    return answered_;
  }
  void AwaitBlocks(std::uint64_t blocks) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this, blocks] { return blocks_ == blocks; });
  }
  HbmDevice device() {
    std::lock_guard<std::mutex> lock(mutex_);
    return device_;
  }
  // Blocks, and bytes of them.
  using Hits = std::pair<std::uint64_t, std::uint64_t>;
  bool AwaitHits(const Hits& hits) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1),
                             [&] { return hits_ == hits; });
  }
  Hits last_hits() {
    std::lock_guard<std::mutex> lock(mutex_);
    return last_hits_;
  }

 private:
  void Report(const FakeAgentd::Request& request, FakeAgentd::Answer* answer) {
    *answer = {};
    answer->value[0] = budget_;
    FieldReader fields(request.tail);
    HbmUse use;
    FieldWriter wishes;
    while (fields.NextStruct(&use)) {
      blocks_ = use.blocks;
      if (use.answers != 0) answered_ = use;
      if (use.agent != wanted_ || use.blocks == 0) continue;
      HbmWish wish = {};
      SetName(&wish.agent, wanted_);
      wish.kind = HbmWishKind::kEmpty;
      wish.number = 5;
      wish.deadline_ns = kNoDeadline;
      wishes.AddStruct(wish);
    }
    answer->tail = wishes.bytes();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t budget_ = 64 << 20;
  std::string wanted_;
  HbmDevice device_ = {};
  HbmUse answered_ = {};
  std::uint64_t blocks_ = UINT64_MAX;
  Hits hits_ = {};       // in the last report
  Hits last_hits_ = {};  // as the pool ended
};

class HbmAbiTest : public AgentTest {
 protected:
  void SetUp() override {
    AgentTest::SetUp();
    StartAll();
    agentmem_device_options options = {};
    options.size = sizeof(options);
    options.kind = AGENTMEM_DEVICE_HOST;
    options.memory_bytes = 64 << 20;
    ASSERT_EQ(agentmem_device_open(client_, &options, &device_, &error_),
              AGENTMEM_OK);
    ASSERT_EQ(agentmem_device_allocate(device_, kLayerBytes, &layer_, &error_),
              AGENTMEM_OK);
    agentmem_kv_layout layout = {};
    layout.size = sizeof(layout);
    layout.layers = 1;
    layout.planes = 2;
    layout.page_tokens = 4;
    layout.heads = 2;
    layout.head_size = 16;
    layout.type = AGENTMEM_KV_FLOAT32;
    layout.head_stride = 64;
    layout.token_stride = 128;
    layout.page_stride = kPageBytes;
    layout.plane_stride = kPageBytes * kPages;
    ASSERT_EQ(agentmem_kv_open(device_, &layout, &layer_, nullptr, kPages, 4,
                               &kv_, &error_),
              AGENTMEM_OK)
        << error_.message;
    for (std::uint64_t i = 0; i < kLayerBytes; ++i) {
      bytes()[i] = static_cast<char>(i * 131 >> 3);
    }
  }
  void TearDown() override {
    agentmem_kv_close(kv_);
    agentmem_device_free(device_, layer_);
    agentmem_device_close(device_);
    AgentTest::TearDown();
  }

  char* bytes() { return reinterpret_cast<char*>(layer_); }
  agentmem_code OpenPool(std::uint64_t bytes) {
    agentmem_hbm_options options = {};
    options.size = sizeof(options);
    options.bytes = bytes;
    return agentmem_hbm_open(device_, &options, kLongNs, &error_);
  }
  agentmem_hbm_state State() {
    agentmem_hbm_state state = {};
    state.size = sizeof(state);
    EXPECT_EQ(agentmem_hbm_describe(device_, &state, &error_), AGENTMEM_OK);
    return state;
  }
  // Blocks 1, 2, ... from or into pages 0, 1, ...
  template <typename Begin>
  agentmem_kv_transfer* Move(std::uint32_t count, Begin begin) {
    agentmem_kv_transfer* const transfer = Post(count, begin);
    EXPECT_EQ(agentmem_kv_wait(transfer, kLongNs, &error_), AGENTMEM_OK)
        << error_.message;
    return transfer;
  }
  template <typename Begin>
  agentmem_kv_transfer* Post(std::uint32_t count, Begin begin) {
    std::vector<agentmem_key> keys;
    std::vector<std::uint32_t> pages;
    for (std::uint32_t i = 0; i < count; ++i) {
      keys.push_back(TestKey(i + 1));
      pages.push_back(i);
    }
    agentmem_kv_transfer* transfer = nullptr;
    EXPECT_EQ(begin(keys, pages, &transfer), AGENTMEM_OK) << error_.message;
    return transfer;
  }
  auto Storing() {
    return [this](const auto& keys, const auto& pages,
                  agentmem_kv_transfer** transfer) {
      return agentmem_kv_store(kv_, keys.data(), keys.size(), pages.data(),
                               kStream, AGENTMEM_CACHE, AGENTMEM_VISIBLE,
                               kLongNs, transfer, &error_);
    };
  }
  auto Loading() {
    return [this](const auto& keys, const auto& pages,
                  agentmem_kv_transfer** transfer) {
      return agentmem_kv_load(kv_, keys.data(), keys.size(), pages.data(),
                              kStream, kLongNs, transfer, &error_);
    };
  }
  agentmem_kv_transfer* Store(std::uint32_t count) {
    return Move(count, Storing());
  }
  agentmem_kv_transfer* Load(std::uint32_t count) {
    return Move(count, Loading());
  }
  std::vector<agentmem_tier> LoadAndTell(std::uint32_t count) {
    const std::string before(bytes(), kLayerBytes);
    for (std::uint32_t page = 0; page < count; ++page) {
      std::memset(bytes() + page * kPageBytes, 0x77, kPageBytes);
      std::memset(bytes() + (kPages + page) * kPageBytes, 0x77, kPageBytes);
    }
    agentmem_kv_transfer* const load = Load(count);
    std::vector<agentmem_tier> tiers(count);
    EXPECT_EQ(agentmem_kv_tiers(load, tiers.data(), count, &error_),
              AGENTMEM_OK);
    EXPECT_EQ(agentmem_kv_tiers(load, tiers.data(), count + 1, &error_),
              AGENTMEM_INVALID_ARGUMENT);
    agentmem_kv_close_transfer(load);
    EXPECT_EQ(std::string(bytes(), kLayerBytes), before);
    return tiers;
  }

  agentmem_device* device_ = nullptr;
  agentmem_kv* kv_ = nullptr;
  std::uint64_t layer_ = 0;
  FakeHbm hbm_;
};

TEST_F(HbmAbiTest, AMemdThatKnowsOfNoneSaysSoAndThereIsNoPool) {
  agentd_->OnReply(AgentOp::kHbmOpen,
                   [](const FakeAgentd::Request&, FakeAgentd::Answer* answer) {
                     answer->code = Code::kUnimplemented;
                     answer->message = "no such operation";
                   });
  EXPECT_EQ(OpenPool(1 << 20), AGENTMEM_UNIMPLEMENTED);
  EXPECT_EQ(agentmem_kv_keep(kv_, "ada", &error_),
            AGENTMEM_FAILED_PRECONDITION);
  EXPECT_THAT(error_.message, HasSubstr("agentmem_hbm_open"));
  agentmem_hbm_state state = {};
  state.size = sizeof(state);
  EXPECT_EQ(agentmem_hbm_describe(device_, &state, &error_),
            AGENTMEM_FAILED_PRECONDITION);
  hbm_.Serve(agentd_.get());
  EXPECT_EQ(OpenPool(1 << 20), AGENTMEM_OK) << error_.message;
}

TEST_F(HbmAbiTest, WhatIsWrongIsRefusedAndNamed) {
  hbm_.Serve(agentd_.get());
  EXPECT_EQ(OpenPool(0), AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(OpenPool(1ULL << 40), AGENTMEM_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("67108864"));
  ASSERT_EQ(OpenPool(8 << 20), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(OpenPool(8 << 20), AGENTMEM_FAILED_PRECONDITION);
  EXPECT_EQ(agentmem_kv_keep(kv_, "", &error_), AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(agentmem_kv_keep(kv_, std::string(200, 'a').c_str(), &error_),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(agentmem_kv_keep(kv_, "a b", &error_), AGENTMEM_INVALID_ARGUMENT);
  agentmem_kv_transfer* const store = Store(1);
  agentmem_tier tier;
  EXPECT_EQ(agentmem_kv_tiers(store, &tier, 1, &error_),
            AGENTMEM_FAILED_PRECONDITION);
  agentmem_kv_close_transfer(store);
}

TEST_F(HbmAbiTest, BlocksStayInTheDeviceAndAreLoadedFromThere) {
  hbm_.Serve(agentd_.get());
  ASSERT_EQ(OpenPool(8 << 20), AGENTMEM_OK) << error_.message;
  EXPECT_STREQ(hbm_.device().id, "host");
  EXPECT_EQ(hbm_.device().memory_bytes, 64u << 20);
  ASSERT_EQ(agentmem_kv_keep(kv_, "ada", &error_), AGENTMEM_OK);
  agentmem_kv_close_transfer(Store(6));
  EXPECT_THAT(LoadAndTell(6), Each(AGENTMEM_TIER_HBM));
  const agentmem_hbm_state state = State();
  EXPECT_EQ(state.budget_bytes, 64u << 20);
  EXPECT_EQ(state.blocks, 6u);
  EXPECT_EQ(state.hits, 6u);
  EXPECT_EQ(state.filled, 6u);
  EXPECT_EQ(state.used_bytes, 6 * 2 * kPageBytes);
  hbm_.AwaitBlocks(6);
}

TEST_F(HbmAbiTest, HitsAreToldInReportsAndAsThePoolEnds) {
  constexpr std::uint64_t kBlockBytes = 2 * kPageBytes;
  hbm_.Serve(agentd_.get());
  ASSERT_EQ(OpenPool(8 << 20), AGENTMEM_OK) << error_.message;
  ASSERT_EQ(agentmem_kv_keep(kv_, "ada", &error_), AGENTMEM_OK);
  agentmem_kv_close_transfer(Store(6));
  agentmem_kv_close_transfer(Load(6));
  EXPECT_TRUE(hbm_.AwaitHits({6, 6 * kBlockBytes}));
  agentmem_kv_close_transfer(Load(3));
  agentmem_kv_close(std::exchange(kv_, nullptr));
  agentmem_device_free(device_, layer_);
  agentmem_device_close(std::exchange(device_, nullptr));
  EXPECT_EQ(hbm_.last_hits(), FakeHbm::Hits(9, 9 * kBlockBytes));
}

TEST_F(HbmAbiTest, AnAgentThatMemdWishesAwayIsGoneByItself) {
  hbm_.Serve(agentd_.get());
  ASSERT_EQ(OpenPool(8 << 20), AGENTMEM_OK) << error_.message;
  hbm_.WishEmpty("ada");
  ASSERT_EQ(agentmem_kv_keep(kv_, "ada", &error_), AGENTMEM_OK);
  agentmem_kv_close_transfer(Store(6));
  const HbmUse answer = hbm_.AwaitAnswer();
  EXPECT_STREQ(answer.agent, "ada");
  EXPECT_EQ(answer.blocks, 0u);
  EXPECT_EQ(answer.answers, 5u);
  EXPECT_EQ(State().blocks, 0u);
  EXPECT_EQ(State().allocated_bytes, 0u);
  EXPECT_EQ(State().emptied, 1u);
  hbm_.WishEmpty("");
  EXPECT_THAT(LoadAndTell(6), Each(AGENTMEM_TIER_DRAM));
  EXPECT_THAT(LoadAndTell(6), Each(AGENTMEM_TIER_HBM)) << "it works again";
}

TEST_F(HbmAbiTest, AnAgentLeavesThoughItsTransfersAreNotWaitedFor) {
  hbm_.Serve(agentd_.get());
  ASSERT_EQ(OpenPool(8 << 20), AGENTMEM_OK) << error_.message;
  ASSERT_EQ(agentmem_kv_keep(kv_, "ada", &error_), AGENTMEM_OK);
  agentmem_kv_close_transfer(Store(3));
  hbm_.AwaitBlocks(3);
  hbm_.WishEmpty("ada");
  agentmem_kv_transfer* const load = Post(3, Loading());
  agentmem_kv_transfer* const store = Post(6, Storing());  // memd hears of it
  ASSERT_EQ(hbm_.AwaitAnswer().blocks, 0u);
  EXPECT_EQ(State().blocks, 0u);
  EXPECT_EQ(agentmem_kv_wait(load, kLongNs, &error_), AGENTMEM_OK);
  EXPECT_EQ(agentmem_kv_wait(store, kLongNs, &error_), AGENTMEM_OK);
  agentmem_kv_close_transfer(load);
  agentmem_kv_close_transfer(store);
}

TEST_F(HbmAbiTest, ThePoolGivesWayToWhoAllocates) {
  hbm_.Serve(agentd_.get());
  ASSERT_EQ(OpenPool(60 << 20), AGENTMEM_OK) << error_.message;
  ASSERT_EQ(agentmem_kv_keep(kv_, nullptr, &error_), AGENTMEM_OK);
  agentmem_kv_close_transfer(Store(6));
  ASSERT_EQ(State().allocated_bytes, 32u << 20);
  std::uint64_t address = 0;
  ASSERT_EQ(agentmem_device_allocate(device_, 48 << 20, &address, &error_),
            AGENTMEM_OK)
      << error_.message;
  EXPECT_EQ(State().allocated_bytes, 0u);
  EXPECT_THAT(LoadAndTell(6), Each(AGENTMEM_TIER_DRAM));
  std::uint64_t more = 0;
  EXPECT_EQ(agentmem_device_allocate(device_, 48 << 20, &more, &error_),
            AGENTMEM_RESOURCE_EXHAUSTED);
  agentmem_device_free(device_, address);
}

TEST_F(HbmAbiTest, ATransferThatNobodyWaitsForIsPublished) {
  hbm_.Serve(agentd_.get());
  ASSERT_EQ(OpenPool(8 << 20), AGENTMEM_OK) << error_.message;
  ASSERT_EQ(agentmem_kv_keep(kv_, "ada", &error_), AGENTMEM_OK);
  const agentmem_key key = TestKey(1);
  const std::uint32_t page = 0;
  agentmem_kv_transfer* transfer = nullptr;
  ASSERT_EQ(agentmem_kv_store(kv_, &key, 1, &page, kStream, AGENTMEM_CACHE,
                              AGENTMEM_VISIBLE, kLongNs, &transfer, &error_),
            AGENTMEM_OK);
  agentmem_kv_close_transfer(transfer);
  // No other call on the device comes by.
  agentmem_span span;
  while (Get(key, &span) == AGENTMEM_NOT_FOUND) {
  }
  ASSERT_NE(span.data, nullptr) << error_.message;
  agentmem_release(client_, &span, 1);
}

// It takes nothing off its ring; what it says of the pool, it says.
TEST_F(HbmAbiTest, AMemdThatTakesNothingHoldsUpNoLoadFromThePool) {
  hbm_.Serve(agentd_.get());
  ASSERT_EQ(OpenPool(8 << 20), AGENTMEM_OK) << error_.message;
  ASSERT_EQ(agentmem_kv_keep(kv_, "ada", &error_), AGENTMEM_OK);
  agentmem_kv_close_transfer(Store(4));
  while (memd_->GrantsIn(GrantState::kGranted) < 8) memd_->Grant(1024);
  memd_->Pause();
  std::vector<agentmem_key> keys;
  for (std::uint32_t i = 0; i < 2 * kSubmissionEntries; ++i) {
    keys.push_back(TestKey(100'000 + i));
  }
  ASSERT_EQ(agentmem_prefetch(client_, keys.data(), keys.size(), &error_),
            AGENTMEM_RESOURCE_EXHAUSTED);
  const auto soon = client::Deadline::After(3 * kSecondNs);
  agentmem_kv_transfer* store = nullptr;
  for (std::uint32_t page = 4; page < kPages; ++page) {
    const agentmem_key key = TestKey(page + 1);
    agentmem_kv_close_transfer(store);  // the last one stays open
    ASSERT_EQ(agentmem_kv_store(kv_, &key, 1, &page, kStream, AGENTMEM_CACHE,
                                AGENTMEM_VISIBLE, kLongNs, &store, &error_),
              AGENTMEM_OK)
        << error_.message;
  }
  agentmem_kv_transfer* const load = Post(4, Loading());
  EXPECT_EQ(agentmem_kv_wait_layer(load, 0, kStream, &error_), AGENTMEM_OK);
  EXPECT_EQ(agentmem_kv_wait(load, kLongNs, &error_), AGENTMEM_OK);
  agentmem_kv_close_transfer(load);
  EXPECT_FALSE(soon.Passed());
  // What it has not taken is in the pool, too.
  ASSERT_TRUE(client::WaitForDevice([&] { return State().filled == kPages; },
                                    client::Deadline::After(kLongNs)));
  EXPECT_THAT(LoadAndTell(kPages), Each(AGENTMEM_TIER_HBM));
  memd_->Resume();
  for (std::uint32_t number = 1; number <= kPages; ++number) {
    const agentmem_key key = TestKey(number);
    agentmem_span span;
    while (Get(key, &span) == AGENTMEM_NOT_FOUND) {
    }
    ASSERT_NE(span.data, nullptr) << error_.message;
    agentmem_release(client_, &span, 1);
  }
  agentmem_kv_close_transfer(store);
}

}  // namespace
}  // namespace agentmem
