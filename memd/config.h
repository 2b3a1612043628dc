// memd's configuration: one TOML file, or defaults that work without one.
//
// A wrong file is refused at start: the message names file, line, field, value
// and what is allowed; an unknown field is wrong. Sizes are integers (bytes) or
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
#include "memd/config_places.h"

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
  std::uint64_t hbm_quota_bytes = 0;     // of each device; 0: no limit
};

struct PeerConfig {
  std::string node;
  std::string address;  // host:port
};

// [cluster]: with whom this node shares memory. Without `listen` it is alone.
struct ClusterConfig {
  std::string name = "agentmem";
  std::string node;       // this one's name; default: the host's
  std::string listen;     // host:port of the peers' gRPC
  std::string advertise;  // what peers call; default: listen
  std::string rack;
  std::vector<PeerConfig> peers;  // a static list, if there is no etcd
  std::vector<std::string> etcd;  // its endpoints
  std::string etcd_authority;     // PEM files, for https
  std::string etcd_certificate;
  std::string etcd_key;
  std::string certificate;  // PEM files, for peers
  std::string key;
  std::string authority;
  bool insecure = false;  // peers are believed what they say

  bool enabled() const { return !listen.empty(); }
};

// [fabric]: what blocks travel over.
struct FabricConfig {
  std::string provider = "auto";
  bool require_rdma = false;
  std::string address;  // IP of the interface; default: the host of listen
  std::string domain;
};

// [pool]: memory that is lent and borrowed.
struct PoolConfig {
  std::uint64_t export_bytes = 0;  // that this node lends
  std::uint64_t repair_bytes_per_second = 256ULL << 20;
  std::uint64_t spin_us = 50;  // looks for answers this long before it sleeps
  // What is durable is in another node's memory too. Default: true, but with a
  // remote store, whose disk is another node's, false.
  bool durable = true;
  std::string keys;  // file of keys that blocks are sealed with; empty: none
};

// [store]: where this node's blocks are durable, and whose it takes.
struct StoreConfig {
  bool remote = false;  // kind: "disk", or "remote": other nodes' disks
  std::vector<std::string> nodes;  // remote: whose; empty: any that serves
  std::uint64_t serve_bytes = 0;  // disk: peers may keep blocks in it while all
                                  // take less; 0: none may
};

// [hbm]: blocks in the processes' device memory.
struct HbmConfig {
  std::uint64_t device_bytes = 0;  // of each device; 0: all of its memory
  std::uint64_t leave_ms = 1000;   // an agent's, to leave it
  std::uint64_t reload_ms = 1000;  // what it takes to bring an agent back
};

struct Config {
  std::string state_directory;
  std::string socket_path;
  std::string admin_socket_path;  // empty: admin.sock beside socket_path
  std::uint64_t clients_max = 4096;
  std::uint64_t spin_us = 20;
  std::uint64_t collect_ms = 10'000;  // garbage of regions waits for so long
  std::uint64_t stop_ms = 60'000;     // what is in memory alone is written down
  std::uint64_t store_read_threads = 2;
  std::uint64_t store_write_threads = 1;
  std::vector<TenantConfig> tenants;
  ClusterConfig cluster;
  FabricConfig fabric;
  PoolConfig pool;
  StoreConfig store;
  HbmConfig hbm;
  ConfigPlaces places;
  // What is accepted and not meant, perhaps; main logs them.
  std::vector<std::string> remarks;
};

// What decides the defaults; main reads it from the system.
struct Surroundings {
  std::uint32_t uid = 0;
  std::string home;             // $HOME
  std::string xdg_state_home;   // $XDG_STATE_HOME
  std::string xdg_runtime_dir;  // $XDG_RUNTIME_DIR
  std::string state_directory;  // $STATE_DIRECTORY, as systemd sets it
  std::string host_name;
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
