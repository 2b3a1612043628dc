#include "memd/transport/fabric_endpoint.h"

#include "memd/transport/fabric_wire.h"

namespace agentmem {
namespace {

constexpr std::size_t kNameBytesMax = 256;

}  // namespace

FabricEndpoint::~FabricEndpoint() {
  Shut();
  domain_->CloseQueue(std::move(completions_));
}

absl::StatusOr<std::unique_ptr<FabricEndpoint>> FabricEndpoint::Open(
    FabricDomain* domain, std::size_t completions) {
  std::unique_ptr<FabricEndpoint> endpoint(new FabricEndpoint(domain));
  const std::string what = "opening a fabric endpoint";
  fi_av_attr attributes = {};
  attributes.type = FI_AV_TABLE;
  fid_av* addresses = nullptr;
  int result = fi_av_open(domain->domain(), &attributes, &addresses, nullptr);
  if (result != 0) return FabricStatus(what, result);
  endpoint->addresses_.reset(addresses);

  AGENTMEM_ASSIGN_OR_RETURN(endpoint->completions_,
                            domain->OpenQueue(completions));
  fid_ep* opened = nullptr;
  result = fi_endpoint(domain->domain(), const_cast<fi_info*>(&domain->info()),
                       &opened, nullptr);
  if (result != 0) return FabricStatus(what, result);
  endpoint->endpoint_.reset(opened);
  result = fi_ep_bind(opened, &addresses->fid, 0);
  if (result == 0) {
    result =
        fi_ep_bind(opened, &endpoint->completions_->fid, FI_TRANSMIT | FI_RECV);
  }
  if (result == 0) result = fi_enable(opened);
  if (result == -FI_EINVAL) {
    return FabricStatus(what +
                            " (a device with short completion queues? Then "
                            "FI_UNIVERSE_SIZE=64 in the environment)",
                        result);
  }
  if (result != 0) return FabricStatus(what, result);
  return endpoint;
}

bool FabricEndpoint::Cut() {
  const std::string provider = domain_->info().fabric_attr->prov_name;
  if (!provider.starts_with("tcp;")) return false;
  int descriptor = -1;
  if (fi_control(&completions_->fid, FI_GETWAIT, &descriptor) == 0) {
    CutConnections(descriptor);
  }
  return true;
}

std::size_t FabricEndpoint::Connections() const {
  const std::string provider = domain_->info().fabric_attr->prov_name;
  int descriptor = -1;
  if (!provider.starts_with("tcp;") ||
      fi_control(&completions_->fid, FI_GETWAIT, &descriptor) != 0) {
    return 0;
  }
  return CountConnections(descriptor);
}

absl::StatusOr<std::string> FabricEndpoint::Name() const {
  std::string name(kNameBytesMax, '\0');
  std::size_t bytes = name.size();
  const int result = fi_getname(&endpoint_->fid, name.data(), &bytes);
  if (result != 0) return FabricStatus("the name of an endpoint", result);
  name.resize(bytes);
  return name;
}

absl::StatusOr<fi_addr_t> FabricEndpoint::Insert(const std::string& name) {
  fi_addr_t peer = FI_ADDR_UNSPEC;
  const int inserted =
      fi_av_insert(addresses_.get(), name.data(), 1, &peer, 0, nullptr);
  if (inserted < 0) return FabricStatus("a peer's address", inserted);
  if (inserted != 1) return InvalidArgument("a peer's address was not taken");
  return peer;
}

}  // namespace agentmem
