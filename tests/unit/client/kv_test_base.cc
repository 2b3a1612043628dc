#include "tests/unit/client/kv_test_base.h"

#include <algorithm>
#include <cstring>

#include "client/kv_fp8.h"

namespace agentmem {

EngineCache::EngineCache(HostDevice* device, const KvLayout& layout,
                         std::uint64_t pages, std::uint32_t block_tokens)
    : device_(device), cache_(std::make_shared<client::KvCache>()) {
  // Generous: each layer has a range of its own, as large as any stride needs.
  const std::uint64_t layer_bytes =
      layout.planes * layout.plane_stride + pages * layout.page_stride;
  bytes_ = layer_bytes * layout.layers;
  EXPECT_TRUE(device->Allocate(bytes_, &memory_).ok());
  cache_->layout = layout;
  for (std::uint32_t i = 0; i < layout.layers; ++i) {
    cache_->layers.push_back(memory_ + i * layer_bytes);
  }
  cache_->pages = pages;
  cache_->block_pages = block_tokens / layout.page_tokens;
  cache_->block_bytes = layout.BlockBytes(block_tokens);
  const Outcome checked = CheckView(cache_->view());
  EXPECT_TRUE(checked.ok()) << checked.message;
}

char* EngineCache::At(std::uint32_t layer, std::uint32_t plane,
                      std::uint32_t page, std::uint32_t token,
                      std::uint32_t head) const {
  const KvLayout& l = cache_->layout;
  return HostDevice::Bytes(cache_->layers[layer]) + plane * l.plane_stride +
         page * l.page_stride + token * l.token_stride + head * l.head_stride;
}

void EngineCache::Fill(std::mt19937_64* random) {
  char* const bytes = HostDevice::Bytes(memory_);
  std::generate(bytes, bytes + bytes_,
                [random] { return static_cast<char>((*random)()); });
}

void EngineCache::Poison() {
  std::memset(HostDevice::Bytes(memory_), HostDevice::kPoison, bytes_);
}

void EngineCache::Compress() {
  auto compressed = std::make_shared<client::KvCache>();
  const Outcome outcome =
      client::Compress(device_->properties(), *cache_, compressed.get());
  EXPECT_TRUE(outcome.ok()) << outcome.message;
  cache_ = compressed;
}

bool EngineCache::SamePage(std::uint32_t layer, std::uint32_t page,
                           const EngineCache& other,
                           std::uint32_t others_page) const {
  const KvLayout& l = cache_->layout;
  const std::size_t head_bytes = l.head_size * BytesOf(l.type);
  for (std::uint32_t plane = 0; plane < l.planes; ++plane) {
    for (std::uint32_t token = 0; token < l.page_tokens; ++token) {
      for (std::uint32_t head = 0; head < l.heads; ++head) {
        if (std::memcmp(At(layer, plane, page, token, head),
                        other.At(layer, plane, others_page, token, head),
                        head_bytes) != 0) {
          return false;
        }
      }
    }
  }
  return true;
}

bool EngineCache::IsPoison(std::uint32_t layer, std::uint32_t page) const {
  const KvLayout& l = cache_->layout;
  const std::string poison(l.head_size * BytesOf(l.type), HostDevice::kPoison);
  for (std::uint32_t plane = 0; plane < l.planes; ++plane) {
    for (std::uint32_t token = 0; token < l.page_tokens; ++token) {
      for (std::uint32_t head = 0; head < l.heads; ++head) {
        if (std::memcmp(At(layer, plane, page, token, head), poison.data(),
                        poison.size()) != 0) {
          return false;
        }
      }
    }
  }
  return true;
}

void KvTest::SetUp() {
  ClientTest::SetUp();
  StartAndConnect();
  memory_ = std::make_unique<client::DeviceMemory>(&device_, &holds_);
  const std::uint32_t tokens = kBlockPages * kPageTokens;
  from_ = std::make_unique<EngineCache>(&device_, Flash(), kPages, tokens);
  to_ = std::make_unique<EngineCache>(&device_, HeadsFirst(), kPages, tokens);
  from_->Fill(&random_);
}

void KvTest::TearDown() {
  // What was held is given back, whatever happened.
  memory_.reset();
  EXPECT_EQ(holds_.held, std::set<std::uint64_t>());
  EXPECT_EQ(device_.counts().registered_bytes, 0u);
  EXPECT_EQ(device_.counts().events_pending, 0u);
  EXPECT_EQ(device_.broken_rules(), 0u) << device_.first_broken_rule();
  if (memd_ != nullptr) {
    EXPECT_EQ(Holds(), 0u);
    EXPECT_EQ(memd_->Pins(), 0);
    EXPECT_EQ(memd_->GrantsIn(GrantState::kWriting), 0);
  }
  ClientTest::TearDown();
  from_.reset();
  to_.reset();
}

void KvTest::StepTo(Stream stream) {
  Event event;
  ASSERT_TRUE(device_.Record(stream, &event).ok());
  int steps = 0;
  while (device_.Query(event, nullptr) == EventState::kPending) {
    ASSERT_EQ(device_.Step(1), 1u);
    ASSERT_LT(++steps, 10'000);
  }
}

client::KvParts KvTest::parts() {
  client::KvParts parts;
  parts.device = &device_;
  parts.crossovers = &crossovers_;
  parts.memory = memory_.get();
  parts.reader = &client_->reader();
  parts.writer = &client_->writer();
  return parts;
}

client::KvBlocks KvTest::Blocks(std::size_t count,
                                const std::vector<std::uint32_t>& pages) {
  EXPECT_EQ(pages.size(), count * kBlockPages);
  keys_.clear();
  for (std::uint32_t i = 1; i <= count; ++i) keys_.push_back(AsKey(TestKey(i)));
  return {keys_, pages};
}

std::unique_ptr<client::KvStore> KvTest::NewStore() {
  return std::make_unique<client::KvStore>(parts(), from_->cache(),
                                           BlockClass::kCache, Ack::kVisible);
}

std::unique_ptr<client::KvLoad> KvTest::NewLoad() {
  return std::make_unique<client::KvLoad>(parts(), to_->cache());
}

std::uint64_t KvTest::Holds() {
  agentmem_span span;
  EXPECT_EQ(Get(TestKey(99'999), &span), AGENTMEM_NOT_FOUND);
  return memd_->holds();
}

void KvTest::StoreTwo() {
  const std::vector<std::uint32_t> pages = {7, 0, 3, 11};
  const auto store = NewStore();
  Outcome outcome = store->Post(Blocks(2, pages), engine_, Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  outcome = store->Wait(Long());
  ASSERT_TRUE(outcome.ok()) << outcome.message;
}

}  // namespace agentmem
