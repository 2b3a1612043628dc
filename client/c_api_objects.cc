// The C ABI: objects.
#include <string>

#include "client/c_api.h"

namespace {

using agentmem::client::Answer;
using agentmem::client::Deadline;
using agentmem::client::Objects;

agentmem_code CheckName(const char* name, agentmem_error* error) {
  AGENTMEM_REQUIRE(name != nullptr, "name is NULL", error);
  const std::size_t length = std::strlen(name);
  if (length >= 1 && length <= Objects::kNameBytesMax) return AGENTMEM_OK;
  return Answer(
      agentmem::Fail(
          agentmem::Code::kInvalidArgument,
          "object name of " + std::to_string(length) + " bytes; 1 to " +
              std::to_string(Objects::kNameBytesMax) + " are allowed"),
      error);
}

}  // namespace

extern "C" {

agentmem_code agentmem_object_put(agentmem_client* client, const char* name,
                                  const void* data, uint64_t length,
                                  agentmem_class block_class, agentmem_ack ack,
                                  uint64_t timeout_ns, agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  if (const agentmem_code code = CheckName(name, error); code != AGENTMEM_OK) {
    return code;
  }
  AGENTMEM_REQUIRE(data != nullptr || length == 0, "data is NULL", error);
  const Objects::Policy policy = {
      static_cast<agentmem::BlockClass>(block_class),
      static_cast<agentmem::Ack>(ack)};
  AGENTMEM_REQUIRE(IsValid(policy.block_class), "unknown class", error);
  AGENTMEM_REQUIRE(IsValid(policy.ack), "unknown acknowledgement", error);
  agentmem::client::Namer namer(client->tenant_key());
  return Answer(
      client->objects().Put(&namer, name, static_cast<const char*>(data),
                            length, policy, Deadline::After(timeout_ns)),
      error);
}

agentmem_code agentmem_object_size(agentmem_client* client, const char* name,
                                   uint64_t timeout_ns, uint64_t* length,
                                   agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  if (const agentmem_code code = CheckName(name, error); code != AGENTMEM_OK) {
    return code;
  }
  AGENTMEM_REQUIRE(length != nullptr, "length is NULL", error);
  agentmem::client::Namer namer(client->tenant_key());
  return Answer(
      client->objects().Size(&namer, name, Deadline::After(timeout_ns), length),
      error);
}

agentmem_code agentmem_object_get(agentmem_client* client, const char* name,
                                  uint64_t offset, void* data,
                                  uint64_t capacity, uint64_t timeout_ns,
                                  uint64_t* length, agentmem_error* error) {
  AGENTMEM_ENTER(client, error);
  if (const agentmem_code code = CheckName(name, error); code != AGENTMEM_OK) {
    return code;
  }
  AGENTMEM_REQUIRE(length != nullptr, "length is NULL", error);
  AGENTMEM_REQUIRE(data != nullptr || capacity == 0, "data is NULL", error);
  agentmem::client::Namer namer(client->tenant_key());
  return Answer(
      client->objects().Get(&namer, name, offset, static_cast<char*>(data),
                            capacity, Deadline::After(timeout_ns), length),
      error);
}

}  // extern "C"
