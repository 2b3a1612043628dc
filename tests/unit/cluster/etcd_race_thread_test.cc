#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "memd/cluster/cluster_keys.h"
#include "memd/cluster/etcd_ref_store.h"
#include "memd/cluster/etcd_watch.h"
#include "memd/cluster/wake_event.h"
#include "memd/store/record_codec.h"
#include "tests/unit/cluster/etcd_process.h"

namespace agentmem {
namespace {

constexpr const char* kHead = "head";

// One node's way to the refs: a client and a store of its own.
struct Node {
  explicit Node(const EtcdProcess& etcd, DurationNs timeout_ns)
      : client(EtcdClient::Make(etcd.options()).value()),
        refs(EtcdRefStore::Make(client.get(),
                                {.cluster = "test", .timeout_ns = timeout_ns})
                 .value()) {}

  const std::unique_ptr<EtcdClient> client;
  const std::unique_ptr<EtcdRefStore> refs;
};

// What a writer tried; its values are its own.
struct Attempt {
  std::uint64_t version = 0;
  std::string value;
  absl::StatusCode code = absl::StatusCode::kOk;
};

// All that a ref ever was, from etcd's history.
std::vector<Ref> HistoryOf(EtcdClient* client) {
  std::vector<Ref> history;
  const std::string key = RefsPrefix("test") + kHead;
  const auto now = client->Range({key}, Patience());
  const auto watch =
      EtcdWatch::Open(client->channels(), key, 1, Patience()).value();
  std::int64_t revision = 0;
  while (revision < now->values.at(0).mod_revision) {
    const auto events = watch->Next(Patience());
    if (!events.ok() || events->empty()) {
      ADD_FAILURE() << "the history ends at revision " << revision;
      return history;
    }
    for (const EtcdEvent& event : *events) {
      history.push_back(DecodeRef(kHead, event.value.value).value());
      revision = event.value.mod_revision;
    }
  }
  return history;
}

class EtcdRaceTest : public EtcdTest {
 protected:
  // Until the ref has gone so far, or for too long.
  void WaitForVersion(std::uint64_t version) {
    const TimeNs deadline = Patience();
    while (newest_ < version && MonotonicNowNs() < deadline) {
      progress_.Wait(deadline);
    }
    ASSERT_GE(newest_, version);
  }
  void NoteVersion(std::uint64_t version) {
    std::uint64_t before = newest_;
    while (before < version &&
           !newest_.compare_exchange_weak(before, version)) {
    }
    progress_.Signal();
  }

  std::atomic<std::uint64_t> newest_ = 0;
  WakeEvent progress_;
};

// Changes the ref to `last`, against others.
void Race(Node* node, const std::string& name, std::uint64_t last,
          const std::function<void(std::uint64_t)>& note,
          std::vector<Attempt>* attempts) {
  const TimeNs deadline = Patience();
  while (MonotonicNowNs() < deadline) {
    const auto ref = node->refs->Read(kHead);
    if (!ref.ok()) continue;  // etcd is away
    if (ref->version >= last) return;
    const std::string value = name + std::to_string(attempts->size());
    const auto made =
        node->refs->CompareAndSwap(kHead, ref->version, Fence(), value);
    attempts->push_back({ref->version + 1, value, made.status().code()});
    if (made.ok()) note(*made);
  }
}

TEST_F(EtcdRaceTest, OfTwoNodesThatRaceOneWinsEachVersionAlsoWhenEtcdDies) {
  constexpr std::uint64_t kVersions = 1000;
  Node a(*etcd_, kSecondNs / 2), b(*etcd_, kSecondNs / 2);
  std::vector<Attempt> attempts_a, attempts_b;
  const auto note = [this](std::uint64_t version) { NoteVersion(version); };
  std::thread thread_a([&] { Race(&a, "a", kVersions, note, &attempts_a); });
  std::thread thread_b([&] { Race(&b, "b", kVersions, note, &attempts_b); });
  WaitForVersion(300);
  etcd_->Kill();
  etcd_->Start();
  WaitForVersion(500);
  etcd_->Stop();
  EXPECT_EQ(client()
                .Range({"none"}, MonotonicNowNs() + kSecondNs / 10)
                .status()
                .code(),
            absl::StatusCode::kUnavailable);
  etcd_->Continue();
  WaitForVersion(700);
  etcd_->Kill();
  etcd_->Start();
  thread_a.join();
  thread_b.join();

  const std::vector<Ref> history = HistoryOf(client_.get());
  ASSERT_EQ(history.size(), kVersions);
  std::map<std::string, std::uint64_t> version_of;
  for (std::size_t i = 0; i < history.size(); ++i) {
    EXPECT_EQ(history[i].version, i + 1);
    EXPECT_TRUE(version_of.emplace(history[i].value, i + 1).second);
  }
  int won = 0, lost = 0, open = 0;
  for (const auto* attempts : {&attempts_a, &attempts_b}) {
    for (const Attempt& attempt : *attempts) {
      const auto made = version_of.find(attempt.value);
      if (made != version_of.end()) {
        EXPECT_EQ(made->second, attempt.version);
      }
      if (attempt.code == absl::StatusCode::kOk) {
        ++won;
        EXPECT_NE(made, version_of.end()) << attempt.value;
      } else if (attempt.code == absl::StatusCode::kAborted) {
        ++lost;
        EXPECT_EQ(made, version_of.end()) << attempt.value;
      } else {
        ++open;
        EXPECT_EQ(attempt.code, absl::StatusCode::kUnavailable);
      }
    }
  }
  RecordProperty("won", won);
  RecordProperty("lost", lost);
  RecordProperty("open", open);
  EXPECT_GT(lost, 0);
  EXPECT_LE(static_cast<std::uint64_t>(won), kVersions);
  EXPECT_GE(static_cast<std::uint64_t>(won + open), kVersions);
}

TEST_F(EtcdRaceTest, AWriterThatWasFencedOffIsAbortedAlwaysAndEverywhere) {
  constexpr std::uint64_t kTakeOvers = 40;
  std::vector<std::thread> writers;
  std::vector<Attempt> attempts[kTakeOvers];
  std::vector<std::unique_ptr<Node>> nodes;
  for (std::uint64_t i = 0; i < kTakeOvers; ++i) {
    if (i == kTakeOvers / 2) {
      etcd_->Kill();
      etcd_->Start();
    }
    nodes.push_back(std::make_unique<Node>(*etcd_, kTestPatienceNs));
    Node* const node = nodes.back().get();
    auto fence = node->refs->AcquireFence(kHead);
    ASSERT_TRUE(fence.ok()) << fence.status().ToString();
    ASSERT_EQ(*fence, Fence(i + 1));
    // Writes until somebody takes over, and a little longer.
    writers.emplace_back([node, fence = *fence, i, this, mine = &attempts[i]] {
      int aborted = 0;
      for (int n = 0; aborted < 3 && n < 10'000; ++n) {
        const auto ref = node->refs->Read(kHead);
        const std::uint64_t version = ref.ok() ? ref->version : 0;
        const std::string value = std::to_string(i) + "/" + std::to_string(n);
        const auto made =
            node->refs->CompareAndSwap(kHead, version, fence, value);
        mine->push_back({version + 1, value, made.status().code()});
        if (made.ok()) {
          EXPECT_EQ(aborted, 0) << "after it was fenced off";
          NoteVersion(*made);
        }
        aborted += made.status().code() == absl::StatusCode::kAborted;
        // The last one is not fenced off.
        if (i + 1 == kTakeOvers && n == 10) return;
      }
    });
    WaitForVersion(newest_ + 2);
  }
  for (std::thread& writer : writers) writer.join();
  Fence newest;
  std::uint64_t version = 0;
  for (const Ref& ref : HistoryOf(client_.get())) {
    EXPECT_GE(ref.fence, newest) << "version " << ref.version;
    newest = ref.fence;
    EXPECT_LE(ref.version, version + 1);
    version = ref.version;
  }
  EXPECT_EQ(newest, Fence(kTakeOvers));
  for (std::uint64_t i = 0; i + 1 < kTakeOvers; ++i) {
    EXPECT_EQ(attempts[i].back().code, absl::StatusCode::kAborted);
  }
}

TEST_F(EtcdRaceTest, EachFenceIsGivenToOneNode) {
  constexpr std::uint64_t kEach = 50;
  constexpr std::size_t kNodes = 4;
  std::vector<std::unique_ptr<Node>> nodes;
  std::vector<std::uint64_t> fences[kNodes];
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kNodes; ++i) {
    nodes.push_back(std::make_unique<Node>(*etcd_, kTestPatienceNs));
    threads.emplace_back([node = nodes.back().get(), mine = &fences[i]] {
      for (std::uint64_t n = 0; n < kEach; ++n) {
        const auto fence = node->refs->AcquireFence(kHead);
        ASSERT_TRUE(fence.ok()) << fence.status().ToString();
        if (!mine->empty()) {
          EXPECT_GT(fence->value(), mine->back());
        }
        mine->push_back(fence->value());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<bool> given(kNodes * kEach + 1);
  for (const auto& mine : fences) {
    for (const std::uint64_t fence : mine) {
      ASSERT_LT(fence, given.size());
      EXPECT_FALSE(given[fence]) << fence;
      given[fence] = true;
    }
  }
}

TEST_F(EtcdRaceTest, WhileEtcdStandsStillEachCallAnswersByItsDeadline) {
  constexpr DurationNs kTimeoutNs = 200 * kMillisecondNs;
  Node node(*etcd_, kTimeoutNs);
  ASSERT_TRUE(node.refs->CompareAndSwap(kHead, 0, Fence(), "a").ok());
  etcd_->Stop();
  const RefChange change = {kHead, 1, Fence(), "b", false};
  const std::function<absl::Status()> calls[] = {
      [&] { return node.refs->Get(kHead).status(); },
      [&] { return node.refs->AcquireFence(kHead).status(); },
      [&] {
        return node.refs->Commit({&change, 1}, {});
      },
      [&] { return node.refs->List("").status(); }};
  std::vector<std::thread> threads;
  for (const auto& call : calls) {
    threads.emplace_back([&call] {
      const TimeNs start = MonotonicNowNs();
      EXPECT_EQ(call().code(), absl::StatusCode::kUnavailable);
      EXPECT_LT(MonotonicNowNs() - start, kTimeoutNs + kSecondNs);
    });
  }
  for (std::thread& thread : threads) thread.join();
  etcd_->Continue();
  // Healed: by itself, and soon.
  const TimeNs deadline = Patience();
  auto ref = node.refs->Get(kHead);
  while (!ref.ok() && MonotonicNowNs() < deadline) ref = node.refs->Get(kHead);
  ASSERT_TRUE(ref.ok()) << ref.status().ToString();
}

}  // namespace
}  // namespace agentmem
