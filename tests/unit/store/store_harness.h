// A store in a directory of its own, and its operations one at a time.
//
// Ownership: removes the directory with itself. Threads: thread-compatible.
// Errors: EXPECT and FAIL of GoogleTest. Cost: each call waits for the disk.
#ifndef AGENTMEM_TESTS_UNIT_STORE_STORE_HARNESS_H_
#define AGENTMEM_TESTS_UNIT_STORE_STORE_HARNESS_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "memd/store/rocks_store.h"

namespace agentmem {

class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline Key KeyOf(std::uint64_t number) {
  return Key::FromWords(number, ~number);
}

// Bytes that no other length and seed have, in a deterministic order.
std::string BytesOf(std::size_t length, std::uint64_t seed);

// The operations; `bytes` must outlive their completion.
StoreOp PutOp(std::uint64_t key, const std::string& bytes,
              BlockClass block_class = BlockClass::kCache,
              bool durable = false);
StoreOp GetOp(std::uint64_t key, std::string* room);
StoreOp DeleteOp(std::uint64_t key);

// Waits with poll(2) until `count` operations have completed.
std::vector<StoreCompletion> TakeCompletions(BlockStore* store,
                                             std::size_t count);
// Submits all of `ops`, waits for all.
std::vector<StoreCompletion> Execute(BlockStore* store,
                                     const std::vector<StoreOp>& ops);
Code Execute(BlockStore* store, const StoreOp& op);

// What Get answers for a block of `length` bytes.
struct GetAnswer {
  Code code = Code::kOk;
  std::string bytes;
};
GetAnswer Get(BlockStore* store, std::uint64_t key, std::size_t length);

std::vector<StoredBlock> ScanAll(BlockStore* store);

std::unique_ptr<RocksStore> OpenStore(const std::string& path,
                                      std::uint32_t queue_ops_max = 1024);

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_STORE_STORE_HARNESS_H_
