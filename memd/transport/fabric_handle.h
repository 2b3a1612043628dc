// libfabric's objects, closed when nobody holds them.
//
// Ownership: FabricHandle closes what it holds; an object that others were made
// from is closed after them: declare it before them. Threads: as the object.
// Errors: none; closing one that is still in use breaks an invariant.
// Cost: fi_close, which may make system calls.
#ifndef AGENTMEM_MEMD_TRANSPORT_FABRIC_HANDLE_H_
#define AGENTMEM_MEMD_TRANSPORT_FABRIC_HANDLE_H_

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <rdma/fi_tagged.h>

#include <memory>
#include <string>

#include "base/check.h"
#include "base/status.h"

namespace agentmem {

struct CloseFabricObject {
  template <typename T>
  void operator()(T* object) const {
    const int closed = fi_close(&object->fid);
    AGENTMEM_CHECK(closed != -FI_EBUSY);
  }
};
template <typename T>
using FabricHandle = std::unique_ptr<T, CloseFabricObject>;

// "what: fi_strerror(error)"; `error` as libfabric returns it, negative.
inline absl::Status FabricStatus(const std::string& what, int error) {
  const std::string message = what + ": " + fi_strerror(-error);
  switch (-error) {
    case FI_ENOMEM:
    case FI_EMFILE:
    case FI_ENOSPC:
      return ResourceExhausted(message);
    case FI_EACCES:
    case FI_EPERM:
      return PermissionDenied(message);
    default:
      return Unavailable(message);
  }
}

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_FABRIC_HANDLE_H_
