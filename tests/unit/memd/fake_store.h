// A BlockStore in memory that finishes nothing until it is told to.
#ifndef AGENTMEM_TESTS_UNIT_MEMD_FAKE_STORE_H_
#define AGENTMEM_TESTS_UNIT_MEMD_FAKE_STORE_H_

#include <sys/eventfd.h>

#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "base/unique_fd.h"
#include "memd/store/block_store.h"

namespace agentmem {

class FakeStore final : public BlockStore {
 public:
  using Name = std::pair<std::uint32_t, Key>;

  std::size_t Submit(std::span<const StoreOp> ops) override {
    std::size_t taken = 0;
    for (const StoreOp& op : ops) {
      if (pending_.size() >= queue_max) break;
      pending_.push_back(op);
      ++taken;
    }
    return taken;
  }

  std::size_t Poll(std::span<StoreCompletion> out) override {
    std::size_t count = 0;
    while (count < out.size() && !done_.empty()) {
      out[count++] = done_.front();
      done_.pop_front();
    }
    return count;
  }

  int completion_fd() const override { return fd_.get(); }
  std::unique_ptr<LoneReader> NewReader() override { return nullptr; }

  absl::Status Scan(
      const std::function<void(const StoredBlock&)>& visit) override {
    for (const auto& [name, bytes] : blocks) {
      StoredBlock block;
      block.tenant = TenantId(name.first);
      block.key = name.second;
      block.block_class = classes[name];
      block.length = static_cast<std::uint32_t>(bytes.size());
      visit(block);
    }
    return absl::OkStatus();
  }

  absl::Status ScanPrefix(
      TenantId tenant, std::uint64_t key_low,
      const std::function<void(const StoredBlock&)>& visit) override {
    return Scan([&](const StoredBlock& block) {
      if (block.tenant == tenant && block.key.low() == key_low) visit(block);
    });
  }

  absl::Status Flush() override { return absl::OkStatus(); }

  // Carries out the oldest operation; false when there is none.
  bool FinishOne() {
    if (pending_.empty()) return false;
    const StoreOp op = pending_.front();
    pending_.pop_front();
    StoreCompletion completion;
    completion.ticket = op.ticket;
    completion.code = Carry(op);
    completion.length = static_cast<std::uint32_t>(op.bytes[0].iov_len);
    done_.push_back(completion);
    return true;
  }
  void FinishAll() {
    while (FinishOne()) {
    }
  }

  // The oldest operation is the test's own to end.
  void Forget() { pending_.pop_front(); }

  std::size_t pending() const { return pending_.size(); }
  const StoreOp& next() const { return pending_.front(); }

  std::map<Name, std::string> blocks;
  std::map<Name, BlockClass> classes;
  std::size_t queue_max = 1024;
  Code fail_puts = Code::kOk;
  Code fail_gets = Code::kOk;
  std::uint64_t durable_puts = 0;

 private:
  Code Carry(const StoreOp& op) {
    const Name name = {op.tenant.value(), op.key};
    switch (op.kind) {
      case StoreOp::Kind::kPut:
        if (fail_puts != Code::kOk) return fail_puts;
        blocks[name].assign(static_cast<const char*>(op.bytes[0].iov_base),
                            op.bytes[0].iov_len);
        classes[name] = op.block_class;
        durable_puts += op.durable;
        return Code::kOk;
      case StoreOp::Kind::kGet: {
        if (fail_gets != Code::kOk) return fail_gets;
        auto found = blocks.find(name);
        if (found == blocks.end()) return Code::kNotFound;
        if (found->second.size() != op.bytes[0].iov_len) return Code::kDataLoss;
        std::memcpy(op.bytes[0].iov_base, found->second.data(),
                    found->second.size());
        return Code::kOk;
      }
      case StoreOp::Kind::kDelete:
        blocks.erase(name);
        return Code::kOk;
    }
    return Code::kInternal;
  }

  UniqueFd fd_{eventfd(0, EFD_CLOEXEC)};
  std::deque<StoreOp> pending_;
  std::deque<StoreCompletion> done_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_MEMD_FAKE_STORE_H_
