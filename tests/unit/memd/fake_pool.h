// Other nodes' memory as one map, which finishes nothing until it is told to.
#ifndef AGENTMEM_TESTS_UNIT_MEMD_FAKE_POOL_H_
#define AGENTMEM_TESTS_UNIT_MEMD_FAKE_POOL_H_

#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "memd/pool/pool.h"

namespace agentmem {

class FakePool final : public Pool {
 public:
  struct Block {
    std::string bytes;
    BlockClass block_class = BlockClass::kCache;
    std::uint8_t copies = 0;
  };

  absl::StatusOr<MemoryId> Register(std::span<char>) override {
    return MemoryId(1);
  }
  bool Submit(const PoolOp& op) override {
    if (pending_.size() >= queue_max) return false;
    pending_.push_back(op);
    return true;
  }
  bool usable() const override { return places() != 0; }
  std::size_t places() const override { return nodes + lends; }
  std::size_t places_elsewhere() const override { return nodes; }

  // Carries out the oldest operation.
  std::vector<PoolCompletion> FinishOne() {
    if (pending_.empty()) return {};
    const PoolOp op = pending_.front();
    pending_.pop_front();
    PoolCompletion completion;
    completion.ticket = op.ticket;
    completion.code = Carry(op, &completion);
    return {completion};
  }
  std::size_t pending() const { return pending_.size(); }
  const PoolOp& next() const { return pending_.front(); }

  std::map<Key, Block> blocks;
  std::map<Key, BlockClass> lost;  // there, but its checksum fails
  std::size_t nodes = 2;           // others that lend
  bool lends = false;              // this one does, too
  std::size_t queue_max = 1024;
  Code fail_puts = Code::kOk;
  Code fail_gets = Code::kOk;

 private:
  Code Carry(const PoolOp& op, PoolCompletion* completion) {
    const auto found = blocks.find(op.key);
    switch (op.kind) {
      case PoolOp::Kind::kKeep:
      case PoolOp::Kind::kErase:
        break;  // a tenant asks its store for that
      case PoolOp::Kind::kPut:
        if (fail_puts != Code::kOk) return fail_puts;
        blocks[op.key] = {std::string(op.bytes, op.length), op.block_class,
                          op.copies};
        completion->copies = op.copies;
        // Where this node lends, the first copy lies here.
        completion->elsewhere = static_cast<std::uint8_t>(op.copies - lends);
        if (op.copies > places()) return Code::kUnavailable;
        return Code::kOk;
      case PoolOp::Kind::kGet:
        if (fail_gets != Code::kOk) return fail_gets;
        if (found == blocks.end() || found->second.bytes.size() != op.length) {
          return Code::kNotFound;
        }
        std::memcpy(op.bytes, found->second.bytes.data(), op.length);
        return Code::kOk;
      case PoolOp::Kind::kFind:
        if (fail_gets != Code::kOk) return fail_gets;
        if (const auto gone = lost.find(op.key); gone != lost.end()) {
          completion->block_class = gone->second;
          return Code::kDataLoss;
        }
        if (found == blocks.end()) return Code::kNotFound;
        completion->length =
            static_cast<std::uint32_t>(found->second.bytes.size());
        completion->block_class = found->second.block_class;
        return Code::kOk;
      case PoolOp::Kind::kDrop:
        blocks.erase(op.key);
        return Code::kOk;
    }
    return Code::kInternal;
  }

  std::deque<PoolOp> pending_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_MEMD_FAKE_POOL_H_
