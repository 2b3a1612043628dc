#include "tests/unit/transport/fabric_faults.h"

#include <dlfcn.h>
#include <rdma/fabric.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include <cstring>
#include <deque>
#include <map>

#include "base/check.h"

namespace agentmem {

FabricFaults& Faults() {
  static FabricFaults faults;
  return faults;
}

namespace {

// A table of libfabric's functions, with some of ours; one for each of its own.
template <typename Ops>
class Tables {
 public:
  // The table to put in the place of `own`.
  template <typename Change>
  Ops* With(Ops* own, Change change) {
    for (auto& [ours, known] : all_) {
      if (&ours == own || known == own) return &ours;
    }
    all_.emplace_back(*own, own);
    change(&all_.back().first);
    return &all_.back().first;
  }
  const Ops& Own(const Ops* ours) const {
    for (const auto& [table, own] : all_) {
      if (&table == ours) return *own;
    }
    AGENTMEM_CHECK(false);
  }

 private:
  std::deque<std::pair<Ops, Ops*>> all_;
};

Tables<fi_ops_fabric> fabrics;
Tables<fi_ops_domain> domains;
Tables<fi_ops_msg> messages;
Tables<fi_ops_rma> transfers;
Tables<fi_ops_cq> queues;

ssize_t Ask(FabricCall call) {
  return Faults().answer ? Faults().answer(call) : 0;
}
ssize_t Count(FabricCall call, ssize_t result) {
  Faults().taken[call] += result == 0;
  return result;
}

ssize_t Receive(fid_ep* ep, void* buf, size_t len, void* desc, fi_addr_t from,
                void* context) {
  if (const ssize_t answer = Ask(FabricCall::kReceive)) return answer;
  return Count(FabricCall::kReceive,
               messages.Own(ep->msg).recv(ep, buf, len, desc, from, context));
}

ssize_t Send(fid_ep* ep, const void* buf, size_t len, void* desc, fi_addr_t to,
             void* context) {
  if (const ssize_t answer = Ask(FabricCall::kSend)) return answer;
  return Count(FabricCall::kSend,
               messages.Own(ep->msg).send(ep, buf, len, desc, to, context));
}

ssize_t Read(fid_ep* ep, void* buf, size_t len, void* desc, fi_addr_t from,
             std::uint64_t address, std::uint64_t key, void* context) {
  if (const ssize_t answer = Ask(FabricCall::kRead)) return answer;
  return Count(FabricCall::kRead,
               transfers.Own(ep->rma).read(ep, buf, len, desc, from, address,
                                           key, context));
}

ssize_t Write(fid_ep* ep, const fi_msg_rma* message, std::uint64_t flags) {
  if (const ssize_t answer = Ask(FabricCall::kWrite)) return answer;
  return Count(FabricCall::kWrite,
               transfers.Own(ep->rma).writemsg(ep, message, flags));
}

int OpenEndpoint(fid_domain* domain, fi_info* info, fid_ep** ep,
                 void* context) {
  const int result =
      domains.Own(domain->ops).endpoint(domain, info, ep, context);
  if (result != 0) return result;
  (*ep)->msg = messages.With((*ep)->msg, [](fi_ops_msg* ours) {
    ours->recv = Receive;
    ours->send = Send;
  });
  (*ep)->rma = transfers.With((*ep)->rma, [](fi_ops_rma* ours) {
    ours->read = Read;
    ours->writemsg = Write;
  });
  return 0;
}

ssize_t ReadQueue(fid_cq* queue, void* buffer, size_t count) {
  const auto ended = Faults().ended.find(queue);
  if (ended != Faults().ended.end()) return ended->second.read;
  if (Faults().stray_errors > 0) return -FI_EAVAIL;
  return queues.Own(queue->ops).read(queue, buffer, count);
}

ssize_t ReadError(fid_cq* queue, fi_cq_err_entry* error, std::uint64_t flags) {
  const auto ended = Faults().ended.find(queue);
  if (ended != Faults().ended.end()) {
    *error = {};
    error->err = ended->second.error;
    return ended->second.read_error;
  }
  if (Faults().stray_errors == 0) {
    return queues.Own(queue->ops).readerr(queue, error, flags);
  }
  --Faults().stray_errors;
  *error = {};
  error->err = FI_EIO;
  return 1;
}

int OpenQueue(fid_domain* domain, fi_cq_attr* attributes, fid_cq** queue,
              void* context) {
  if (attributes->wait_obj != FI_WAIT_NONE) {
    if (const ssize_t answer = Ask(FabricCall::kWaitedQueue)) {
      return static_cast<int>(answer);
    }
  }
  const int result =
      domains.Own(domain->ops).cq_open(domain, attributes, queue, context);
  if (result != 0) return result;
  (*queue)->ops = queues.With((*queue)->ops, [](fi_ops_cq* ours) {
    ours->read = ReadQueue;
    ours->readerr = ReadError;
  });
  Faults().queues.push_back(*queue);
  Faults().ended.erase(*queue);  // that was another one, at its address
  return 0;
}

int OpenDomain(fid_fabric* fabric, fi_info* info, fid_domain** domain,
               void* context) {
  if (const ssize_t answer = Ask(FabricCall::kDomain)) {
    return static_cast<int>(answer);
  }
  const int result =
      fabrics.Own(fabric->ops).domain(fabric, info, domain, context);
  if (result != 0) return result;
  (*domain)->ops = domains.With((*domain)->ops, [](fi_ops_domain* ours) {
    ours->endpoint = OpenEndpoint;
    ours->cq_open = OpenQueue;
  });
  return 0;
}

}  // namespace
}  // namespace agentmem

extern "C" int fi_fabric(fi_fabric_attr* attributes, fid_fabric** fabric,
                         void* context) {
  using Function = int (*)(fi_fabric_attr*, fid_fabric**, void*);
  static const auto own =
      reinterpret_cast<Function>(dlvsym(RTLD_NEXT, "fi_fabric", "FABRIC_1.1"));
  AGENTMEM_CHECK(own != nullptr);
  // (Layers of libfabric's open what is below them by it, too.)
  const bool whole = std::strchr(attributes->prov_name, ';') != nullptr;
  const int result = own(attributes, fabric, context);
  if (result != 0 || !whole) return result;
  using agentmem::fabrics;
  (*fabric)->ops = fabrics.With((*fabric)->ops, [](fi_ops_fabric* ours) {
    ours->domain = agentmem::OpenDomain;
  });
  return 0;
}
