#include "tests/unit/pool/pool_runs.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "memd/pool/cipher_keys.h"

namespace agentmem {
namespace {

std::uint64_t Mix(std::uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
  return bits ^ (bits >> 31);
}

}  // namespace

PoolRun& PoolRuns::Start(const std::string& name, std::uint64_t export_bytes,
                         const std::string& rack) {
  auto run = std::make_unique<PoolRun>();
  run->name = name;
  run->rack = rack;
  run->instance = next_instance_++;
  run->export_bytes = export_bytes;
  run->transport = MakeTransport(name);
  PoolNodeOptions options;
  options.node = name;
  options.rack = rack;
  options.instance = run->instance;
  options.repair_bytes_per_second = repair_bytes_per_second;
  if (export_bytes != 0) {
    run->lent.reset(new char[export_bytes]);
    const std::span<char> lent(run->lent.get(), export_bytes);
    const auto registered =
        run->transport->Register(lent, RemoteAccess::kReadWrite);
    AGENTMEM_CHECK(registered.ok());
    run->remote = registered->remote;
    options.export_memory = registered->id;
    run->exports = std::make_unique<ExportPool>(lent, run->instance << 40 | 1);
  }
  run->node = std::make_unique<PoolNode>(options, run->transport.get(),
                                         run->exports.get());
  run->memory.reset(new char[kMemoryBytes]);
  const auto memory =
      run->node->Register(std::span(run->memory.get(), kMemoryBytes));
  AGENTMEM_CHECK(memory.ok());
  run->memory_id = *memory;
  return *(runs_[name] = std::move(run));
}

void PoolRuns::Seal(const std::string& name, unsigned char secret) {
  CipherKeys keys;
  CipherKeys::Secret bytes;
  bytes.fill(secret);
  AGENTMEM_CHECK(keys.Add(KeyId(1), bytes).ok());
  auto cipher =
      BlockCipher::Make(std::make_shared<const CipherKeys>(std::move(keys)));
  AGENTMEM_CHECK(cipher.ok());
  PoolRun& run = at(name);
  run.sealing_memory.reset(new char[Sealing::kMemoryBytes]);
  const std::span<char> memory(run.sealing_memory.get(), Sealing::kMemoryBytes);
  const auto registered = run.transport->Register(memory, RemoteAccess::kNone);
  AGENTMEM_CHECK(registered.ok());
  run.sealing =
      std::make_unique<Sealing>(std::move(*cipher), memory, registered->id);
  run.node->UseSealing(run.sealing.get());
}

void PoolRuns::End(const std::string& name) {
  runs_.at(name)->node = nullptr;
  runs_.erase(name);
}

void PoolRuns::EndAll() {
  for (auto& [name, run] : runs_) run->node = nullptr;
  runs_.clear();
}

PoolPeer PoolRuns::CardFor(const std::string& of, const std::string& reader) {
  const PoolRun& run = at(of);
  const std::uint64_t other = at(reader).instance;
  PoolPeer card;
  card.node = run.name;
  card.instance = run.instance;
  card.rack = run.rack;
  card.fabric_address = run.transport->address();
  card.token = Mix(run.instance << 32 | other);
  card.token_given = Mix(other << 32 | run.instance);
  card.export_address = run.remote.address;
  card.export_key = run.remote.key;
  card.export_bytes = run.export_bytes;
  card.store_version = run.store_version;
  card.store_bytes = run.store_bytes;
  card.store_path = "/disk/of/" + run.name;
  return card;
}

void PoolRuns::Introduce(const std::string& a, const std::string& b) {
  // (A node that stands still hears nothing; that it is a member is known.)
  if (!stopped(a)) at(a).node->AddPeer(CardFor(b, a), now());
  if (!stopped(b)) at(b).node->AddPeer(CardFor(a, b), now());
}

void PoolRuns::IntroduceAll() {
  for (const auto& [a, run] : runs_) {
    for (const auto& [b, other] : runs_) {
      if (a < b) Introduce(a, b);
    }
  }
}

void PoolRuns::PollAll() {
  std::array<PoolCompletion, 64> out;
  const bool tick = now() >= next_tick_;
  if (tick) next_tick_ = now() + kTick;
  for (auto& [name, run] : runs_) {
    if (stopped(name)) continue;
    const std::size_t count = run->node->Poll(now(), out);
    run->done.insert(run->done.end(), out.begin(),
                     out.begin() + static_cast<std::ptrdiff_t>(count));
    std::array<PoolStoreDone, 64> stored;
    const std::size_t ended = run->node->TakeStoreDone(stored);
    run->store_done.insert(run->store_done.end(), stored.begin(),
                           stored.begin() + static_cast<std::ptrdiff_t>(ended));
    if (tick) run->node->Tick(now());
  }
}

std::uint64_t PoolRuns::Submit(const std::string& name, PoolOp op) {
  op.ticket = next_ticket_++;
  op.memory = at(name).memory_id;
  if (op.bytes == nullptr) op.bytes = at(name).memory.get();
  AGENTMEM_CHECK(at(name).node->Submit(op));
  return op.ticket;
}

PoolCompletion PoolRuns::Do(const std::string& name, PoolOp op) {
  const std::uint64_t ticket = Submit(name, op);
  PoolCompletion completion;
  const auto ended = [&] {
    auto& done = at(name).done;
    for (auto i = done.begin(); i != done.end(); ++i) {
      if (i->ticket != ticket) continue;
      completion = *i;
      done.erase(i);
      return true;
    }
    return false;
  };
  AGENTMEM_CHECK(RunFor(60 * kSecondNs, ended));
  return completion;
}

std::string PoolRuns::CheckInvariants() const {
  for (const auto& [name, run] : runs_) {
    const std::string wrong = run->node->CheckInvariants();
    if (!wrong.empty()) return name + ": " + wrong;
  }
  return "";
}

void FillBlock(char* bytes, std::uint32_t length, const Key& key,
               std::uint64_t salt) {
  std::uint64_t word = salt;
  for (std::uint32_t at = 0; at < length; at += 8) {
    std::memcpy(bytes + at, &word, std::min<std::uint32_t>(8, length - at));
    word = Mix(HashKey(key) + salt * 31 + at) + at;
  }
}

std::uint64_t SaltOf(const char* bytes, std::uint32_t length, const Key& key) {
  std::uint64_t salt = 0;
  AGENTMEM_CHECK(length >= 8);
  std::memcpy(&salt, bytes, 8);
  std::uint64_t word = salt;
  for (std::uint32_t at = 0; at < length; at += 8) {
    if (std::memcmp(bytes + at, &word,
                    std::min<std::uint32_t>(8, length - at)) != 0) {
      return 0;
    }
    word = Mix(HashKey(key) + salt * 31 + at) + at;
  }
  return salt;
}

}  // namespace agentmem
