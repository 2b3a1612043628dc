// libagentmem in C++20: a header-only layer over agentmem.h.
//
//   using namespace std::chrono_literals;
//   auto client = agentmem::Client::Connect();
//   if (!client) return Complain(client.status().message());
//   auto sequence = client->Sequence({.model = "llama-3-8b"});
//   auto hit = sequence.Match(tokens);
//   auto blocks = client->Get(hit.keys(), 50ms);
//   auto put = client->Put(sequence.Next(tokens), bytes, Ack::kDurable);
//   if (auto status = put.Wait(1s); !status) ...
//
// Ownership: a Client owns the connection; Blocks, Put, Reservation, Sequence
//   and Agent borrow it and must end before it. All are move only.
// Threads: Client, Agent and Region are thread-safe; each of the others is used
//   by one thread at a time. A forked child must not use them
//   (FAILED_PRECONDITION).
// Errors: Status and Result (agentmem/status.hpp), no exceptions.
// Cost: that of agentmem.h; Get of one block allocates nothing.
//
// For programs outside agentmem's own tree, and for those inside that include
// nothing of proto/: its namespace has other types of the same names.
#ifndef AGENTMEM_AGENTMEM_HPP_
#define AGENTMEM_AGENTMEM_HPP_

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agentmem/agentmem.h"
#include "agentmem/agents.hpp"
#include "agentmem/blocks.hpp"
#include "agentmem/put.hpp"
#include "agentmem/region.hpp"
#include "agentmem/reservation.hpp"
#include "agentmem/sequence.hpp"
#include "agentmem/status.hpp"
#include "agentmem/types.hpp"

namespace agentmem {
inline namespace v0 {

struct ConnectOptions {
  std::string socket_path = {};  // empty: see agentmem_options
  std::string tenant = {};       // empty: the user's default tenant
  std::string name = {};         // empty: the program's name
  Timeout timeout = std::chrono::seconds(5);
};

class Client {
 public:
  static Result<Client> Connect(const ConnectOptions& options = {}) {
    const auto or_null = [](const std::string& text) {
      return text.empty() ? nullptr : text.c_str();
    };
    const agentmem_options raw = {sizeof(raw),
                                  0,
                                  or_null(options.socket_path),
                                  or_null(options.tenant),
                                  or_null(options.name),
                                  TimeoutNs(options.timeout)};
    agentmem_client* client = nullptr;
    agentmem_error error;
    const agentmem_code code = agentmem_connect(&raw, &client, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return Client(client);
  }
  ~Client() { agentmem_close(client_); }
  Client(Client&& other) noexcept
      : client_(std::exchange(other.client_, nullptr)) {}
  Client& operator=(Client&& other) noexcept {
    if (this == &other) return *this;
    agentmem_close(client_);
    client_ = std::exchange(other.client_, nullptr);
    return *this;
  }

  // For calls of the C ABI on the same connection.
  agentmem_client* raw() const { return client_; }

  // Blocks in DRAM are pinned at once; for others memd is asked.
  Blocks Get(std::span<const Key> keys, Timeout timeout = kDefaultTimeout) {
    Blocks blocks(client_, keys.size());
    agentmem_error error;
    const agentmem_code code =
        agentmem_get(client_, keys.data(), keys.size(), TimeoutNs(timeout),
                     blocks.spans(), &error);
    if (code != AGENTMEM_OK) blocks.status_ = Status::From(code, error);
    return blocks;
  }
  Blocks Get(const Key& key, Timeout timeout = kDefaultTimeout) {
    return Get(std::span<const Key>(&key, 1), timeout);
  }

  // The highest tier that has each key.
  Result<std::vector<Tier>> Contains(std::span<const Key> keys) {
    static_assert(sizeof(Tier) == sizeof(agentmem_tier));
    std::vector<agentmem_tier> found(keys.size());
    agentmem_error error;
    const agentmem_code code = agentmem_contains(
        client_, keys.data(), keys.size(), found.data(), &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    std::vector<Tier> tiers(found.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      tiers[i] = static_cast<Tier>(found[i]);
    }
    return tiers;
  }
  // Asks for blocks to be brought into DRAM; does not wait for them.
  Status Prefetch(std::span<const Key> keys) {
    agentmem_error error;
    return Status::From(
        agentmem_prefetch(client_, keys.data(), keys.size(), &error), error);
  }

  ::agentmem::Put Put(const Key& key, Bytes bytes, Ack ack = Ack::kVisible,
                      BlockClass block_class = BlockClass::kCache,
                      Timeout timeout = kDefaultTimeout) {
    agentmem_error error;
    agentmem_put_id id = 0;
    const agentmem_code code = agentmem_put(
        client_, &key, bytes.data(), bytes.size(),
        static_cast<agentmem_class>(block_class),
        static_cast<agentmem_ack>(ack), TimeoutNs(timeout), &id, &error);
    return ::agentmem::Put(client_, id, Status::From(code, error));
  }
  // For Put(sequence.Next(tokens), ...): an error there is this put's.
  ::agentmem::Put Put(const Result<Key>& key, Bytes bytes,
                      Ack ack = Ack::kVisible,
                      BlockClass block_class = BlockClass::kCache,
                      Timeout timeout = kDefaultTimeout) {
    if (!key.ok()) return ::agentmem::Put(key.status());
    return Put(*key, bytes, ack, block_class, timeout);
  }
  Result<Reservation> Reserve(std::uint64_t length,
                              Timeout timeout = kDefaultTimeout) {
    agentmem_reservation room = {};
    agentmem_error error;
    const agentmem_code code =
        agentmem_reserve(client_, length, TimeoutNs(timeout), &room, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return Reservation(client_, room);
  }

  // Objects: immutable bytes of any size under a name; all readable, or none.
  Status PutObject(const std::string& name, Bytes bytes,
                   Ack ack = Ack::kVisible,
                   BlockClass block_class = BlockClass::kState,
                   Timeout timeout = kDefaultTimeout) {
    agentmem_error error;
    return Status::From(
        agentmem_object_put(client_, name.c_str(), bytes.data(), bytes.size(),
                            static_cast<agentmem_class>(block_class),
                            static_cast<agentmem_ack>(ack), TimeoutNs(timeout),
                            &error),
        error);
  }
  Result<std::uint64_t> ObjectSize(const std::string& name,
                                   Timeout timeout = kDefaultTimeout) {
    std::uint64_t length = 0;
    agentmem_error error;
    const agentmem_code code = agentmem_object_size(
        client_, name.c_str(), TimeoutNs(timeout), &length, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return length;
  }
  // Copies what exists of [offset, offset + into.size()); how many bytes.
  Result<std::uint64_t> ReadObject(const std::string& name,
                                   std::uint64_t offset,
                                   std::span<std::byte> into,
                                   Timeout timeout = kDefaultTimeout) {
    std::uint64_t length = 0;
    agentmem_error error;
    const agentmem_code code =
        agentmem_object_get(client_, name.c_str(), offset, into.data(),
                            into.size(), TimeoutNs(timeout), &length, &error);
    if (code != AGENTMEM_OK) return Status::From(code, error);
    return length;
  }
  Result<std::vector<std::byte>> GetObject(const std::string& name,
                                           Timeout timeout = kDefaultTimeout) {
    const Result<std::uint64_t> size = ObjectSize(name, timeout);
    if (!size.ok()) return size.status();
    std::vector<std::byte> bytes(*size);
    const Result<std::uint64_t> read = ReadObject(name, 0, bytes, timeout);
    if (!read.ok()) return read.status();
    bytes.resize(*read);
    return bytes;
  }

  // An error of opening it is the answer of each of its operations.
  ::agentmem::Sequence Sequence(const SequenceOptions& options) {
    return ::agentmem::Sequence(client_, options);
  }

  // Agents and their regions: mutable memory with versions.
  ::agentmem::Agents Agents() { return ::agentmem::Agents(client_); }

 private:
  explicit Client(agentmem_client* client) : client_(client) {}

  agentmem_client* client_;
};

}  // namespace v0
}  // namespace agentmem

#endif  // AGENTMEM_AGENTMEM_HPP_
