// A peer in a process of its own, to be stopped and killed.
//
// libfabric must not be used before a fork: so this program runs itself again,
// with one (disabled) test that serves memory until its socket ends.
#ifndef AGENTMEM_TESTS_UNIT_TRANSPORT_FABRIC_PEER_PROCESS_H_
#define AGENTMEM_TESTS_UNIT_TRANSPORT_FABRIC_PEER_PROCESS_H_

#include <sys/types.h>

#include <string>

#include "base/unique_fd.h"
#include "memd/transport/fabric_transport.h"

namespace agentmem {

class FabricPeerProcess {
 public:
  static constexpr std::uint64_t kMemoryBytes = 32 << 20;

  explicit FabricPeerProcess(const FabricOptions& options);
  ~FabricPeerProcess();

  const std::string& address() const { return address_; }
  const RemoteMemory& memory() const { return memory_; }
  // What its memory holds at `offset`.
  static char ByteAt(std::uint64_t offset) {
    return static_cast<char>(offset * 131 + (offset >> 8) * 7 + 1);
  }

  void Stop();  // returns when it stands still
  void Continue();
  void Kill();  // returns when it is gone

 private:
  pid_t pid_ = -1;
  UniqueFd socket_;
  std::string address_;
  RemoteMemory memory_;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_TRANSPORT_FABRIC_PEER_PROCESS_H_
