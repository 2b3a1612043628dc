// What tests of KV transfers share: a client of a fake memd, a host device with
// two engines' caches on it, and a model that finds an element by its strides.
//
// Ownership: owns all of it. Threads: one. Errors: an EXPECT. Cost: two
// threads.
#ifndef AGENTMEM_TESTS_UNIT_CLIENT_KV_TEST_BASE_H_
#define AGENTMEM_TESTS_UNIT_CLIENT_KV_TEST_BASE_H_

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "client/client.h"
#include "client/device_memory.h"
#include "client/kv_transfer.h"
#include "cuda/host_device.h"
#include "cuda/kv_layout.h"
#include "tests/unit/client/client_test_base.h"

namespace agentmem {

// What memd would know of extents.
class BookedHolds final : public client::ExtentHolds {
 public:
  Outcome Hold(client::Session*, std::uint64_t data_offset,
               std::uint64_t extents, const client::Deadline&) override {
    ++asked;
    before_hold();
    if (!refusal.ok()) return refusal;
    const std::uint64_t end = data_offset + extents * kExtentBytes;
    for (const std::uint64_t offset : given_away) {
      if (offset >= data_offset && offset < end) {
        return Fail(Code::kFailedPrecondition, "it is given away");
      }
    }
    for (std::uint64_t at = data_offset; at < end; at += kExtentBytes) {
      EXPECT_TRUE(held.insert(at).second) << "held already";
    }
    return {};
  }
  void Release(client::Session*, std::uint64_t data_offset) override {
    EXPECT_EQ(held.erase(data_offset), 1u) << "not held";
  }
  void AnswerRetire(client::Session*, std::uint64_t token) override {
    answered.push_back(token);
  }

  std::set<std::uint64_t> held;  // offsets
  std::vector<std::uint64_t> answered;
  std::set<std::uint64_t> given_away;  // offsets
  int asked = 0;                       // for holds
  std::function<void()> before_hold = [] {};
  Outcome refusal;
};

// A host device that calls back: before it takes memory or lets go of it, which
// it does not unless the answer is OK, and before copies are posted.
class WatchedDevice final : public Device {
 public:
  explicit WatchedDevice(Device* device) : device_(device) {}

  std::function<Outcome()> before_begin = [] { return Outcome(); };
  std::function<Outcome()> before_end = [] { return Outcome(); };
  std::function<void()> before_copy = [] {};

  Outcome Register(std::span<char> host, Registration what) override {
    const bool is_begin = what == Registration::kBegin;
    if (Outcome outcome = is_begin ? before_begin() : before_end();
        !outcome.ok()) {
      return outcome;
    }
    return device_->Register(host, what);
  }
  Outcome Allocate(std::uint64_t bytes, DeviceAddress* memory) override {
    return device_->Allocate(bytes, memory);
  }
  void Free(DeviceAddress memory) override { device_->Free(memory); }
  Outcome Copy(const CopyBatch& batch, Stream stream) override {
    before_copy();
    return device_->Copy(batch, stream);
  }
  Outcome Record(Stream stream, Event* event) override {
    return device_->Record(stream, event);
  }
  EventState Query(Event event, Outcome* why) override {
    return device_->Query(event, why);
  }
  Outcome Wait(Stream stream, Event event) override {
    return device_->Wait(stream, event);
  }
  const DeviceProperties& properties() const override {
    return device_->properties();
  }

 private:
  Device* const device_;
};

// An engine's cache in the host device's memory.
class EngineCache {
 public:
  EngineCache(HostDevice* device, const KvLayout& layout, std::uint64_t pages,
              std::uint32_t block_tokens);
  ~EngineCache() { device_->Free(memory_); }

  std::shared_ptr<const client::KvCache> cache() const { return cache_; }
  const KvLayout& layout() const { return cache_->layout; }
  // The bytes of an element, by the strides.
  char* At(std::uint32_t layer, std::uint32_t plane, std::uint32_t page,
           std::uint32_t token, std::uint32_t head) const;
  void Fill(std::mt19937_64* random);
  // Its blocks are FP8 from here on.
  void Compress();
  void Poison();
  // Has `page`, in this layer, the elements that `other`'s page has?
  bool SamePage(std::uint32_t layer, std::uint32_t page,
                const EngineCache& other, std::uint32_t others_page) const;
  bool IsPoison(std::uint32_t layer, std::uint32_t page) const;

 private:
  HostDevice* const device_;
  std::uint64_t bytes_ = 0;
  DeviceAddress memory_;
  std::shared_ptr<client::KvCache> cache_;
};

class KvTest : public ClientTest {
 protected:
  static constexpr std::uint32_t kLayers = 3;
  static constexpr std::uint32_t kPageTokens = 4;
  static constexpr std::uint32_t kHeads = 2;
  static constexpr std::uint32_t kHeadSize = 16;
  static constexpr std::uint64_t kPages = 12;
  static constexpr std::uint32_t kBlockPages = 2;

  void SetUp() override;
  void TearDown() override;
  client::KvParts parts();
  client::Deadline Long() { return client::Deadline::After(kLongNs); }

  static KvLayout Flash() {
    return KvLayout::VllmFlash(kLayers, kPages, kPageTokens, kHeads, kHeadSize,
                               KvType::kBfloat16);
  }
  static KvLayout HeadsFirst() {
    return KvLayout::VllmFlashInfer(kLayers, kPageTokens, kHeads, kHeadSize,
                                    KvType::kBfloat16, KvOrder::kHeadsFirst);
  }
  // Keys 1 .. count, in these pages.
  client::KvBlocks Blocks(std::size_t count,
                          const std::vector<std::uint32_t>& pages);
  std::unique_ptr<client::KvStore> NewStore();
  std::unique_ptr<client::KvLoad> NewLoad();
  // Stores blocks 1 and 2 of `from_` out of pages 7, 0 and 3, 11.
  void StoreTwo();
  // memd has published it.
  void AwaitResident(const Key& key) {
    agentmem_span span;
    const agentmem_key of = {key.group,
                             {key.name[0], key.name[1], key.name[2]}};
    EXPECT_EQ(Get(of, &span), AGENTMEM_OK);
    agentmem_release(client_, &span, 1);
  }
  // Of a device that is held: step by step, until what is posted to `stream`
  // now has passed, and no further.
  void StepTo(Stream stream);
  // When memd has taken all that was posted.
  std::uint64_t Holds();

  HostDevice device_{HostDevice::Options()};
  BookedHolds holds_;
  Crossovers crossovers_;
  std::unique_ptr<client::DeviceMemory> memory_;
  std::mt19937_64 random_{1};
  std::unique_ptr<EngineCache> from_;
  std::unique_ptr<EngineCache> to_;
  const Stream engine_ = Stream::Of(77);
  std::vector<Key> keys_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_CLIENT_KV_TEST_BASE_H_
