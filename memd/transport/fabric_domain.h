// A provider's domain with what all endpoints share: the descriptor to wait on,
// and the registered memory.
//
// A provider whose queues cannot be waited on (efa in libfabric 1.17) is looked
// at each millisecond instead: the descriptor is readable so often.
//
// Each endpoint has a completion queue of its own: one that is shared keeps, in
// libfabric 1.17, a pointer to an endpoint that was closed, and fi_trywait
// follows it.
//
// Ownership: owns libfabric's objects; outlives the endpoints. Registered
// memory outlives the domain. Threads: one at a time (FI_THREAD_DOMAIN).
// Errors: Open: as libfabric says; FAILED_PRECONDITION: its cache of
// registrations is on (FabricEnvironment was not set). Register:
// RESOURCE_EXHAUSTED: the limit of locked memory. Cost: Register pins the
// pages: 2 to 7 ms for 64 MiB on verbs.
#ifndef AGENTMEM_MEMD_TRANSPORT_FABRIC_DOMAIN_H_
#define AGENTMEM_MEMD_TRANSPORT_FABRIC_DOMAIN_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "memd/transport/fabric_handle.h"
#include "memd/transport/fabric_provider.h"
#include "memd/transport/transport.h"

namespace agentmem {

// Memory that an endpoint may send from or receive into; gone with the handle.
struct FabricBuffer {
  std::unique_ptr<char[]> bytes;
  FabricHandle<fid_mr> registration;
};

class FabricDomain {
 public:
  static absl::StatusOr<std::unique_ptr<FabricDomain>> Open(
      std::shared_ptr<fi_info> info);

  absl::StatusOr<Registered> Register(std::span<char> memory,
                                      RemoteAccess access);
  absl::StatusOr<FabricBuffer> MakeBuffer(std::uint64_t bytes);

  // The descriptor that operations on [local, +length) name. The range must
  // lie in the memory.
  void* DescriptorOf(MemoryId memory, const char* local,
                     std::uint64_t length) const;

  // A queue whose completions wait_fd tells of, until CloseQueue.
  absl::StatusOr<FabricHandle<fid_cq>> OpenQueue(std::size_t completions);
  void CloseQueue(FabricHandle<fid_cq> queue);

  int wait_fd() const { return wait_fd_.get(); }
  bool ReadyToWait();
  // False: the descriptor tells of time alone.
  bool waitable() const { return waitable_; }

  const fi_info& info() const { return *info_; }
  fid_domain* domain() const { return domain_.get(); }

 private:
  struct Memory {
    std::span<char> bytes;
    FabricHandle<fid_mr> registration;
  };

  explicit FabricDomain(std::shared_ptr<fi_info> info)
      : info_(std::move(info)) {}
  absl::Status OpenObjects();
  // Two registrations of one memory must be two, each with its own access. A
  // cache of libfabric's would make them one.
  absl::Status CheckNoRegistrationCache();
  // With a key that nobody guesses, where the provider leaves it to us.
  absl::StatusOr<FabricHandle<fid_mr>> RegisterRange(std::span<char> range,
                                                     std::uint64_t access);
  absl::Status StartTimer();

  const std::shared_ptr<fi_info> info_;
  FabricHandle<fid_fabric> fabric_;
  FabricHandle<fid_domain> domain_;
  UniqueFd wait_fd_;            // epoll over those of the queues
  std::vector<fid*> queues_;    // open ones, as fi_trywait takes them
  bool waitable_ = true;        // all of them have a descriptor
  UniqueFd timer_;              // where they have none
  std::vector<Memory> memory_;  // MemoryId is the index + 1
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_FABRIC_DOMAIN_H_
