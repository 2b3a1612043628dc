// Where etcd is, and how memd shows who it is.
#ifndef AGENTMEM_MEMD_CLUSTER_ETCD_OPTIONS_H_
#define AGENTMEM_MEMD_CLUSTER_ETCD_OPTIONS_H_

#include <string>
#include <vector>

#include "base/clock.h"

namespace agentmem {

struct EtcdOptions {
  // "http://host:port" or "https://host:port"; all of one kind.
  std::vector<std::string> endpoints;
  // PEM files, for https. Of whom etcd's certificate must be, and memd's own
  // (both or neither of the last two).
  std::string ca_file;
  std::string certificate_file;
  std::string key_file;
};

// Half a second is ten times a slow disk's synced write, and what an election
// takes at etcd's defaults is 1 to 2 s: a call rides that out.
inline constexpr DurationNs kEtcdCallNs = 3 * kSecondNs;

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_ETCD_OPTIONS_H_
