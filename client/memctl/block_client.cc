#include "client/memctl/block_client.h"

#include <utility>

#include "agentmem/agentmem.h"
#include "base/status.h"
#include "client/memctl/abi_connection.h"
#include "proto/key_text.h"

namespace agentmem::memctl {
namespace {

agentmem_key ToAbi(const Key& key) {
  return agentmem_key{key.group, {key.name[0], key.name[1], key.name[2]}};
}

class AbiBlockClient final : public BlockClient {
 public:
  AbiBlockClient(AbiClient client, DurationNs timeout)
      : client_(std::move(client)),
        timeout_(static_cast<std::uint64_t>(timeout)) {}

  absl::StatusOr<FoundBlock> Get(const Key& key) override {
    const agentmem_key name = ToAbi(key);
    agentmem_span span = {};
    agentmem_error error = {};
    const agentmem_code code =
        agentmem_get(client_.get(), &name, 1, timeout_, &span, &error);
    FoundBlock found;
    if (span.data != nullptr) {
      found.bytes.assign(static_cast<const char*>(span.data), span.length);
      found.tier = static_cast<Tier>(span.tier);
      agentmem_release(client_.get(), &span, 1);
    }
    if (code == AGENTMEM_NOT_FOUND) {
      return NotFound("no tier has the block " + KeyText(key) +
                      " in this tenant: check the key and --tenant");
    }
    AGENTMEM_RETURN_IF_ERROR(FromAbi(code, error));
    return found;
  }

  absl::Status Put(const Key& key, const std::string& bytes,
                   BlockClass block_class, Ack ack) override {
    const agentmem_key name = ToAbi(key);
    agentmem_put_id put = 0;
    agentmem_error error = {};
    agentmem_code code =
        agentmem_put(client_.get(), &name, bytes.data(), bytes.size(),
                     static_cast<agentmem_class>(block_class),
                     static_cast<agentmem_ack>(ack), timeout_, &put, &error);
    AGENTMEM_RETURN_IF_ERROR(FromAbi(code, error));
    code = agentmem_put_wait(client_.get(), put, timeout_, &error);
    if (code == AGENTMEM_DEADLINE_EXCEEDED) {
      agentmem_put_forget(client_.get(), put);
    }
    return FromAbi(code, error);
  }

 private:
  const AbiClient client_;
  const std::uint64_t timeout_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlockClient>> ConnectBlocks(
    const std::string& socket_path, const std::string& tenant,
    DurationNs timeout) {
  AGENTMEM_ASSIGN_OR_RETURN(AbiClient client,
                            ConnectAbi(socket_path, tenant, timeout));
  return std::unique_ptr<BlockClient>(
      std::make_unique<AbiBlockClient>(std::move(client), timeout));
}

}  // namespace agentmem::memctl
