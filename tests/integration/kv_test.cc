// KV blocks between an engine's pages and a real memd, on the host device:
// every tier, memory that memd takes back, and deaths in the midst.
#include "agentmem/kv.h"

#include "tests/integration/kv_engine.h"

namespace agentmem {
namespace {

TEST_F(KvTest, BlocksOfThreeTimesTheBudgetComeBackIntoAnotherLayout) {
  constexpr std::uint32_t kAtOnce = 48;  // 12 MiB: beyond the quota of holds
  Engine from(device_, Order::kTokensFirst, kAtOnce * kBlockPages);
  Engine to(device_, Order::kHeadsFirst, kAtOnce * kBlockPages);
  EXPECT_EQ(agentmem_kv_block_bytes(from.kv()), 256u << 10);
  for (std::uint32_t first = 0; first < 384; first += kAtOnce) {
    StoreAll(&from, first, kAtOnce);
  }
  for (std::uint32_t first = 0; first < 384; first += kAtOnce) {
    LoadAndCheck(&to, first, kAtOnce);
  }
  agentmem_device_state state = {};
  state.size = sizeof(state);
  ASSERT_EQ(agentmem_device_describe(device_, &state, &error_), AGENTMEM_OK);
  EXPECT_STREQ(state.name, "host");
  EXPECT_GT(state.registered_bytes, 0u);
}

TEST_F(KvTest, CompressedBlocksOfAllTiersComeBackWithinTheBound) {
  constexpr std::uint32_t kAtOnce = 48;
  Engine from(device_, Order::kTokensFirst, kAtOnce * kBlockPages);
  Engine to(device_, Order::kHeadsFirst, kAtOnce * kBlockPages);
  ASSERT_EQ(agentmem_kv_compress(from.kv(), &error_), AGENTMEM_OK)
      << error_.message;
  ASSERT_EQ(agentmem_kv_compress(to.kv(), &error_), AGENTMEM_OK);
  // 8 layers of 128 bytes of scales and 16 KiB of codes, behind a header.
  EXPECT_EQ(agentmem_kv_block_bytes(from.kv()), 128u + 8 * (128 + (16 << 10)));
  // 36 MiB, more than DRAM has: the first ones come back from the store.
  for (std::uint32_t first = 0; first < 288; first += kAtOnce) {
    StoreAll(&from, first, kAtOnce);
  }
  int changed = 0;
  for (std::uint32_t first = 0; first < 288; first += kAtOnce) {
    agentmem_kv_transfer* transfer = nullptr;
    ASSERT_EQ(Load(&to, first, kAtOnce, &transfer), AGENTMEM_OK)
        << error_.message;
    ASSERT_EQ(agentmem_kv_wait(transfer, kLongNs, &error_), AGENTMEM_OK)
        << error_.message;
    agentmem_kv_close_transfer(transfer);
    for (std::uint32_t i = 0; i < kAtOnce; i += 12) {
      ASSERT_TRUE(to.HasAbout(i * kBlockPages, first + i, &changed))
          << "block " << first + i;
    }
  }
  EXPECT_GT(changed, 0) << "nothing was compressed";
}

TEST_F(KvTest, PlainAndCompressedBlocksAreNotTakenForEachOther) {
  Engine plain(device_, Order::kTokensFirst, 8);
  Engine compressed(device_, Order::kTokensFirst, 8);
  ASSERT_EQ(agentmem_kv_compress(compressed.kv(), &error_), AGENTMEM_OK);
  StoreAll(&plain, 0, 1);
  StoreAll(&compressed, 1, 1);
  agentmem_kv_transfer* transfer = nullptr;
  EXPECT_EQ(Load(&compressed, 0, 1, &transfer), AGENTMEM_DATA_LOSS);
  EXPECT_EQ(Load(&plain, 1, 1, &transfer), AGENTMEM_DATA_LOSS);
  LoadAndCheck(&plain, 0, 1);
  // From here on the plain one's are such, too.
  ASSERT_EQ(agentmem_kv_compress(plain.kv(), &error_), AGENTMEM_OK);
  ASSERT_EQ(agentmem_kv_compress(plain.kv(), &error_), AGENTMEM_OK) << "twice";
  ASSERT_EQ(Load(&plain, 1, 1, &transfer), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(agentmem_kv_wait(transfer, kLongNs, &error_), AGENTMEM_OK);
  agentmem_kv_close_transfer(transfer);
  int changed = 0;
  EXPECT_TRUE(plain.HasAbout(0, 1, &changed));
  EXPECT_EQ(agentmem_kv_compress(nullptr, &error_), AGENTMEM_INVALID_ARGUMENT);
}

TEST_F(KvTest, ADeviceThatWasClosedHoldsNothing) {
  agentmem_device* second = nullptr;
  agentmem_device_options options = {};
  options.size = sizeof(options);
  options.kind = AGENTMEM_DEVICE_HOST;
  EXPECT_EQ(agentmem_device_open(client_, &options, &second, &error_),
            AGENTMEM_FAILED_PRECONDITION);
  {
    Engine from(device_, Order::kTokensFirst, 8);
    StoreAll(&from, 0, 4);
  }
  EXPECT_GT(RegisteredBytes(), 0u);
  agentmem_device_close(device_);
  EXPECT_EQ(RegisteredBytes(), 0u);
  // Another may be opened now, and registers them anew.
  Open(client_);
  Engine to(device_, Order::kHeadsFirst, 8);
  LoadAndCheck(&to, 0, 4);
}

TEST_F(KvTest, AFreshEnginesDeviceReachesWhatDramHasBeforeItLoads) {
  {
    Engine from(device_, Order::kTokensFirst, 32);
    StoreAll(&from, 0, 16);
  }
  agentmem_device_close(device_);
  agentmem_close(client_);
  client_ = memd_.Connect();
  Open(client_);
  agentmem_device_state state = {};
  state.size = sizeof(state);
  for (int i = 0; i < 1000 && state.registered_bytes < (4u << 20); ++i) {
    EXPECT_GE(RegisteredBytes(), state.registered_bytes);
    ASSERT_EQ(agentmem_device_describe(device_, &state, &error_), AGENTMEM_OK);
  }
  EXPECT_GE(state.registered_bytes, 4u << 20);
  Engine to(device_, Order::kHeadsFirst, 32);
  LoadAndCheck(&to, 0, 16);
}

// It has all of DRAM, and nobody calls.
TEST_F(KvTest, AnIdleDeviceGivesBackWhatRegionsNeed) {
  constexpr std::uint64_t kRegionBytes = 16 << 20;
  {
    Engine from(device_, Order::kTokensFirst, 96);
    for (std::uint32_t first = 0; first < 144; first += 48) {
      StoreAll(&from, first, 48);
    }
  }
  const std::uint64_t before = RegisteredBytes();
  EXPECT_EQ(before, 32u << 20);
  agentmem_client* const other = memd_.Connect("agent");
  agentmem_agent_options options = {};
  options.size = sizeof(options);
  options.mode = AGENTMEM_AGENT_WRITE;
  options.create = 1;
  agentmem_agent* agent = nullptr;
  ASSERT_EQ(agentmem_agent_open(other, "a", &options, kLongNs, &agent, &error_),
            AGENTMEM_OK)
      << error_.message;
  agentmem_region_options region_options = {};
  region_options.size = sizeof(region_options);
  region_options.bytes = kRegionBytes;
  agentmem_region* region = nullptr;
  ASSERT_EQ(agentmem_region_open(agent, "heap", &region_options, kLongNs,
                                 &region, &error_),
            AGENTMEM_OK)
      << error_.message;
  char* const bytes = static_cast<char*>(agentmem_region_data(region));
  for (std::uint64_t at = 0; at < kRegionBytes; at += 4096) {
    ASSERT_EQ(bytes[at], 0) << at;
    bytes[at] = static_cast<char>(at >> 12);
  }
  for (std::uint64_t at = 0; at < kRegionBytes; at += 4096) {
    ASSERT_EQ(bytes[at], static_cast<char>(at >> 12)) << at;
  }
  EXPECT_LE(RegisteredBytes() + (8u << 20), before);
  agentmem_region_close(region);
  agentmem_agent_close(agent);
  agentmem_close(other);
}

TEST_F(KvTest, AGpuThatIsNotThereIsUnavailableAndNamed) {
  agentmem_device_close(device_);
  agentmem_device_options options = {};
  options.size = sizeof(options);
  options.kind = AGENTMEM_DEVICE_CUDA;
  options.index = 63;
  EXPECT_EQ(agentmem_device_open(client_, &options, &device_, &error_),
            AGENTMEM_UNAVAILABLE);
  EXPECT_NE(std::string(error_.message).find("GPU 63"), std::string::npos)
      << error_.message;
  Open(client_);  // its place is free
}

TEST_F(KvTest, AMissingBlockIsNotFoundAndTheRestGoesOn) {
  Engine from(device_, Order::kTokensFirst, 8);
  Engine to(device_, Order::kHeadsFirst, 8);
  StoreAll(&from, 0, 3);
  agentmem_kv_transfer* transfer = nullptr;
  EXPECT_EQ(Load(&to, 0, 4, &transfer), AGENTMEM_NOT_FOUND);
  EXPECT_EQ(transfer, nullptr);
  LoadAndCheck(&to, 0, 3);
}

TEST_F(KvTest, AMemdThatIsKilledAndStartedAgainIsUsedAgain) {
  Engine from(device_, Order::kTokensFirst, 32);
  Engine to(device_, Order::kHeadsFirst, 32);
  StoreAll(&from, 0, 16);
  agentmem_kv_transfer* transfer = nullptr;
  ASSERT_EQ(Load(&to, 0, 16, &transfer), AGENTMEM_OK) << error_.message;
  memd_.Kill();
  // What was held stays mapped: the copies end.
  EXPECT_EQ(agentmem_kv_wait(transfer, kLongNs, &error_), AGENTMEM_OK);
  for (std::uint32_t page = 0; page < 32; ++page) {
    ASSERT_TRUE(to.Has(page, page / kBlockPages, page % kBlockPages));
  }
  agentmem_kv_close_transfer(transfer);
  memd_.Start();
  StoreAll(&from, 100, 16);
  LoadAndCheck(&to, 100, 16);
}

TEST_F(KvTest, AProcessThatDiesInTheMidstOfAStoreLeavesNothingBehind) {
  for (int time = 0; time < 3; ++time) {
    Child child([&](int say) {
      Open(memd_.Connect());
      Engine from(device_, Order::kTokensFirst, 64);
      agentmem_kv_transfer* transfer = nullptr;
      if (Store(&from, 500 + 32 * time, 32, &transfer) != AGENTMEM_OK) return 1;
      char one = 1;
      if (::write(say, &one, 1) != 1) return 2;
      ::pause();
      return 3;
    });
    EXPECT_EQ(child.Hear(), 1);
    child.Kill();
    child.Wait();
  }
  Engine from(device_, Order::kTokensFirst, 96);
  Engine to(device_, Order::kHeadsFirst, 96);
  // What they had published is whole; the rest is not there.
  for (std::uint32_t number = 500; number < 500 + 3 * 32; ++number) {
    to.Poison();
    agentmem_kv_transfer* transfer = nullptr;
    agentmem_code code = Load(&to, number, 1, &transfer);
    if (code == AGENTMEM_OK) {
      code = agentmem_kv_wait(transfer, kLongNs, &error_);
      agentmem_kv_close_transfer(transfer);
    }
    ASSERT_TRUE(code == AGENTMEM_OK || code == AGENTMEM_NOT_FOUND)
        << error_.message;
    for (std::uint32_t half = 0; code == AGENTMEM_OK && half < kBlockPages;
         ++half) {
      EXPECT_TRUE(to.Has(half, number, half)) << "block " << number;
    }
  }
  // All of the room is there for this one.
  StoreAll(&from, 1000, 48);
  LoadAndCheck(&to, 1000, 48);
}

TEST_F(KvTest, MoreBlocksThanCanBeCountedAreRefused) {
  Engine engine(device_, Order::kTokensFirst, 4);
  agentmem_kv_transfer* transfer = nullptr;
  const agentmem_key key = KeyOf(1);
  const std::uint32_t page = 0;
  // Times the pages of a block it would be 0.
  constexpr std::size_t kCount = SIZE_MAX / kBlockPages + 1;
  EXPECT_EQ(agentmem_kv_store(engine.kv(), &key, kCount, &page, kStream,
                              AGENTMEM_CACHE, AGENTMEM_VISIBLE, 0, &transfer,
                              &error_),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_NE(std::string(error_.message).find("count is"), std::string::npos)
      << error_.message;
  EXPECT_EQ(agentmem_kv_load(engine.kv(), &key, kCount, &page, kStream, 0,
                             &transfer, &error_),
            AGENTMEM_INVALID_ARGUMENT);
}

TEST_F(KvTest, AHandleThatIsNullIsNamed) {
  EXPECT_EQ(agentmem_kv_wait(nullptr, 0, &error_), AGENTMEM_INVALID_ARGUMENT);
  EXPECT_STREQ(error_.message, "transfer is NULL");
  EXPECT_EQ(agentmem_device_allocate(nullptr, 1, nullptr, &error_),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_STREQ(error_.message, "device is NULL");
}

}  // namespace
}  // namespace agentmem
