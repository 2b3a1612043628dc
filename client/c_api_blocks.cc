// The C ABI: connection and blocks.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "client/c_api.h"
#include "client/environment.h"

namespace agentmem::client {

agentmem_code Answer(const Outcome& outcome, agentmem_error* error) {
  const auto code = static_cast<agentmem_code>(outcome.code);
  if (!outcome.ok() && error != nullptr) {
    error->code = code;
    const std::size_t length =
        std::min(outcome.message.size(), sizeof(error->message) - 1);
    std::memcpy(error->message, outcome.message.data(), length);
    error->message[length] = '\0';
  }
  return code;
}

agentmem_code AnswerInvalid(const char* message, agentmem_error* error) {
  return Answer(Fail(Code::kInvalidArgument, message), error);
}

agentmem_code AnswerForked(agentmem_error* error) {
  return Answer(Fail(Code::kFailedPrecondition,
                     "the client belongs to the parent of this forked process; "
                     "connect a new one here"),
                error);
}

namespace {

agentmem_code AnswerUnknownSize(const char* what, std::uint32_t size,
                                std::size_t expected, agentmem_error* error) {
  return Answer(Fail(Code::kInvalidArgument,
                     std::string(what) + ": size is " + std::to_string(size) +
                         "; set it to sizeof(" + what + "), which is " +
                         std::to_string(expected) + " for this libagentmem"),
                error);
}

// Options of an older or newer caller: what it has and this code knows.
agentmem_code ReadOptions(const agentmem_options* options, Endpoint* endpoint,
                          std::uint64_t* timeout_ns, agentmem_error* error) {
  agentmem_options read = {};
  if (options != nullptr) {
    constexpr std::size_t kFirstVersion =
        offsetof(agentmem_options, timeout_ns) + sizeof(std::uint64_t);
    if (options->size < kFirstVersion) {
      return AnswerUnknownSize("agentmem_options", options->size,
                               sizeof(agentmem_options), error);
    }
    std::memcpy(&read, options,
                std::min<std::size_t>(options->size, sizeof(read)));
  }
  endpoint->socket_path =
      read.socket_path != nullptr ? read.socket_path : DefaultSocketPath();
  endpoint->tenant = read.tenant != nullptr ? read.tenant : "";
  endpoint->name = read.name != nullptr ? read.name : DefaultClientName();
  *timeout_ns = read.timeout_ns != 0
                    ? read.timeout_ns
                    : static_cast<std::uint64_t>(5 * kSecondNs);
  return AGENTMEM_OK;
}

}  // namespace
}  // namespace agentmem::client

using agentmem::client::Answer;
using agentmem::client::Deadline;
using agentmem::client::KeyOf;
using agentmem::client::KeysOf;
using agentmem::client::PutRequest;

extern "C" {

agentmem_code agentmem_connect(const agentmem_options* options,
                               agentmem_client** client,
                               agentmem_error* error) {
  AGENTMEM_REQUIRE(client != nullptr, "client is NULL", error);
  *client = nullptr;
  agentmem::client::Endpoint endpoint;
  std::uint64_t timeout_ns = 0;
  if (const agentmem_code code =
          agentmem::client::ReadOptions(options, &endpoint, &timeout_ns, error);
      code != AGENTMEM_OK) {
    return code;
  }
  agentmem::client::Process* process = agentmem::client::Process::Obtain();
  if (process == nullptr) {
    return Answer(
        agentmem::Fail(
            agentmem::Code::kFailedPrecondition,
            "the kernel has no MADV_WIPEONFORK; Linux 4.14 or later is needed"),
        error);
  }
  auto made = std::make_unique<agentmem_client>(process, std::move(endpoint));
  const agentmem::Outcome outcome =
      made->channel().Connect(Deadline::After(timeout_ns));
  if (outcome.ok()) *client = made.release();
  return Answer(outcome, error);
}

void agentmem_close(agentmem_client* client) {
  if (client == nullptr || client->Forked()) return;
  delete client;
}

agentmem_code agentmem_get(agentmem_client* client, const agentmem_key* keys,
                           size_t count, uint64_t timeout_ns,
                           agentmem_span* spans, agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  if (__builtin_expect((keys == nullptr || spans == nullptr) && count != 0,
                       0)) {
    return agentmem::client::AnswerInvalid("keys or spans is NULL", error);
  }
  if (__builtin_expect(
          client->reader().PinResident(KeysOf(keys), count, spans) == 0, 1)) {
    return AGENTMEM_OK;
  }
  return Answer(client->reader().FetchMissing(
                    KeysOf(keys), count, Deadline::After(timeout_ns), spans),
                error);
}

void agentmem_release(agentmem_client* client, agentmem_span* spans,
                      size_t count) {
  if (client == nullptr || spans == nullptr || client->Forked()) return;
  client->reader().Release(spans, count);
}

agentmem_code agentmem_hold(agentmem_client* client, agentmem_span* spans,
                            size_t count, uint64_t timeout_ns,
                            agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE(spans != nullptr || count == 0, "spans is NULL", error);
  return Answer(
      client->reader().Hold(spans, count, Deadline::After(timeout_ns)), error);
}

agentmem_code agentmem_contains(agentmem_client* client,
                                const agentmem_key* keys, size_t count,
                                agentmem_tier* tiers, agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE((keys != nullptr && tiers != nullptr) || count == 0,
                   "keys or tiers is NULL", error);
  return Answer(client->reader().Contains(KeysOf(keys), count, tiers), error);
}

agentmem_code agentmem_prefetch(agentmem_client* client,
                                const agentmem_key* keys, size_t count,
                                agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE(keys != nullptr || count == 0, "keys is NULL", error);
  return Answer(client->reader().Prefetch(KeysOf(keys), count), error);
}

agentmem_code agentmem_put(agentmem_client* client, const agentmem_key* key,
                           const void* data, uint64_t length,
                           agentmem_class block_class, agentmem_ack ack,
                           uint64_t timeout_ns, agentmem_put_id* put,
                           agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  if (put != nullptr) *put = 0;
  AGENTMEM_REQUIRE(key != nullptr, "key is NULL", error);
  const PutRequest request = {KeyOf(*key),
                              static_cast<agentmem::BlockClass>(block_class),
                              static_cast<agentmem::Ack>(ack), length};
  return Answer(
      client->writer().Put(request, data, Deadline::After(timeout_ns), put),
      error);
}

agentmem_code agentmem_reserve(agentmem_client* client, uint64_t length,
                               uint64_t timeout_ns,
                               agentmem_reservation* reservation,
                               agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  AGENTMEM_REQUIRE(reservation != nullptr, "reservation is NULL", error);
  return Answer(client->writer().Reserve(length, Deadline::After(timeout_ns),
                                         reservation),
                error);
}

agentmem_code agentmem_publish(agentmem_client* client,
                               agentmem_reservation* reservation,
                               const agentmem_key* key, uint64_t length,
                               agentmem_class block_class, agentmem_ack ack,
                               uint64_t timeout_ns, agentmem_put_id* put,
                               agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  if (put != nullptr) *put = 0;
  AGENTMEM_REQUIRE(reservation != nullptr, "reservation is NULL", error);
  if (key == nullptr) {
    client->writer().Abandon(reservation);
    return agentmem::client::AnswerInvalid("key is NULL", error);
  }
  const PutRequest request = {KeyOf(*key),
                              static_cast<agentmem::BlockClass>(block_class),
                              static_cast<agentmem::Ack>(ack), length};
  return Answer(client->writer().Publish(reservation, request,
                                         Deadline::After(timeout_ns), put),
                error);
}

void agentmem_abandon(agentmem_client* client,
                      agentmem_reservation* reservation) {
  if (client == nullptr || reservation == nullptr || client->Forked()) return;
  client->writer().Abandon(reservation);
}

agentmem_code agentmem_put_wait(agentmem_client* client, agentmem_put_id put,
                                uint64_t timeout_ns, agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  return Answer(client->writer().Wait(put, Deadline::After(timeout_ns)), error);
}

void agentmem_put_forget(agentmem_client* client, agentmem_put_id put) {
  if (client == nullptr || client->Forked()) return;
  client->writer().Forget(put);
}

}  // extern "C"
