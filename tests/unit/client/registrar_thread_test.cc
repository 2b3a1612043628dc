// Loads, the registrar's thread, and a memd that wants its memory back all the
// time: every byte is compared, and every wish is answered.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "client/extent_holds.h"
#include "client/registrar.h"
#include "tests/unit/client/kv_test_base.h"

namespace agentmem {
namespace {

constexpr std::uint32_t kExtents = 16;
constexpr std::uint32_t kAtOnce = 3;  // blocks of a load
constexpr int kLoads = 200;
constexpr int kLoaders = 2;

TEST_F(KvTest, LoadsAndWishesOfMemdBesideTheRegistrar) {
  // A block in each extent; its bytes are those of one of from_'s.
  std::vector<std::uint32_t> pages(kPages);
  for (std::uint32_t page = 0; page < kPages; ++page) pages[page] = page;
  constexpr std::uint32_t kStored = kPages / kBlockPages;
  {
    const auto store = NewStore();
    ASSERT_TRUE(store->Post(Blocks(kStored, pages), engine_, Long()).ok());
    ASSERT_TRUE(store->Wait(Long()).ok());
  }
  client::Session* const session = client_->channel().Acquire();
  for (std::uint32_t extent = 0; extent < kExtents; ++extent) {
    const Key& like = keys_[extent % kStored];
    AwaitResident(like);
    const std::string bytes = memd_->BytesOf(like);
    const std::uint64_t offset = extent * kExtentBytes + kExtentBytes / 2;
    std::memcpy(session->data() + offset, bytes.data(), bytes.size());
    memd_->AddResidentAt(AsKey(TestKey(100 + extent)), offset,
                         static_cast<std::uint32_t>(bytes.size()));
  }
  session->Unref();

  memory_->ReleaseAll();  // the same device is another memory's from here on
  client::ChannelExtentHolds holds(&client_->channel());
  client::DeviceMemory memory(&device_, &holds);
  holds.Serve(&memory);
  client::KvParts of = parts();
  of.memory = &memory;
  client::Registrar registrar(&client_->channel(), &memory);
  ASSERT_TRUE(registrar.Start().ok());
  std::atomic<int> wrong = 0;
  std::atomic<int> done = 0;
  const auto run = [&](int number) {
    std::mt19937_64 random(static_cast<std::uint64_t>(number));
    EngineCache to(&device_, HeadsFirst(), kPages, kBlockPages * kPageTokens);
    for (int i = 0; i < kLoads; ++i) {
      std::vector<Key> keys;
      std::vector<std::uint32_t> extents;
      std::vector<std::uint32_t> into;
      for (std::uint32_t block = 0; block < kAtOnce; ++block) {
        extents.push_back(static_cast<std::uint32_t>(random() % kExtents));
        keys.push_back(AsKey(TestKey(100 + extents.back())));
        into.push_back(2 * block);
        into.push_back(2 * block + 1);
      }
      to.Poison();
      client::KvLoad load(of, to.cache());
      const Outcome posted =
          load.Post({keys, into}, Stream::Of(100 + number), Long());
      const Outcome outcome = load.Wait(Long());
      if (!posted.ok() || !outcome.ok()) {
        ADD_FAILURE() << posted.message << outcome.message;
        break;
      }
      for (std::uint32_t page = 0; page < into.size(); ++page) {
        const std::uint32_t block = extents[page / kBlockPages] % kStored;
        for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
          const bool is_same = to.SamePage(
              layer, page, *from_, block * kBlockPages + page % kBlockPages);
          if (!is_same) ++wrong;
        }
      }
    }
    ++done;
  };
  std::vector<std::thread> loaders;
  for (int i = 0; i < kLoaders; ++i) loaders.emplace_back(run, i);
  for (int i = 1; done != kLoaders; ++i) {
    memd_->Retire(random_() % kExtents * kExtentBytes,
                  static_cast<std::uint64_t>(i));
    memd_->AwaitCount(Op::kExtentReleased, i);
  }
  for (std::thread& loader : loaders) loader.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace agentmem
