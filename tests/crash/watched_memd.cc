// memd, killed at a point of its store's work, or killing the writer there:
//   watched_memd DIRECTORY DOING POINT PASSING KILL_WRITER
// A byte on its output says that it serves. See region_crash_test.cc.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "memd/config.h"
#include "memd/daemon.h"
#include "tests/crash/region_journal.h"

namespace agentmem {
namespace {

class Trigger {
 public:
  Trigger(Journal* journal, const Order& order)
      : journal_(journal), order_(order), left_(order.passing) {}

  void Pass(Point point) {
    if (!Fires(point)) return;
    ::kill(order_.kill_writer ? journal_->writer.load() : ::getpid(), SIGKILL);
  }
  bool Fires(Point point) {
    if (order_.passing == 0 || point != order_.point) return false;
    if (order_.doing != Doing::kCollect &&
        journal_->doing.load() != static_cast<std::uint32_t>(order_.doing)) {
      return false;
    }
    if (left_.fetch_sub(1) != 1) return false;
    journal_->fired.store(1);
    return true;
  }

 private:
  Journal* const journal_;
  const Order order_;
  std::atomic<std::uint32_t> left_;
};

class WatchedBlocks final : public BlockStore {
 public:
  WatchedBlocks(BlockStore* store, Trigger* trigger)
      : store_(store), trigger_(trigger) {}

  std::size_t Submit(std::span<const StoreOp> ops) override {
    const std::size_t taken = store_->Submit(ops);
    for (const StoreOp& op : ops.first(taken)) {
      kinds_[op.ticket] = op.kind;
      if (op.kind == StoreOp::Kind::kPut) trigger_->Pass(Point::kPutTaken);
      if (op.kind == StoreOp::Kind::kDelete) {
        trigger_->Pass(Point::kDeleteTaken);
      }
    }
    return taken;
  }
  std::size_t Poll(std::span<StoreCompletion> out) override {
    const std::size_t done = store_->Poll(out);
    for (StoreCompletion& completion : out.first(done)) {
      switch (kinds_[completion.ticket]) {
        case StoreOp::Kind::kPut:
          trigger_->Pass(Point::kPutDone);
          break;
        case StoreOp::Kind::kGet:
          trigger_->Pass(Point::kGetDone);
          if (trigger_->Fires(Point::kReadFails)) {
            completion.code = Code::kUnavailable;
          }
          break;
        case StoreOp::Kind::kDelete:
          trigger_->Pass(Point::kDeleteDone);
          break;
      }
      kinds_.erase(completion.ticket);
    }
    return done;
  }
  int completion_fd() const override { return store_->completion_fd(); }
  absl::Status Scan(
      const std::function<void(const StoredBlock&)>& visit) override {
    return store_->Scan(visit);
  }
  absl::Status ScanPrefix(
      TenantId tenant, std::uint64_t key_low,
      const std::function<void(const StoredBlock&)>& visit) override {
    return store_->ScanPrefix(tenant, key_low, visit);
  }
  std::unique_ptr<LoneReader> NewReader() override {
    return store_->NewReader();
  }
  absl::Status Flush() override { return store_->Flush(); }

 private:
  BlockStore* const store_;
  Trigger* const trigger_;
  std::map<std::uint64_t, StoreOp::Kind> kinds_;  // the reactor's alone
};

class WatchedRefs final : public RefStore {
 public:
  WatchedRefs(RefStore* refs, Trigger* trigger)
      : refs_(refs), trigger_(trigger) {}

  absl::StatusOr<Ref> Get(const std::string& name) override {
    return refs_->Get(name);
  }
  absl::StatusOr<Ref> Read(const std::string& name) override {
    return refs_->Read(name);
  }
  absl::StatusOr<Fence> AcquireFence(const std::string& name) override {
    trigger_->Pass(Point::kRefBefore);
    const auto fence = refs_->AcquireFence(name);
    trigger_->Pass(Point::kRefAfter);
    if (trigger_->Fires(Point::kAnswerLost)) return Unavailable("no answer");
    return fence;
  }
  absl::StatusOr<std::uint64_t> CompareAndSwap(
      const std::string& name, std::uint64_t expected_version, Fence fence,
      const std::string& value) override {
    trigger_->Pass(Point::kRefBefore);
    if (trigger_->Fires(Point::kChangeLost)) return Unavailable("no answer");
    const auto version =
        refs_->CompareAndSwap(name, expected_version, fence, value);
    trigger_->Pass(Point::kRefAfter);
    if (trigger_->Fires(Point::kAnswerLost)) return Unavailable("no answer");
    return version;
  }
  absl::Status Commit(std::span<const RefChange> changes,
                      std::span<const RefBlock> blocks) override {
    trigger_->Pass(Point::kRefBefore);
    if (trigger_->Fires(Point::kChangeLost)) return Unavailable("no answer");
    const absl::Status status = refs_->Commit(changes, blocks);
    trigger_->Pass(Point::kRefAfter);
    if (trigger_->Fires(Point::kAnswerLost)) return Unavailable("no answer");
    return status;
  }
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& prefix) override {
    return refs_->List(prefix);
  }
  absl::StatusOr<std::vector<NamedRef>> ReadAll(
      std::span<const std::string> prefixes) override {
    return refs_->ReadAll(prefixes);
  }

 private:
  RefStore* const refs_;
  Trigger* const trigger_;
};

class WatchedStore final : public RocksStore {
 public:
  WatchedStore(std::unique_ptr<RocksStore> store, Trigger* trigger)
      : store_(std::move(store)),
        blocks_(&store_->blocks(), trigger),
        refs_(&store_->refs(), trigger) {}
  BlockStore& blocks() override { return blocks_; }
  RefStore& refs() override { return refs_; }
  std::uint64_t disk_bytes() override { return store_->disk_bytes(); }
  void NameTenant(TenantId tenant, const std::string& name) override {
    store_->NameTenant(tenant, name);
  }

 private:
  const std::unique_ptr<RocksStore> store_;
  WatchedBlocks blocks_;
  WatchedRefs refs_;
};

int Complain(const absl::Status& status) {
  std::fprintf(stderr, "memd: %s\n", status.ToString().c_str());
  return 1;
}

int RunMemd(const std::string& directory, const Order& order) {
  Trigger trigger(OpenJournal(directory), order);
  Config config = DefaultConfig({});
  config.state_directory = directory + "/state";
  config.socket_path = directory + "/memd.sock";
  config.collect_ms = 10;
  config.tenants.resize(1);
  config.tenants[0].dram_bytes = 16 << 20;
  config.tenants[0].slots = 4096;
  config.tenants[0].index_entries = 65536;
  config.tenants[0].hold_quota_bytes = 8 << 20;
  config.tenants[0].grant_quota_bytes = 4 << 20;
  ::signal(SIGPIPE, SIG_IGN);
  const MonotonicClock clock;
  auto daemon =
      Daemon::Open(config, &clock, [&](std::unique_ptr<RocksStore> store) {
        return std::make_unique<WatchedStore>(std::move(store), &trigger);
      });
  if (!daemon.ok()) return Complain(daemon.status());
  [[maybe_unused]] const ssize_t said = ::write(STDOUT_FILENO, "x", 1);
  // It ends by SIGKILL alone.
  return Complain((*daemon)->Run());
}

}  // namespace
}  // namespace agentmem

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  return agentmem::RunMemd(argv[1], agentmem::OrderOf(argv + 2));
}
