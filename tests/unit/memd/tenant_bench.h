// A tenant on ordinary memory, a store that waits to be told, and clients that
// speak through real rings: what a test needs to run the state machine by hand.
#ifndef AGENTMEM_TESTS_UNIT_MEMD_TENANT_BENCH_H_
#define AGENTMEM_TESTS_UNIT_MEMD_TENANT_BENCH_H_

#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "memd/node.h"
#include "proto/index_reader.h"
#include "tests/unit/memd/fake_pool.h"
#include "tests/unit/memd/fake_store.h"

namespace agentmem {

// Zeroed, aligned to a page, ordinary memory.
class Pages {
 public:
  explicit Pages(std::uint64_t bytes)
      : base_(static_cast<char*>(
            std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096))) {
    std::memset(base_, 0, bytes);
  }
  ~Pages() { std::free(base_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  char* base() const { return base_; }

 private:
  char* base_;
};

// The client's side of the rings, by hand.
class TestClient {
 public:
  explicit TestClient(ClientId id)
      : id_(id), memory_(kClientFileBytes), file_(memory_.base()) {}

  // Posts a submission; returns its op_id.
  std::uint64_t Post(SubmissionEntry entry) {
    entry.op_id = ++op_id_;
    auto& tail = file_.header().submission_tail;
    const std::uint64_t at = tail.load();
    std::memcpy(static_cast<void*>(&file_.submissions()[at % 1024]), &entry,
                sizeof(entry));
    tail.store(at + 1);
    return op_id_;
  }

  std::optional<CompletionEntry> Reap() {
    ClientHeader& header = file_.header();
    const std::uint64_t head = header.completion_head.load();
    if (head == header.completion_tail.load()) return std::nullopt;
    CompletionEntry entry = file_.completions()[head % kCompletionEntries];
    header.completion_head.store(head + 1);
    return entry;
  }

  // The first offered grant of at least `length` bytes, taken.
  std::optional<std::uint32_t> TakeGrant(std::uint32_t length) {
    for (std::uint32_t i = 0; i < kGrantEntries; ++i) {
      GrantEntry& entry = file_.grants()[i];
      std::uint64_t state = entry.state.load();
      if (GrantStateOf(state) != GrantState::kGranted ||
          entry.slot_bytes < length) {
        continue;
      }
      entry.state.store(
          PackGrant(GrantSequenceOf(state), GrantState::kWriting));
      return i;
    }
    return std::nullopt;
  }

  void Pin(int place, SlotIndex slot) {
    file_.header().thread_table_mask.store(1);
    file_.thread_tables()[0].pins[place].exchange(slot.value() + 1ULL);
  }
  void Unpin(int place) { file_.thread_tables()[0].pins[place].store(0); }
  void Note(SlotIndex slot, std::uint64_t generation) {
    file_.header().thread_table_mask.store(1);
    ThreadTable& table = file_.thread_tables()[0];
    const std::uint64_t tail = table.note_tail.load();
    table.notes[tail % kThreadNotes].store(slot.value() | generation << 32);
    table.note_tail.store(tail + 1);
  }

  ClientId id() const { return id_; }
  ClientFile& file() { return file_; }
  char* base() const { return memory_.base(); }

 private:
  const ClientId id_;
  Pages memory_;
  ClientFile file_;
  std::uint64_t op_id_ = 0;
};

class TenantBench {
 public:
  static TenantOptions SmallOptions() {
    TenantOptions options;
    options.name = "test";
    options.id = TenantId(7);
    options.dram_bytes = 16 << 20;  // four extents
    options.slots = 4096;
    options.index_entries = 65536;
    options.hold_quota_bytes = 8 << 20;
    options.grant_quota_bytes = 8 << 20;
    return options;
  }

  explicit TenantBench(const TenantOptions& options = SmallOptions(),
                       std::unique_ptr<tiering::Policy> policy = nullptr)
      : index_memory_(IndexWriter::BytesFor(
            IndexWriter::ShapeFor(options.slots, options.index_entries))),
        data_memory_(options.dram_bytes),
        node_(&store),
        tenant(policy == nullptr
                   ? node_.AddTenant(options, memory())
                   : node_.AddTenant(options, memory(), std::move(policy))) {}

  std::unique_ptr<TestClient> Attach(bool is_port = false) {
    auto client = std::make_unique<TestClient>(ClientId(++clients_));
    ClientIdentity identity;
    identity.is_port = is_port;
    identity.id = client->id();
    identity.name = "client " + std::to_string(clients_);
    identity.pid = 1000 + static_cast<std::int32_t>(clients_);
    tenant->AddClient(identity, client->base(), now);
    return client;
  }

  // Another tenant (8) of the same node and store, and a client of it.
  std::unique_ptr<TestClient> AttachToSecondTenant() {
    TenantOptions options = SmallOptions();
    options.name = "second";
    options.id = TenantId(8);
    second_index_ = std::make_unique<Pages>(IndexWriter::BytesFor(
        IndexWriter::ShapeFor(options.slots, options.index_entries)));
    second_data_ = std::make_unique<Pages>(options.dram_bytes);
    second_tenant = node_.AddTenant(
        options, {second_index_->base(), second_data_->base(), 99});
    auto client = std::make_unique<TestClient>(ClientId(++clients_));
    ClientIdentity identity;
    identity.id = client->id();
    second_tenant->AddClient(identity, client->base(), now);
    return client;
  }
  void DrainSecondTenant(TestClient* client) {
    second_tenant->Drain(second_tenant->clients().at(client->id()).get(), 64,
                         now);
  }

  // Other nodes: `pool`.
  void JoinCluster() { tenant->UsePool(&pool, MemoryId(1)); }
  bool FinishPoolOne() {
    const auto done = pool.FinishOne();
    node_.TakePoolCompletions(done, now);
    return !done.empty();
  }

  // Everything that is ready to happen, happens; store and pool too.
  void Settle(TestClient* client) {
    for (int i = 0; i < 100; ++i) {
      const bool moved = Drain(client) != 0;
      store.FinishAll();
      bool finished = node_.PollStore(now) != 0;
      while (FinishPoolOne()) finished = true;
      if (!finished && !moved && store.pending() == 0) break;
    }
    tenant->Tick(now);
    store.FinishAll();
    node_.PollStore(now);
    while (FinishPoolOne()) {
    }
  }
  std::size_t Drain(TestClient* client) {
    auto found = tenant->clients().find(client->id());
    return found == tenant->clients().end()
               ? 0
               : tenant->Drain(found->second.get(), 64, now);
  }
  void PollStore() { node_.PollStore(now); }
  void Advance(DurationNs by) {
    now += by;
    tenant->Tick(now);
  }

  void PostWant(TestClient* client, std::uint32_t length,
                TimeNs deadline = kNoDeadline) {
    SubmissionEntry want = {};
    want.op = Op::kWantGrants;
    want.length = length;
    want.slot = 1;
    want.deadline_ns = deadline;
    client->Post(want);
    Drain(client);
  }

  // Asks for room, writes `bytes`, publishes; the op_id, or nothing when there
  // was no grant (the completion of the request is in `refused`).
  std::optional<std::uint64_t> PostPut(TestClient* client, const Key& key,
                                       const std::string& bytes,
                                       BlockClass block_class, Ack ack,
                                       TimeNs deadline = kNoDeadline) {
    const auto length = static_cast<std::uint32_t>(bytes.size());
    auto grant = client->TakeGrant(length);
    if (!grant.has_value()) {
      PostWant(client, length);
      grant = client->TakeGrant(length);
      if (!grant.has_value()) return std::nullopt;
      refused = client->Reap();
    }
    GrantEntry& entry = client->file().grants()[*grant];
    std::memcpy(data_memory_.base() + entry.data_offset, bytes.data(), length);
    SubmissionEntry put = {};
    put.op = Op::kPublish;
    put.grant = *grant;
    put.sequence = GrantSequenceOf(entry.state.load());
    put.key = key;
    put.length = length;
    put.block_class = block_class;
    put.ack = ack;
    put.deadline_ns = deadline;
    const std::uint64_t op = client->Post(put);
    Drain(client);
    return op;
  }

  std::uint64_t PostFetch(TestClient* client, const Key& key,
                          TimeNs deadline = kNoDeadline) {
    SubmissionEntry fetch = {};
    fetch.op = Op::kFetch;
    fetch.key = key;
    fetch.deadline_ns = deadline;
    const std::uint64_t op = client->Post(fetch);
    Drain(client);
    return op;
  }
  void PostRelease(TestClient* client, const CompletionEntry& held) {
    SubmissionEntry release = {};
    release.op = Op::kRelease;
    release.slot = held.slot;
    release.sequence = held.generation;
    client->Post(release);
    Drain(client);
  }

  IndexReader reader() const { return IndexReader(index_memory_.base()); }
  std::string BytesIn(SlotIndex slot) const {
    const Place place = reader().slot(slot).LoadPlace();
    return std::string(data_memory_.base() + place.data_offset(),
                       place.length());
  }

  // Of a slot that need not be published any more.
  std::string BytesAt(std::uint64_t data_offset, std::size_t length) const {
    return std::string(data_memory_.base() + data_offset, length);
  }

  FakeStore store;
  FakePool pool;
  TimeNs now = kSecondNs;
  std::optional<CompletionEntry> refused;
  Tenant* second_tenant = nullptr;

 private:
  Tenant::Memory memory() const {
    return {index_memory_.base(), data_memory_.base(), 99};
  }

  std::unique_ptr<Pages> second_index_;
  std::unique_ptr<Pages> second_data_;
  Pages index_memory_;
  Pages data_memory_;
  Node node_;
  std::uint64_t clients_ = 0;

 public:
  Tenant* const tenant;
};

inline Key TestKey(std::uint64_t n) {
  return Key::FromWords(n * 0x9e3779b97f4a7c15ULL + 1, n ^ 0x5bd1e995);
}

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_MEMD_TENANT_BENCH_H_
