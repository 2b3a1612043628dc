// Many threads get and release while a writer reuses slots as memd does:
// unpublish, look at all pins, and only then write other bytes.
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/client/client_test_base.h"

namespace agentmem {
namespace {

class PinThreadTest : public ClientTest {
 protected:
  static constexpr std::uint32_t kKeys = 8;
  static constexpr std::size_t kBytes = 16384;
  static constexpr int kRounds = 5000;

  // All bytes of a block are equal, whatever its version.
  static bool Uniform(const agentmem_span& span) {
    const auto* bytes = static_cast<const char*>(span.data);
    return span.length == kBytes &&
           std::memcmp(bytes, bytes + 1, kBytes - 1) == 0;
  }

  // Gets and checks until `stop`; counts hits and torn reads.
  void Read(std::uint32_t first, const std::atomic<bool>& stop) {
    for (std::uint32_t i = first; !stop.load(); ++i) {
      const agentmem_key key = TestKey(i % kKeys);
      agentmem_span span;
      agentmem_error error;
      if (agentmem_get(client_, &key, 1, 0, &span, &error) != AGENTMEM_OK) {
        continue;
      }
      hits_.fetch_add(1);
      if (!Uniform(span)) torn_.fetch_add(1);
      agentmem_release(client_, &span, 1);
    }
  }

  std::atomic<int> hits_ = 0;
  std::atomic<int> torn_ = 0;
};

TEST_F(PinThreadTest, ASlotInUseIsNeverOverwritten) {
  StartAndConnect();
  for (std::uint32_t i = 0; i < kKeys; ++i) {
    memd_->AddResident(AsKey(TestKey(i)), std::string(kBytes, 'a'));
  }
  std::atomic<bool> stop = false;
  std::vector<std::thread> readers;
  for (std::uint32_t i = 0; i < 3; ++i) {
    readers.emplace_back([this, i, &stop] { Read(i, stop); });
  }
  int rewritten = 0;
  for (int round = 0; round < kRounds || hits_.load() < kRounds; ++round) {
    const char fill = static_cast<char>('a' + round % 26);
    rewritten += memd_->Rewrite(AsKey(TestKey(round % kKeys)), fill);
  }
  stop.store(true);
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(torn_.load(), 0);
  EXPECT_GT(hits_.load(), 0);
  EXPECT_GT(rewritten, 0);
  EXPECT_EQ(memd_->Pins(), 0);
}

TEST_F(PinThreadTest, ThreadsThatPutAndGetAtOnceReadTheirOwnBytes) {
  FakeMemd::Options options;
  options.slots = 2000;
  Start(options);
  ASSERT_EQ(Connect(), AGENTMEM_OK);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([this, t, &wrong] {
      for (std::uint32_t i = 0; i < 200; ++i) {
        const agentmem_key key = TestKey(t * 1000 + i);
        const std::string bytes(100 + i, static_cast<char>('a' + t));
        agentmem_error error;
        agentmem_put_id put = 0;
        wrong += agentmem_put(client_, &key, bytes.data(), bytes.size(),
                              AGENTMEM_CACHE, AGENTMEM_VISIBLE, kLongNs, &put,
                              &error) != AGENTMEM_OK;
        agentmem_span span;
        wrong += agentmem_get(client_, &key, 1, kLongNs, &span, &error) !=
                 AGENTMEM_OK;
        wrong += TextOf(span) != bytes;
        agentmem_release(client_, &span, 1);
        wrong +=
            agentmem_put_wait(client_, put, kLongNs, &error) != AGENTMEM_OK;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(memd_->Pins(), 0);
}

TEST_F(PinThreadTest, ManyThreadsReconnectOnce) {
  StartAndConnect();
  Kill();
  std::vector<std::thread> threads;
  std::atomic<int> found = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, &found] {
      const agentmem_key key = TestKey(1);
      agentmem_span span;
      agentmem_error error;
      agentmem_code code = AGENTMEM_NOT_FOUND;
      // Until the block is in the new memd.
      while (code == AGENTMEM_NOT_FOUND) {
        code = agentmem_get(client_, &key, 1, kLongNs, &span, &error);
      }
      found += code == AGENTMEM_OK && TextOf(span) == "there";
      agentmem_release(client_, &span, 1);
    });
  }
  Start();
  memd_->AddResident(AsKey(TestKey(1)), "there");
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(found.load(), 4);
  EXPECT_EQ(memd_->connections(), 1);
}

}  // namespace
}  // namespace agentmem
