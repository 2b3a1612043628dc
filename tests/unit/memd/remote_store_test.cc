// A node without a disk over a simulated network to one with RocksDB: what a
// BlockStore promises, and that it is on the other's disk.
#include "memd/remote_store.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <filesystem>
#include <map>

#include "memd/node.h"
#include "memd/store/rocks_store.h"
#include "memd/transport/sim_network.h"
#include "tests/unit/memd/tenant_bench.h"
#include "tests/unit/store/scripted_segment_io.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kLent = 24 << 20;
constexpr std::uint64_t kClusterId = 77;
constexpr std::uint64_t kRoom = 32 << 20;

std::string BytesOf(std::size_t length, std::uint64_t seed) {
  std::string bytes(length, '\0');
  std::uint64_t word = seed * 0x9e3779b97f4a7c15ULL + length;
  for (char& byte : bytes) {
    word = word * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<char>(word >> 56);
  }
  return bytes;
}

// "s": a node with its tenant, its export extents and a disk.
struct Server {
  std::unique_ptr<RocksStore> disk;
  std::unique_ptr<Pages> index;
  std::unique_ptr<Pages> data;
  std::unique_ptr<Pages> lent;
  RemoteMemory remote;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<ExportPool> exports;
  std::unique_ptr<PoolNode> pool;
  std::unique_ptr<Node> node;
  std::uint64_t instance = 0;
};

class RemoteStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::temp_directory_path() /
                 ("agentmem-remote-" + std::to_string(::getpid()));
    std::filesystem::remove_all(directory_);
    transport_ = network_.Add("d");
    PoolNodeOptions options;
    options.node = "d";
    options.instance = 1;
    pool_ = std::make_unique<PoolNode>(options, transport_.get(), nullptr);
    pool_->UseRemoteStore({"s"});
    auto store = RemoteStore::Make(pool_.get());
    ASSERT_TRUE(store.ok());
    store_ = std::move(*store);
    const auto memory = pool_->Register({room_.base(), kRoom});
    ASSERT_TRUE(memory.ok());
    store_->AddTenant(TenantId(7), kClusterId, *memory);
    store_->AddTenant(TenantId(8), kClusterId + 1, *memory);
    StartServer();
  }
  void TearDown() override {
    StopServer();
    pool_.reset();
    std::filesystem::remove_all(directory_);
  }

  void StartServer(std::uint64_t serve_bytes = 1 << 30) {
    server_ = std::make_unique<Server>();
    Server& s = *server_;
    RocksStoreOptions disk;
    disk.path = directory_;
    disk.segment_io = &io_;
    auto opened = RocksStore::Open(disk);
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    s.disk = std::move(*opened);
    s.instance = ++instances_;
    s.transport = network_.Add("s");
    s.lent = std::make_unique<Pages>(kLent);
    const auto registered = s.transport->Register({s.lent->base(), kLent},
                                                  RemoteAccess::kReadWrite);
    ASSERT_TRUE(registered.ok());
    s.remote = registered->remote;
    s.exports = std::make_unique<ExportPool>(
        std::span<char>(s.lent->base(), kLent), s.instance << 40 | 1);
    PoolNodeOptions options;
    options.node = "s";
    options.instance = s.instance;
    options.export_memory = registered->id;
    s.pool =
        std::make_unique<PoolNode>(options, s.transport.get(), s.exports.get());
    s.node = std::make_unique<Node>(&s.disk->blocks());
    TenantOptions tenant = TenantBench::SmallOptions();
    tenant.cluster_id = kClusterId;
    tenant.serves = true;
    s.index = std::make_unique<Pages>(IndexWriter::BytesFor(
        IndexWriter::ShapeFor(tenant.slots, tenant.index_entries)));
    s.data = std::make_unique<Pages>(tenant.dram_bytes);
    s.node->AddTenant(tenant, {s.index->base(), s.data->base(), s.instance});
    ASSERT_TRUE(s.node->Recover().ok());
    s.node->ServePeers(s.pool.get());
    s.node->ServeStore(serve_bytes);
    Introduce();
  }
  // As SIGKILL does: what the disk was not told of is gone.
  void StopServer() {
    if (server_ == nullptr) return;
    network_.Kill("s");
    server_->disk.reset();
    server_->pool.reset();
    server_.reset();
  }
  void Introduce() {
    PoolPeer s;
    s.node = "s";
    s.instance = server_->instance;
    s.fabric_address = server_->transport->address();
    s.token = 100 + server_->instance;
    s.token_given = 200 + server_->instance;
    s.export_address = server_->remote.address;
    s.export_key = server_->remote.key;
    s.export_bytes = kLent;
    s.store_version = kStoreVersion;
    s.store_bytes = 1 << 30;
    pool_->AddPeer(s, clock_.Now());
    PoolPeer d;
    d.node = "d";
    d.instance = 1;
    d.fabric_address = transport_->address();
    d.token = s.token_given;
    d.token_given = s.token;
    server_->pool->AddPeer(d, clock_.Now());
    RunUntil([&] { return pool_->Snapshot(clock_.Now()).stores[0].reachable; });
  }
  // Both nodes go on, and simulated time; the disk is real, and waited for.
  void RunUntil(const std::function<bool()>& ended) {
    std::array<PoolCompletion, 16> out;
    const TimeNs give_up = clock_.Now() + 60 * kSecondNs;
    while (!ended()) {
      ASSERT_LT(clock_.Now(), give_up) << "it never ends";
      pool_->Poll(clock_.Now(), out);
      pool_->Tick(clock_.Now());
      store_->Collect();
      if (server_ != nullptr) {
        if (server_->node->store_busy()) {
          pollfd disk = {server_->disk->blocks().completion_fd(), POLLIN, 0};
          ::poll(&disk, 1, 20);
        }
        server_->node->PollStore(clock_.Now());
        server_->node->Tick(clock_.Now());
        server_->pool->Poll(clock_.Now(), out);
        server_->pool->Tick(clock_.Now());
      }
      network_.RunFor(100 * kMicrosecondNs);
    }
  }
  StoreOp OpOf(StoreOp::Kind kind, std::uint64_t n, std::size_t length,
               bool durable = true,
               BlockClass block_class = BlockClass::kState) {
    StoreOp op;
    op.kind = kind;
    op.durable = durable;
    op.block_class = block_class;
    op.tenant = TenantId(7);
    op.key = TestKey(n);
    op.ticket = ++tickets_;
    op.bytes[0] = {room_.base(), length};
    return op;
  }
  StoreCompletion Execute(const StoreOp& op) {
    StoreCompletion done;
    EXPECT_EQ(store_->Submit({&op, 1}), 1u);
    RunUntil([&] { return store_->Poll({&done, 1}) == 1; });
    EXPECT_EQ(done.ticket, op.ticket);
    return done;
  }
  Code Put(std::uint64_t n, const std::string& bytes, bool durable = true,
           BlockClass block_class = BlockClass::kState) {
    std::memcpy(room_.base(), bytes.data(), bytes.size());
    return Execute(
               OpOf(StoreOp::Kind::kPut, n, bytes.size(), durable, block_class))
        .code;
  }
  Code Get(std::uint64_t n, const std::string& expected) {
    std::memset(room_.base(), 'e', expected.size());
    const Code code =
        Execute(OpOf(StoreOp::Kind::kGet, n, expected.size())).code;
    if (code == Code::kOk) {
      EXPECT_TRUE(std::string(room_.base(), expected.size()) == expected)
          << "block " << n << " has other bytes";
    }
    return code;
  }

  std::filesystem::path directory_;
  ScriptedSegmentIo io_;  // of the server's disk
  ManualClock clock_{kSecondNs};
  SimNetwork network_{SimOptions{.message_bytes_max = kPoolMessageBytesMax},
                      &clock_};
  Pages room_{kRoom};
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<PoolNode> pool_;
  std::unique_ptr<RemoteStore> store_;
  std::unique_ptr<Server> server_;
  std::uint64_t instances_ = 10;
  std::uint64_t tickets_ = 7ULL << 40;
};

TEST_F(RemoteStoreTest, BlocksOfEverySizeComeBackBeforeAndAfterARestart) {
  std::map<std::uint64_t, std::string> expected;
  std::uint64_t n = 0;
  for (const std::size_t length : {1, 511, 4095, 4096, 32767, 32769, 65536,
                                   1 << 20, (4 << 20) - 1, 4 << 20}) {
    for (const BlockClass c : {BlockClass::kCache, BlockClass::kState}) {
      std::string& bytes = expected[++n];
      bytes = BytesOf(length, n);
      EXPECT_EQ(Put(n, bytes, true, c), Code::kOk) << length;
    }
  }
  for (int pass = 0; pass < 2; ++pass) {
    for (const auto& [k, bytes] : expected) {
      EXPECT_EQ(Get(k, bytes), Code::kOk) << k << " pass " << pass;
    }
    StopServer();
    StartServer();
  }
}

TEST_F(RemoteStoreTest, WhatIsNotThereIsNotFoundAndOtherTenantsAreApart) {
  EXPECT_EQ(Put(1, BytesOf(5000, 1)), Code::kOk);
  EXPECT_EQ(Get(2, BytesOf(5000, 1)), Code::kNotFound);
  StoreOp other = OpOf(StoreOp::Kind::kGet, 1, 5000);
  other.tenant = TenantId(8);
  EXPECT_EQ(Execute(other).code, Code::kNotFound);
  // One that is not configured there may put nothing.
  other.kind = StoreOp::Kind::kPut;
  const StoreCompletion refused = Execute(other);
  EXPECT_EQ(refused.code, Code::kUnavailable);
  EXPECT_STREQ(refused.node.data(), "s");
}

// Corrupt, dropped and put again: of the two the put is the later one.
TEST_F(RemoteStoreTest, APutAfterADeleteOfTheSameBlockIsNotDeleted) {
  const std::string bytes = BytesOf(5000, 2);
  ASSERT_EQ(Put(1, BytesOf(5000, 1)), Code::kOk);
  std::memcpy(room_.base(), bytes.data(), bytes.size());
  const std::array<StoreOp, 2> ops = {
      OpOf(StoreOp::Kind::kDelete, 1, 0),
      OpOf(StoreOp::Kind::kPut, 1, bytes.size())};
  EXPECT_EQ(store_->Submit(ops), 1u) << "the put waits";
  StoreCompletion done;
  RunUntil([&] { return store_->Poll({&done, 1}) == 1; });
  EXPECT_EQ(Execute(ops[1]).code, Code::kOk);
  EXPECT_EQ(Get(1, bytes), Code::kOk);
}

TEST_F(RemoteStoreTest, ADeletedBlockIsGoneAlsoAfterARestart) {
  EXPECT_EQ(Put(1, BytesOf(5000, 1)), Code::kOk);
  EXPECT_EQ(Execute(OpOf(StoreOp::Kind::kDelete, 1, 0)).code, Code::kOk);
  // (The tenant there submits its own delete on its next tick.)
  RunUntil([&] { return !server_->node->restless(); });
  EXPECT_EQ(Get(1, BytesOf(5000, 1)), Code::kNotFound);
  StopServer();
  StartServer();
  EXPECT_EQ(Get(1, BytesOf(5000, 1)), Code::kNotFound);
}

TEST_F(RemoteStoreTest, ManyAtOnceEndEachOnce) {
  constexpr std::uint64_t kBlocks = 200;
  constexpr std::size_t kLength = 100'000;
  std::map<std::uint64_t, std::uint64_t> key_of;
  for (std::uint64_t n = 1; n <= kBlocks; ++n) {
    StoreOp op = OpOf(StoreOp::Kind::kPut, n, kLength);
    op.bytes[0].iov_base = room_.base() + n * kLength;
    const std::string bytes = BytesOf(kLength, n);
    std::memcpy(op.bytes[0].iov_base, bytes.data(), kLength);
    ASSERT_EQ(store_->Submit({&op, 1}), 1u);
    key_of[op.ticket] = n;
  }
  std::array<StoreCompletion, 16> done;
  RunUntil([&] {
    const std::size_t count = store_->Poll(done);
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_EQ(done[i].code, Code::kOk);
      EXPECT_EQ(key_of.erase(done[i].ticket), 1u);
    }
    return key_of.empty();
  });
  for (std::uint64_t n = 1; n <= kBlocks; n += 17) {
    EXPECT_EQ(Get(n, BytesOf(kLength, n)), Code::kOk);
  }
}

TEST_F(RemoteStoreTest, ItsDescriptorIsReadableWhileSomethingHasEnded) {
  const auto readable = [&] {
    pollfd wait = {store_->completion_fd(), POLLIN, 0};
    return ::poll(&wait, 1, 0) == 1;
  };
  EXPECT_FALSE(readable());
  const StoreOp op = OpOf(StoreOp::Kind::kPut, 1, 5000);
  ASSERT_EQ(store_->Submit({&op, 1}), 1u);
  RunUntil(readable);
  StoreCompletion done;
  EXPECT_EQ(store_->Poll({&done, 1}), 1u);
  EXPECT_FALSE(readable());
}

TEST_F(RemoteStoreTest, ABudgetHoldsAndIsCountedAnewAfterARestart) {
  StopServer();
  StartServer(/*serve_bytes=*/100'000);
  std::uint64_t n = 1;
  while (Put(n, BytesOf(9000, n)) == Code::kOk) ++n;
  EXPECT_EQ(n, 12u);
  EXPECT_EQ(pool_->Snapshot(clock_.Now()).stores[0].refused, 1u);
  StopServer();
  StartServer(/*serve_bytes=*/100'000);
  std::memset(room_.base(), 'x', 9000);
  const StoreCompletion refused = Execute(OpOf(StoreOp::Kind::kPut, n, 9000));
  EXPECT_EQ(refused.code, Code::kResourceExhausted);
  EXPECT_STREQ(refused.node.data(), "s");
  EXPECT_EQ(Put(n, BytesOf(900, n)), Code::kOk) << "that much there is";
  EXPECT_EQ(Get(3, BytesOf(9000, 3)), Code::kOk);
}

TEST_F(RemoteStoreTest,
       ADiskThatIsFullIsResourceExhaustedAndGoesOnOnceItIsNot) {
  const std::string bytes = BytesOf(100'000, 1);
  EXPECT_EQ(Put(1, bytes), Code::kOk);
  io_.FailAllocate(absl::ResourceExhaustedError("no space left"));
  io_.FailWrite(absl::ResourceExhaustedError("no space left"));
  std::memcpy(room_.base(), bytes.data(), bytes.size());
  const StoreCompletion full =
      Execute(OpOf(StoreOp::Kind::kPut, 2, bytes.size()));
  EXPECT_EQ(full.code, Code::kResourceExhausted);
  EXPECT_STREQ(full.node.data(), "s");
  EXPECT_NE(pool_->Snapshot(clock_.Now()).stores[0].text.find("disk is full"),
            std::string::npos);
  EXPECT_EQ(Get(1, bytes), Code::kOk) << "reads go on";
  EXPECT_EQ(Get(2, bytes), Code::kNotFound);
  io_.FailAllocate(absl::OkStatus());
  io_.FailWrite(absl::OkStatus());
  EXPECT_EQ(Put(2, bytes), Code::kOk);
  EXPECT_EQ(Get(2, bytes), Code::kOk);
}

TEST_F(RemoteStoreTest, ADiskThatDoesNotSyncAcknowledgesNothing) {
  io_.FailSync(absl::UnavailableError("the device failed"));
  EXPECT_EQ(Put(1, BytesOf(100'000, 1)), Code::kUnavailable);
  EXPECT_EQ(server_->node->used_bytes(), 0u);
  io_.FailSync(absl::OkStatus());
}

TEST_F(RemoteStoreTest, ATornRecordIsDataLossUntilItIsPutAnew) {
  const std::string bytes = BytesOf(100'000, 1);
  io_.discard_writes = true;  // and say that they were done
  EXPECT_EQ(Put(1, bytes), Code::kOk);
  io_.discard_writes = false;
  StopServer();
  StartServer();
  EXPECT_EQ(Get(1, bytes), Code::kDataLoss);
  EXPECT_EQ(Get(1, bytes), Code::kDataLoss) << "it stays so";
  EXPECT_EQ(Put(1, bytes), Code::kOk);
  EXPECT_EQ(Get(1, bytes), Code::kOk);
  StopServer();
  StartServer();
  EXPECT_EQ(Get(1, bytes), Code::kOk);
}

TEST_F(RemoteStoreTest, CacheGivesWayToWhatComesOverTheBudget) {
  StopServer();
  StartServer(/*serve_bytes=*/100'000);
  for (std::uint64_t n = 1; n <= 10; ++n) {
    EXPECT_EQ(Put(n, BytesOf(9000, n), true, BlockClass::kCache), Code::kOk);
  }
  for (std::uint64_t n = 11; n <= 20; ++n) {
    EXPECT_EQ(Put(n, BytesOf(9000, n)), Code::kOk) << n;
  }
  for (std::uint64_t n = 11; n <= 20; ++n) {
    EXPECT_EQ(Get(n, BytesOf(9000, n)), Code::kOk);
  }
}

}  // namespace
}  // namespace agentmem
