// What the demo was asked to do.
//
// Ownership: a value. Threads: thread-compatible. Errors: main checks ranges.
#ifndef AGENTMEM_TESTS_DEMO_OPTIONS_H_
#define AGENTMEM_TESTS_DEMO_OPTIONS_H_

#include <cstdint>
#include <string>

namespace agentmem::demo {

struct DemoOptions {
  std::string trace;         // empty: the generator
  std::uint32_t agents = 4;  // processes
  std::uint64_t requests = 3000;
  std::uint64_t block_bytes = 0;  // the longest; 0: chosen from the others
  std::uint64_t dram_bytes = 192ULL << 20;
  std::uint32_t kills = 12;
  std::uint32_t memory_agents = 6;  // with working memory; 0: none
  std::uint32_t nodes = 1;          // more: working memory alone, on a cluster
  bool hbm = false;  // KV caches in device memory alone, wherever
  std::uint32_t hbm_agents = 6;
  std::uint64_t seed = 1;
  std::string output = "build/demo";
  std::string memd;    // program
  std::string memctl;  // program
  std::uint64_t seconds_max = 100;
  bool recovery = true;  // kill memd and check what is durable
  bool keep = false;     // the temporary directory
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_OPTIONS_H_
