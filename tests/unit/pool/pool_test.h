// Questions that tests of any pool of nodes ask it.
#ifndef AGENTMEM_TESTS_UNIT_POOL_POOL_TEST_H_
#define AGENTMEM_TESTS_UNIT_POOL_POOL_TEST_H_

#include <gtest/gtest.h>

#include <string>

#include "memd/pool/pool_node.h"
#include "tests/unit/pool/pool_runs.h"

namespace agentmem {

class PoolTest : public ::testing::Test {
 protected:
  virtual PoolRuns& pool() = 0;

  PoolNode& Node(const std::string& name) { return *pool().at(name).node; }
  ExportPool& Exports(const std::string& name) {
    return *pool().at(name).exports;
  }
  PoolSnapshot Snapshot(const std::string& name) {
    return Node(name).Snapshot(pool().now());
  }
  static Key KeyOf(std::uint32_t number) { return {number, {number, 5, 6}}; }
  PoolOp OpOf(PoolOp::Kind kind, std::uint32_t number, std::uint32_t length,
              BlockClass block_class = BlockClass::kCache) {
    PoolOp op;
    op.kind = kind;
    op.tenant = 3;
    op.key = KeyOf(number);
    op.length = length;
    op.block_class = block_class;
    op.copies = block_class == BlockClass::kState ? 2 : 1;
    return op;
  }
  // On how many nodes does it lie?
  std::size_t CopiesOf(std::uint32_t number) {
    std::size_t copies = 0;
    for (const auto& [name, run] : pool().runs()) {
      copies += Holds(name, number);
    }
    return copies;
  }
  bool Holds(const std::string& name, std::uint32_t number) {
    return pool().at(name).exports != nullptr &&
           Exports(name).Find({3, KeyOf(number)}) != nullptr;
  }
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_POOL_POOL_TEST_H_
