// memd's configuration: one TOML file, or defaults that work without one.
//
// A wrong file is refused at start: the message names file, field, value and
// what is allowed; an unknown field is wrong. Sizes are integers (bytes) or
// strings ("512MiB").
//
// Ownership: a value. Threads: thread-compatible. Errors: INVALID_ARGUMENT,
// NOT_FOUND (no such file). Cost: at start only.
#ifndef AGENTMEM_MEMD_CONFIG_H_
#define AGENTMEM_MEMD_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace agentmem {

struct TenantConfig {
  std::string name = "default";
  std::vector<std::uint32_t> users;  // uids; empty: the one that memd runs as
  std::uint64_t dram_bytes = 0;
  std::uint64_t slots = 0;          // 0: from dram_bytes
  std::uint64_t index_entries = 0;  // 0: from slots
  std::uint64_t store_quota_bytes = 0;
  std::uint64_t region_quota_bytes = 0;  // of one region; 0: what formats allow
  std::uint64_t hold_quota_bytes = 0;    // a client; 0: a quarter of dram
  std::uint64_t grant_quota_bytes = 0;   // a client; 0: a sixteenth of dram
};

struct Config {
  std::string state_directory;
  std::string socket_path;
  std::string admin_socket_path;  // empty: admin.sock beside socket_path
  std::uint64_t clients_max = 4096;
  std::uint64_t spin_us = 20;
  std::uint64_t collect_ms = 10'000;  // garbage of regions waits for so long
  std::uint64_t store_read_threads = 2;
  std::uint64_t store_write_threads = 1;
  std::vector<TenantConfig> tenants;
};

// What decides the defaults; main reads it from the system.
struct Surroundings {
  std::uint32_t uid = 0;
  std::string home;             // $HOME
  std::string xdg_state_home;   // $XDG_STATE_HOME
  std::string xdg_runtime_dir;  // $XDG_RUNTIME_DIR
  std::string state_directory;  // $STATE_DIRECTORY, as systemd sets it
  std::uint64_t memory_bytes = 0;
};

inline constexpr std::uint64_t kDramBytesMin = 16ULL << 20;
inline constexpr std::uint64_t kDramBytesMax = 16ULL << 40;

Config DefaultConfig(const Surroundings& surroundings);

// `text` as of file `name`, on top of the defaults.
absl::StatusOr<Config> ParseConfig(const std::string& text,
                                   const std::string& name,
                                   const Surroundings& surroundings);
absl::StatusOr<Config> LoadConfig(const std::string& path,
                                  const Surroundings& surroundings);

// "512MiB" -> 536870912. Units B, KiB, MiB, GiB, TiB.
absl::StatusOr<std::uint64_t> ParseBytes(const std::string& text);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CONFIG_H_
