// What tests of KV blocks against a real memd share: an engine's cache on the
// host device, whose every byte follows from block and place, and stores and
// loads of such blocks.
//
// Ownership: owns memd, client and device. Threads: one. Errors: an EXPECT.
// Cost: a memd.
#ifndef AGENTMEM_TESTS_INTEGRATION_KV_ENGINE_H_
#define AGENTMEM_TESTS_INTEGRATION_KV_ENGINE_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "agentmem/kv.h"
#include "tests/integration/memd_process.h"

namespace agentmem {

inline constexpr std::uint64_t kLongNs = 30'000'000'000;
inline constexpr std::uint64_t kStream = 77;

// 8 layers, K and V, pages of 16 tokens of 4 heads of 64 bfloat16: a page has
// 128 KiB of all layers, and a block two pages.
inline constexpr std::uint32_t kLayers = 8;
inline constexpr std::uint32_t kPageTokens = 16;
inline constexpr std::uint32_t kHeads = 4;
inline constexpr std::uint32_t kHeadBytes = 128;
inline constexpr std::uint32_t kBlockPages = 2;

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
  void Poison() {
    for (const std::uint64_t address : addresses_) {
      std::memset(reinterpret_cast<char*>(address), 0x5a,
                  2 * layout_.plane_stride);
    }
  }
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
  explicit KvTest(const std::string& dram = "32MiB",
                  const std::string& more = "")
      : memd_(dram, more) {}

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

  MemdProcess memd_;
  agentmem_client* client_ = nullptr;
  agentmem_device* device_ = nullptr;
  agentmem_error error_ = {};
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_INTEGRATION_KV_ENGINE_H_
