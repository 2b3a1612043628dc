// A peer that speaks libfabric as it pleases: what no transport of ours would
// send, with keys that it was given or has heard of.
//
// In the test's process, over the product's domain and endpoint; moved on by
// Poll alone.
#ifndef AGENTMEM_TESTS_UNIT_TRANSPORT_FABRIC_RAW_PEER_H_
#define AGENTMEM_TESTS_UNIT_TRANSPORT_FABRIC_RAW_PEER_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "memd/transport/fabric_endpoint.h"
#include "memd/transport/fabric_provider.h"
#include "memd/transport/transport.h"

namespace agentmem {

class FabricRawPeer {
 public:
  explicit FabricRawPeer(const FabricOptions& options);

  // The endpoint's name in a transport's address, and back.
  static std::string NameIn(const std::string& address);
  std::string address() const;
  // A name like `like`, of another TCP port.
  static std::string WithPort(std::string like, std::uint16_t port);

  fi_addr_t Insert(const std::string& name);

  // Each posts one operation, or not (then false: Poll, and again).
  bool WriteWithData(fi_addr_t to, const RemoteMemory& remote,
                     std::uint64_t bytes);
  bool SendTagged(fi_addr_t to, std::uint64_t tag, std::uint64_t bytes);
  bool Send(fi_addr_t to, std::uint64_t bytes);
  void Poll();

  std::uint64_t completed() const { return completed_; }
  std::uint64_t failed() const { return failed_; }

 private:
  static constexpr std::uint64_t kBufferBytes = 64 << 10;
  static constexpr std::size_t kCompletions = 256;
  bool Posted(ssize_t result);

  std::string provider_;
  std::unique_ptr<FabricDomain> domain_;
  FabricBuffer buffer_;
  FabricHandle<fid_mr> writable_;
  std::unique_ptr<FabricEndpoint> endpoint_;
  fi_context2 contexts_[kCompletions] = {};
  std::uint64_t posted_ = 0;
  std::uint64_t completed_ = 0;
  std::uint64_t failed_ = 0;
};

// The TCP ports that this process listens on.
std::set<std::uint16_t> ListeningPorts();

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_TRANSPORT_FABRIC_RAW_PEER_H_
