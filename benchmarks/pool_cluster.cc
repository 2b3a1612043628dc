#include "benchmarks/pool_cluster.h"

#include <sys/stat.h>

#include <cstdio>
#include <fstream>
#include <random>

#include "base/clock.h"
#include "base/status.h"
#include "benchmarks/fabric_view.h"
#include "benchmarks/free_ports.h"

namespace agentmem::bench {
namespace {

constexpr DurationNs kPatienceNs = 60 * kSecondNs;

// One key, of the system's random numbers, that its owner alone may read.
absl::Status WriteKeys(const std::string& path) {
  std::random_device random;
  std::string digits;
  while (digits.size() < 64) {
    char word[9];
    std::snprintf(word, sizeof(word), "%08x", random());
    digits += word;
  }
  std::ofstream file(path);
  if (::chmod(path.c_str(), 0600) != 0) return ErrnoStatus("chmod " + path);
  file << "1 " << digits << "\n";
  file.close();
  return file ? absl::OkStatus() : Unavailable("cannot write " + path);
}

// `keys`: a file's path, or empty.
std::string Tables(const PoolClusterOptions& options,
                   const std::vector<std::uint16_t>& ports, std::size_t self,
                   const std::string& keys) {
  std::string peers;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    if (i != 0) peers += ", ";
    peers += "\"" + PoolCluster::NodeName(i) +
             "=127.0.0.1:" + std::to_string(ports[i]) + "\"";
  }
  const std::string known = options.etcd.empty()
                                ? "peers = [" + peers + "]\n"
                                : "etcd = [\"" + options.etcd + "\"]\n";
  std::string text = "[cluster]\nnode = \"" + PoolCluster::NodeName(self) +
                     "\"\nlisten = \"127.0.0.1:" + std::to_string(ports[self]) +
                     "\"\n" + known + "insecure = true\n" +
                     "[pool]\nspin_us = " + std::to_string(options.spin_us) +
                     "\n";
  if (self != 0 || options.first_exports) {
    text += "export = " + std::to_string(options.export_bytes) + "\n";
  }
  if (!keys.empty()) text += "keys = \"" + keys + "\"\n";
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PoolCluster>> PoolCluster::Start(
    const PoolClusterOptions& options) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<std::uint16_t> ports,
                            FreePorts(options.nodes));
  std::unique_ptr<PoolCluster> cluster(new PoolCluster());
  cluster->nodes_.resize(options.nodes);
  std::string keys;
  if (options.sealed) {
    AGENTMEM_ASSIGN_OR_RETURN(cluster->keys_, TemporaryDirectory::Make());
    keys = cluster->keys_->path() + "/keys";
    AGENTMEM_RETURN_IF_ERROR(WriteKeys(keys));
  }
  // The first one last: it finds all others at its first try.
  for (std::size_t i = options.nodes; i-- > 0;) {
    MemdOptions memd;
    memd.program = options.program;
    memd.dram_bytes = options.dram_bytes;
    memd.slots = options.slots;
    memd.tables = Tables(options, ports, i, keys);
    AGENTMEM_ASSIGN_OR_RETURN(auto node, MemdChild::Start(memd));
    cluster->nodes_[i] = std::move(node);
  }
  AGENTMEM_RETURN_IF_ERROR(cluster->AwaitPeers());
  return cluster;
}

std::string PoolCluster::NodeName(std::size_t index) {
  return std::string(1, static_cast<char>('a' + index));
}

absl::Status PoolCluster::AwaitPeers() const {
  const TimeNs give_up = MonotonicNowNs() + kPatienceNs;
  for (const auto& node : nodes_) {
    if (node->pid() < 0) continue;
    for (;;) {
      AGENTMEM_ASSIGN_OR_RETURN(const FabricView view, ViewFabric(*node));
      if (view.peers_up.size() + 1 == nodes_.size()) break;
      if (MonotonicNowNs() > give_up) {
        return DeadlineExceeded(node->socket_path() + " has " +
                                std::to_string(view.peers_up.size()) + " of " +
                                std::to_string(nodes_.size() - 1) +
                                " peers after 60 s");
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace agentmem::bench
