// A disk under a node whose store serves others: it works when it is told to,
// and outlives its node.
#ifndef AGENTMEM_TESTS_UNIT_POOL_HAND_DISK_H_
#define AGENTMEM_TESTS_UNIT_POOL_HAND_DISK_H_

#include <cstring>
#include <deque>
#include <map>
#include <string>

#include "memd/pool/pool_node.h"

namespace agentmem {

// A disk that does what it is told when it is told so.
class HandDisk final : public ServedStore, public StoredBlocks {
 public:
  static constexpr std::uint64_t kTenant = 7;

  struct Job {
    ServedBlock block;
    const char* from = nullptr;  // a write
    char* to = nullptr;          // a read
    std::uint64_t generation = 0;
  };

  StoreVerdict Admit(const ServedBlock& block) override {
    if (block.tenant != kTenant) {
      return {Code::kFailedPrecondition, StoreRefusal::kNoTenant, 0, 0};
    }
    const auto known = blocks.find(block.key);
    if (known != blocks.end() && known->second.size() == block.length) {
      return {Code::kAlreadyExists, StoreRefusal::kNone, 0, 0};
    }
    return verdict;
  }
  bool Write(const ServedBlock& block, const char* bytes,
             std::uint64_t generation) override {
    if (full) return false;
    jobs.push_back({block, bytes, nullptr, generation});
    return true;
  }
  bool Erase(std::uint64_t, const Key& key, BlockClass) override {
    blocks.erase(key);
    return true;
  }
  std::uint64_t used_bytes() const override { return 11; }
  std::uint64_t serve_bytes() const override { return 1 << 30; }

  bool Lookup(std::uint64_t tenant, const Key& key, Found* found) override {
    const auto known = blocks.find(key);
    if (tenant != kTenant || known == blocks.end()) return false;
    *found = {BlockClass::kState,
              static_cast<std::uint32_t>(known->second.size()), corrupt};
    return true;
  }
  bool Load(std::uint64_t, const Key& key, char* to, std::uint32_t length,
            std::uint64_t generation) override {
    ServedBlock block;
    block.key = key;
    block.length = length;
    jobs.push_back({block, nullptr, to, generation});
    return true;
  }

  void FinishOne(PoolNode* node, Code code = Code::kOk,
                 StoreRefusal refusal = StoreRefusal::kNone) {
    const Job job = jobs.front();
    jobs.pop_front();
    if (job.to != nullptr) {
      std::memcpy(job.to, blocks.at(job.block.key).data(), job.block.length);
      return node->OnLoaded(job.generation, code);
    }
    if (code == Code::kOk) {
      blocks[job.block.key].assign(job.from, job.block.length);
      durable += job.block.durable;
    }
    node->OnStored(job.generation, {code, refusal, 0, 0});
  }

  std::map<Key, std::string> blocks;  // outlives the node, as a disk does
  std::deque<Job> jobs;
  StoreVerdict verdict;
  bool full = false;  // its queue
  bool corrupt = false;
  int durable = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_POOL_HAND_DISK_H_
