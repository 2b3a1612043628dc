// A cluster of pool nodes, and one operation at a time on it.
#ifndef AGENTMEM_TESTS_UNIT_POOL_POOL_NODE_FIXTURE_H_
#define AGENTMEM_TESTS_UNIT_POOL_POOL_NODE_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "memd/pool/pool_node.h"
#include "tests/unit/pool/pool_cluster.h"
#include "tests/unit/pool/pool_test.h"

namespace agentmem {

class PoolNodeTest : public PoolTest {
 protected:
  void TearDown() override {
    if (cluster_ == nullptr) return;
    EXPECT_EQ(cluster_->CheckInvariants(), "");
    for (const auto& [name, run] : cluster_->runs()) {
      EXPECT_EQ(run->node->Snapshot(cluster_->now()).queued, 0u) << name;
    }
  }
  void Make(const std::vector<std::string>& names,
            std::uint64_t export_bytes = 8 << 20,
            const SimOptions& options = Roomy()) {
    cluster_ = std::make_unique<PoolCluster>(options);
    cluster_->StartAll(names, export_bytes);
    for (const std::string& name : names) {
      ASSERT_EQ(Node(name).places(), export_bytes == 0 ? 0 : names.size());
    }
  }
  static SimOptions Roomy() {
    SimOptions options;
    options.message_bytes_max = kPoolMessageBytesMax;
    return options;
  }
  Code Put(const std::string& name, std::uint32_t number, std::uint32_t length,
           BlockClass block_class = BlockClass::kCache,
           std::uint64_t salt = 77) {
    FillBlock(cluster_->at(name).memory.get(), length, KeyOf(number), salt);
    return cluster_
        ->Do(name, OpOf(PoolOp::Kind::kPut, number, length, block_class))
        .code;
  }
  // Whatever comes as OK has the right bytes.
  Code Get(const std::string& name, std::uint32_t number, std::uint32_t length,
           BlockClass block_class = BlockClass::kCache,
           std::uint64_t salt = 77) {
    char* const bytes = cluster_->at(name).memory.get();
    std::fill(bytes, bytes + length, 'e');
    const PoolCompletion got = cluster_->Do(
        name, OpOf(PoolOp::Kind::kGet, number, length, block_class));
    if (got.code == Code::kOk) {
      EXPECT_EQ(SaltOf(bytes, length, KeyOf(number)), salt) << "wrong bytes";
    }
    return got.code;
  }
  Code Drop(const std::string& name, std::uint32_t number) {
    return cluster_->Do(name, OpOf(PoolOp::Kind::kDrop, number, 0)).code;
  }
  // The first one from `number` on that lies on these nodes alone.
  std::uint32_t PutStateOn(const std::string& writer, const std::string& x,
                           const std::string& y, std::uint32_t number = 0) {
    for (;; ++number) {
      EXPECT_EQ(Put(writer, number, 4096, BlockClass::kState), Code::kOk);
      if (Holds(x, number) && Holds(y, number)) return number;
    }
  }

  PoolRuns& pool() override { return *cluster_; }

  std::unique_ptr<PoolCluster> cluster_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_POOL_POOL_NODE_FIXTURE_H_
