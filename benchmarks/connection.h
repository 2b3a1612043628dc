// The C ABI for setting a benchmark up: what fails becomes a Status. What is
// measured calls the ABI itself.
//
// Ownership: owns the client. Threads: thread-compatible. Errors: the ABI's
// codes and messages. Cost: see agentmem.h.
#ifndef AGENTMEM_BENCHMARKS_CONNECTION_H_
#define AGENTMEM_BENCHMARKS_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agentmem/agentmem.h"
#include "base/clock.h"
#include "base/status.h"
#include "proto/types.h"

namespace agentmem::bench {

inline constexpr std::uint64_t kTimeoutNs = 30 * kSecondNs;

inline absl::Status ToStatus(agentmem_code code, const agentmem_error& error) {
  if (code == AGENTMEM_OK) return absl::OkStatus();
  return MakeStatus(static_cast<absl::StatusCode>(code), error.message);
}

// The `number`th key of a set; sets differ in `set`.
inline agentmem_key KeyOf(std::uint32_t set, std::uint32_t number) {
  return agentmem_key{number / 64, {number, number * 2654435761u, set}};
}
inline Key ToKey(const agentmem_key& key) {
  return Key{key.group, {key.name[0], key.name[1], key.name[2]}};
}

class Connection {
 public:
  static absl::StatusOr<Connection> Open(const std::string& socket_path) {
    agentmem_options options = {};
    options.size = sizeof(options);
    options.socket_path = socket_path.c_str();
    options.name = "agentmem_bench";
    agentmem_client* client = nullptr;
    agentmem_error error = {};
    AGENTMEM_RETURN_IF_ERROR(
        ToStatus(agentmem_connect(&options, &client, &error), error));
    return Connection(client);
  }

  agentmem_client* get() const { return client_.get(); }

  // Puts and waits for the acknowledgement.
  absl::Status Put(const agentmem_key& key, const std::vector<char>& bytes,
                   std::size_t length, agentmem_class block_class,
                   agentmem_ack ack) const {
    agentmem_error error = {};
    agentmem_put_id put = 0;
    AGENTMEM_RETURN_IF_ERROR(
        ToStatus(agentmem_put(get(), &key, bytes.data(), length, block_class,
                              ack, kTimeoutNs, &put, &error),
                 error));
    return ToStatus(agentmem_put_wait(get(), put, kTimeoutNs, &error), error);
  }

  absl::StatusOr<agentmem_tier> TierOf(const agentmem_key& key) const {
    agentmem_error error = {};
    agentmem_tier tier = AGENTMEM_TIER_NONE;
    AGENTMEM_RETURN_IF_ERROR(
        ToStatus(agentmem_contains(get(), &key, 1, &tier, &error), error));
    return tier;
  }

 private:
  struct Closer {
    void operator()(agentmem_client* client) const { agentmem_close(client); }
  };
  explicit Connection(agentmem_client* client) : client_(client) {}

  std::unique_ptr<agentmem_client, Closer> client_;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_CONNECTION_H_
