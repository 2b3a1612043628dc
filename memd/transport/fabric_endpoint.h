// One endpoint of a domain, with an address vector and a completion queue of
// its own.
//
// Each link has one, so that an error which ends it ends nothing else; the
// transport has one more, which peers connect to.
//
// Ownership: owns libfabric's objects; borrows the domain. When it is shut,
// nothing touches the memory of what was posted on it; completions that the
// queue already holds may still be read. Threads: one at a time. Errors: as
// libfabric says. Cost: sockets or a queue pair, 1 ms and more.
#ifndef AGENTMEM_MEMD_TRANSPORT_FABRIC_ENDPOINT_H_
#define AGENTMEM_MEMD_TRANSPORT_FABRIC_ENDPOINT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "memd/transport/fabric_domain.h"

namespace agentmem {

class FabricEndpoint {
 public:
  static absl::StatusOr<std::unique_ptr<FabricEndpoint>> Open(
      FabricDomain* domain, std::size_t completions);
  ~FabricEndpoint();

  // Ends the connections before their endpoint, if they are TCP sockets: what
  // was posted then completes or fails while the queue is read. False: they are
  // not, and nothing has changed.
  bool Cut();
  // How many there are. 0 where they are no TCP sockets.
  std::size_t Connections() const;
  void Shut() { endpoint_.reset(); }
  bool shut() const { return endpoint_ == nullptr; }

  // What the provider calls this endpoint.
  absl::StatusOr<std::string> Name() const;
  // The peer of that name, as operations take it.
  absl::StatusOr<fi_addr_t> Insert(const std::string& name);

  fid_ep* get() const { return endpoint_.get(); }
  fid_cq* completions() const { return completions_.get(); }

 private:
  explicit FabricEndpoint(FabricDomain* domain) : domain_(domain) {}

  FabricDomain* const domain_;
  FabricHandle<fid_av> addresses_;
  FabricHandle<fid_cq> completions_;
  FabricHandle<fid_ep> endpoint_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_FABRIC_ENDPOINT_H_
