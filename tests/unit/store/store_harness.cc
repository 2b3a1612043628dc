#include "tests/unit/store/store_harness.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>

#include <cstring>

#include "base/check.h"
#include "base/status.h"

namespace agentmem {
namespace {

constexpr int kPatienceMs = 60'000;

}  // namespace

TempDirectory::TempDirectory() {
  path_ = testing::TempDir() + "agentmem_store_XXXXXX";
  AGENTMEM_CHECK(::mkdtemp(path_.data()) != nullptr);
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string BytesOf(std::size_t length, std::uint64_t seed) {
  std::string bytes(length, '\0');
  std::uint64_t state = seed * 0x9e3779b97f4a7c15ULL + length;
  for (std::size_t i = 0; i < length; i += sizeof(state)) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(&bytes[i], &state, std::min(sizeof(state), length - i));
  }
  return bytes;
}

StoreOp PutOp(std::uint64_t key, const std::string& bytes,
              BlockClass block_class, bool durable) {
  StoreOp op;
  op.kind = StoreOp::Kind::kPut;
  op.durable = durable;
  op.block_class = block_class;
  op.tenant = TenantId(1);
  op.key = KeyOf(key);
  op.ticket = key;
  op.bytes[0] = {const_cast<char*>(bytes.data()), bytes.size()};
  return op;
}

StoreOp GetOp(std::uint64_t key, std::string* room) {
  StoreOp op;
  op.kind = StoreOp::Kind::kGet;
  op.tenant = TenantId(1);
  op.key = KeyOf(key);
  op.ticket = key;
  op.bytes[0] = {room->data(), room->size()};
  return op;
}

StoreOp DeleteOp(std::uint64_t key) {
  StoreOp op;
  op.kind = StoreOp::Kind::kDelete;
  op.tenant = TenantId(1);
  op.key = KeyOf(key);
  op.ticket = key;
  return op;
}

std::vector<StoreCompletion> TakeCompletions(BlockStore* store,
                                             std::size_t count) {
  std::vector<StoreCompletion> taken(count);
  std::size_t done = 0;
  while (done < count) {
    pollfd waits = {store->completion_fd(), POLLIN, 0};
    if (::poll(&waits, 1, kPatienceMs) != 1) {
      ADD_FAILURE() << done << " of " << count << " operations completed";
      taken.resize(done);
      return taken;
    }
    const std::size_t polled = store->Poll(std::span(taken).subspan(done));
    EXPECT_GT(polled, 0u) << "the descriptor was readable, the queue empty";
    done += polled;
  }
  return taken;
}

std::vector<StoreCompletion> Execute(BlockStore* store,
                                     const std::vector<StoreOp>& ops) {
  EXPECT_EQ(store->Submit(ops), ops.size());
  return TakeCompletions(store, ops.size());
}

Code Execute(BlockStore* store, const StoreOp& op) {
  const auto done = Execute(store, std::vector<StoreOp>{op});
  if (done.size() != 1) return Code::kUnknown;
  EXPECT_EQ(done[0].ticket, op.ticket);
  return done[0].code;
}

GetAnswer Get(BlockStore* store, std::uint64_t key, std::size_t length) {
  GetAnswer answer;
  answer.bytes.resize(length);
  answer.code = Execute(store, GetOp(key, &answer.bytes));
  return answer;
}

std::vector<StoredBlock> ScanAll(BlockStore* store) {
  std::vector<StoredBlock> found;
  const absl::Status status = store->Scan(
      [&found](const StoredBlock& block) { found.push_back(block); });
  EXPECT_TRUE(status.ok()) << status.ToString();
  return found;
}

std::unique_ptr<RocksStore> OpenStore(const std::string& path,
                                      std::uint32_t queue_ops_max) {
  RocksStoreOptions options;
  options.path = path;
  options.queue_ops_max = queue_ops_max;
  auto store = RocksStore::Open(options);
  AGENTMEM_CHECK(store.ok());
  return std::move(store).value();
}

}  // namespace agentmem
