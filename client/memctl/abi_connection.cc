#include "client/memctl/abi_connection.h"

#include "base/status.h"
#include "client/memctl/socket_probe.h"

namespace agentmem::memctl {

absl::Status FromAbi(agentmem_code code, const agentmem_error& error) {
  if (code == AGENTMEM_OK) return absl::OkStatus();
  return MakeStatus(static_cast<absl::StatusCode>(code), error.message);
}

absl::StatusOr<AbiClient> ConnectAbi(const std::string& socket_path,
                                     const std::string& tenant,
                                     DurationNs timeout) {
  // The library waits for a memd that may be restarting; an operator wants to
  // know at once.
  AGENTMEM_RETURN_IF_ERROR(ProbeSocket(socket_path, Door::kClients));
  agentmem_options options = {};
  options.size = sizeof(options);
  options.socket_path = socket_path.c_str();
  options.tenant = tenant.empty() ? nullptr : tenant.c_str();
  options.name = "memctl";
  options.timeout_ns = static_cast<std::uint64_t>(timeout);
  agentmem_client* client = nullptr;
  agentmem_error error = {};
  const agentmem_code code = agentmem_connect(&options, &client, &error);
  if (code == AGENTMEM_UNAVAILABLE) {
    // The library says that memd must run; how, is the operator's business.
    return Unavailable(std::string(error.message) +
                       " (`systemctl start memd`, or run `memd`)");
  }
  AGENTMEM_RETURN_IF_ERROR(FromAbi(code, error));
  return AbiClient(client);
}

}  // namespace agentmem::memctl
