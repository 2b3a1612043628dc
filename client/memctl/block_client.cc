#include "client/memctl/block_client.h"

#include "agentmem/agentmem.h"
#include "base/status.h"
#include "client/memctl/key_text.h"
#include "client/memctl/socket_probe.h"

namespace agentmem::memctl {
namespace {

absl::Status FromError(agentmem_code code, const agentmem_error& error) {
  if (code == AGENTMEM_OK) return absl::OkStatus();
  return MakeStatus(static_cast<absl::StatusCode>(code), error.message);
}

agentmem_key ToAbi(const Key& key) {
  return agentmem_key{key.group, {key.name[0], key.name[1], key.name[2]}};
}

class AbiBlockClient final : public BlockClient {
 public:
  AbiBlockClient(agentmem_client* client, DurationNs timeout)
      : client_(client), timeout_(static_cast<std::uint64_t>(timeout)) {}
  ~AbiBlockClient() override { agentmem_close(client_); }

  absl::StatusOr<FoundBlock> Get(const Key& key) override {
    const agentmem_key name = ToAbi(key);
    agentmem_span span = {};
    agentmem_error error = {};
    const agentmem_code code =
        agentmem_get(client_, &name, 1, timeout_, &span, &error);
    FoundBlock found;
    if (span.data != nullptr) {
      found.bytes.assign(static_cast<const char*>(span.data), span.length);
      found.tier = static_cast<Tier>(span.tier);
      agentmem_release(client_, &span, 1);
    }
    if (code == AGENTMEM_NOT_FOUND) {
      return NotFound("no tier has the block " + FormatKey(key) +
                      " in this tenant: check the key and --tenant");
    }
    AGENTMEM_RETURN_IF_ERROR(FromError(code, error));
    return found;
  }

  absl::Status Put(const Key& key, const std::string& bytes,
                   BlockClass block_class, Ack ack) override {
    const agentmem_key name = ToAbi(key);
    agentmem_put_id put = 0;
    agentmem_error error = {};
    agentmem_code code =
        agentmem_put(client_, &name, bytes.data(), bytes.size(),
                     static_cast<agentmem_class>(block_class),
                     static_cast<agentmem_ack>(ack), timeout_, &put, &error);
    AGENTMEM_RETURN_IF_ERROR(FromError(code, error));
    code = agentmem_put_wait(client_, put, timeout_, &error);
    if (code == AGENTMEM_DEADLINE_EXCEEDED) agentmem_put_forget(client_, put);
    return FromError(code, error);
  }

 private:
  agentmem_client* const client_;
  const std::uint64_t timeout_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlockClient>> ConnectBlocks(
    const std::string& socket_path, const std::string& tenant,
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
  AGENTMEM_RETURN_IF_ERROR(FromError(code, error));
  return std::unique_ptr<BlockClient>(
      std::make_unique<AbiBlockClient>(client, timeout));
}

}  // namespace agentmem::memctl
