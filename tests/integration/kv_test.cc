// KV blocks between an engine's pages and a real memd, on the host device:
// every tier, memory that memd takes back, and deaths in the midst.
#include "agentmem/kv.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <memory>
#include <random>

#include "tests/integration/memd_process.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kLongNs = 30'000'000'000;
constexpr std::uint64_t kStream = 77;

// 8 layers, K and V, pages of 16 tokens of 4 heads of 64 bfloat16: a page has
// 128 KiB of all layers, and a block two pages.
constexpr std::uint32_t kLayers = 8;
constexpr std::uint32_t kPageTokens = 16;
constexpr std::uint32_t kHeads = 4;
constexpr std::uint32_t kHeadBytes = 128;
constexpr std::uint32_t kBlockPages = 2;

enum class Order { kTokensFirst, kHeadsFirst };

// An engine's cache. On the host device an address is a pointer.
class Engine {
 public:
  Engine(agentmem_device* device, Order order, std::uint32_t pages)
      : device_(device), pages_(pages) {
    layout_.size = sizeof(layout_);
    layout_.layers = kLayers;
    layout_.planes = 2;
    layout_.page_tokens = kPageTokens;
    layout_.heads = kHeads;
    layout_.head_size = kHeadBytes / 2;
    layout_.type = AGENTMEM_KV_BFLOAT16;
    const bool tokens = order == Order::kTokensFirst;
    layout_.token_stride = tokens ? kHeads * kHeadBytes : kHeadBytes;
    layout_.head_stride = tokens ? kHeadBytes : kPageTokens * kHeadBytes;
    layout_.page_stride = kPageTokens * kHeads * kHeadBytes;
    layout_.plane_stride = layout_.page_stride * pages;
    std::vector<std::uint64_t> layers;
    for (std::uint32_t i = 0; i < kLayers; ++i) {
      std::uint64_t address = 0;
      EXPECT_EQ(agentmem_device_allocate(device, 2 * layout_.plane_stride,
                                         &address, nullptr),
                AGENTMEM_OK);
      layers.push_back(address);
    }
    addresses_ = layers;
    agentmem_error error = {};
    EXPECT_EQ(agentmem_kv_open(device, &layout_, layers.data(), nullptr, pages,
                               kBlockPages * kPageTokens, &kv_, &error),
              AGENTMEM_OK)
        << error.message;
  }
  ~Engine() {
    agentmem_kv_close(kv_);
    for (const std::uint64_t address : addresses_) {
      agentmem_device_free(device_, address);
    }
  }

  agentmem_kv* kv() const { return kv_; }
  // What every head of page `page` holds of block `number` is computed anew.
  void Fill(std::uint32_t page, std::uint32_t number, std::uint32_t half) {
    Each(page, [&](char* at, std::uint64_t place) {
      FillHead(at, number, half, place);
    });
  }
  // Has it block `number` in the pages from `first` on, but for what FP8 may
  // have changed (docs/kv.md)? `changed` counts the elements that differ.
  bool HasAbout(std::uint32_t first, std::uint32_t number, int* changed) {
    std::map<std::uint64_t, float> largest;  // of a head of a plane of a layer
    const auto row_of = [](std::uint64_t place) {
      return place / (kPageTokens * kHeads) * kHeads + place % kHeads;
    };
    bool is_near = true;
    for (const bool is_measuring : {true, false}) {
      for (std::uint32_t half = 0; half < kBlockPages; ++half) {
        Each(first + half, [&](const char* at, std::uint64_t place) {
          char stored[kHeadBytes];
          FillHead(stored, number, half, place);
          for (std::uint32_t i = 0; i < kHeadBytes; i += 2) {
            const float was = Bfloat16(stored + i);
            float& most = largest[row_of(place)];
            if (is_measuring) {
              most = std::max(most, std::fabs(was));
              continue;
            }
            const float error = std::fabs(was - Bfloat16(at + i));
            const float code =
                std::max(std::fabs(was) / 16, most / 448 / 1024) *
                (1 + 0x1p-20F);
            const float bound = code + (std::fabs(was) + code) / 256;
            is_near = is_near && error <= bound;
            *changed += error > 0;
          }
        });
      }
    }
    return is_near;
  }
  bool Has(std::uint32_t page, std::uint32_t number, std::uint32_t half) {
    bool same = true;
    Each(page, [&](const char* at, std::uint64_t place) {
      char expected[kHeadBytes];
      FillHead(expected, number, half, place);
      same = same && std::memcmp(at, expected, kHeadBytes) == 0;
    });
    return same;
  }

 private:
  static float Bfloat16(const char* at) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, at, sizeof(bits));
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  static void FillHead(char* at, std::uint32_t number, std::uint32_t half,
                       std::uint64_t place) {
    std::mt19937_64 random((static_cast<std::uint64_t>(number) << 32) ^
                           (half << 30) ^ place);
    for (std::uint32_t i = 0; i < kHeadBytes; i += 8) {
      // Any signs and mantissas, of magnitudes from 2^-7 to 2.
      const std::uint64_t word =
          (random() & 0x83ff83ff83ff83ff) | 0x3c003c003c003c00;
      std::memcpy(at + i, &word, 8);
    }
  }
  template <typename Visit>
  void Each(std::uint32_t page, Visit visit) {
    std::uint64_t place = 0;
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      for (std::uint32_t plane = 0; plane < 2; ++plane) {
        for (std::uint32_t token = 0; token < kPageTokens; ++token) {
          for (std::uint32_t head = 0; head < kHeads; ++head) {
            char* const base = reinterpret_cast<char*>(addresses_[layer]);
            visit(base + plane * layout_.plane_stride +
                      page * layout_.page_stride +
                      token * layout_.token_stride + head * layout_.head_stride,
                  place++);
          }
        }
      }
    }
  }

  agentmem_device* const device_;
  const std::uint32_t pages_;
  agentmem_kv_layout layout_ = {};
  std::vector<std::uint64_t> addresses_;
  agentmem_kv* kv_ = nullptr;
};

class KvTest : public testing::Test {
 protected:
  void SetUp() override {
    client_ = memd_.Connect();
    Open(client_);
  }
  void TearDown() override {
    agentmem_device_close(device_);
    agentmem_close(client_);
    EXPECT_EQ(memd_.Stop(), 0);
  }
  void Open(agentmem_client* client) {
    agentmem_device_options options = {};
    options.size = sizeof(options);
    options.kind = AGENTMEM_DEVICE_HOST;
    ASSERT_EQ(agentmem_device_open(client, &options, &device_, &error_),
              AGENTMEM_OK)
        << error_.message;
  }
  // Blocks [first, first + count), in pages 0, 1, ...
  agentmem_code Store(Engine* from, std::uint32_t first, std::uint32_t count,
                      agentmem_kv_transfer** transfer) {
    const auto [keys, pages] = Blocks(first, count);
    for (std::uint32_t i = 0; i < pages.size(); ++i) {
      from->Fill(i, first + i / kBlockPages, i % kBlockPages);
    }
    error_ = {};
    return agentmem_kv_store(from->kv(), keys.data(), count, pages.data(),
                             kStream, AGENTMEM_STATE, AGENTMEM_VISIBLE, kLongNs,
                             transfer, &error_);
  }
  agentmem_code Load(Engine* to, std::uint32_t first, std::uint32_t count,
                     agentmem_kv_transfer** transfer) {
    const auto [keys, pages] = Blocks(first, count);
    error_ = {};
    return agentmem_kv_load(to->kv(), keys.data(), count, pages.data(), kStream,
                            kLongNs, transfer, &error_);
  }
  void StoreAll(Engine* from, std::uint32_t first, std::uint32_t count) {
    agentmem_kv_transfer* transfer = nullptr;
    ASSERT_EQ(Store(from, first, count, &transfer), AGENTMEM_OK)
        << error_.message;
    EXPECT_EQ(agentmem_kv_wait(transfer, kLongNs, &error_), AGENTMEM_OK)
        << error_.message;
    agentmem_kv_close_transfer(transfer);
  }
  void LoadAndCheck(Engine* to, std::uint32_t first, std::uint32_t count) {
    agentmem_kv_transfer* transfer = nullptr;
    ASSERT_EQ(Load(to, first, count, &transfer), AGENTMEM_OK) << error_.message;
    ASSERT_EQ(agentmem_kv_wait_layer(transfer, kLayers - 1, kStream, &error_),
              AGENTMEM_OK);
    ASSERT_EQ(agentmem_kv_wait(transfer, kLongNs, &error_), AGENTMEM_OK)
        << error_.message;
    agentmem_kv_close_transfer(transfer);
    for (std::uint32_t page = 0; page < count * kBlockPages; ++page) {
      ASSERT_TRUE(to->Has(page, first + page / kBlockPages, page % kBlockPages))
          << "block " << first + page / kBlockPages;
    }
  }

  static std::pair<std::vector<agentmem_key>, std::vector<std::uint32_t>>
  Blocks(std::uint32_t first, std::uint32_t count) {
    std::vector<agentmem_key> keys;
    std::vector<std::uint32_t> pages;
    for (std::uint32_t i = 0; i < count; ++i) {
      keys.push_back(KeyOf(first + i));
      for (std::uint32_t page = 0; page < kBlockPages; ++page) {
        pages.push_back(i * kBlockPages + page);
      }
    }
    return {keys, pages};
  }

  // Until memd has taken what was posted before.
  std::uint64_t RegisteredBytes() {
    agentmem_span span;
    const agentmem_key nowhere = KeyOf(1'000'000);
    EXPECT_EQ(agentmem_get(client_, &nowhere, 1, kLongNs, &span, nullptr),
              AGENTMEM_NOT_FOUND);
    return memd_.Memctl("tenants")["tenants"][0]["registered_bytes"];
  }

  MemdProcess memd_{"32MiB"};
  agentmem_client* client_ = nullptr;
  agentmem_device* device_ = nullptr;
  agentmem_error error_ = {};
};

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
      if (Store(&from, 500, 32, &transfer) != AGENTMEM_OK) return 1;
      char one = 1;
      if (::write(say, &one, 1) != 1) return 2;
      ::pause();
      return 3;
    });
    EXPECT_EQ(child.Hear(), 1);
    child.Kill();
    child.Wait();
  }
  // All of the room is there for this one.
  Engine from(device_, Order::kTokensFirst, 96);
  Engine to(device_, Order::kHeadsFirst, 96);
  StoreAll(&from, 1000, 48);
  LoadAndCheck(&to, 1000, 48);
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
