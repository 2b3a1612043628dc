// Where a cluster's keys are in etcd:
//
//   /agentmem/CLUSTER/nodes/NODE    memd/cluster/etcd_membership.h
//   /agentmem/CLUSTER/refs/NAME     memd/cluster/etcd_ref_store.h; NAME is any
//                                   bytes
//   /agentmem/CLUSTER/compaction    memd/cluster/etcd_compactor.h
#ifndef AGENTMEM_MEMD_CLUSTER_CLUSTER_KEYS_H_
#define AGENTMEM_MEMD_CLUSTER_CLUSTER_KEYS_H_

#include <string>

#include "absl/status/status.h"
#include "base/status.h"

namespace agentmem {

inline constexpr std::size_t kClusterNameBytesMax = 63;

inline std::string NodesPrefix(const std::string& cluster) {
  return "/agentmem/" + cluster + "/nodes/";
}
inline std::string RefsPrefix(const std::string& cluster) {
  return "/agentmem/" + cluster + "/refs/";
}
inline std::string CompactionKey(const std::string& cluster) {
  return "/agentmem/" + cluster + "/compaction";
}

// `what` is "the cluster's name" or "the node's name".
inline absl::Status CheckClusterName(const std::string& what,
                                     const std::string& name) {
  constexpr const char* kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  if (!name.empty() && name.size() <= kClusterNameBytesMax &&
      name.find_first_not_of(kAllowed) == std::string::npos) {
    return absl::OkStatus();
  }
  return InvalidArgument(what + " is \"" + name + "\": allowed are 1 to " +
                         std::to_string(kClusterNameBytesMax) +
                         " letters, digits, '.', '_' and '-'");
}

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_CLUSTER_KEYS_H_
