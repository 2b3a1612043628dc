#include "memd/handshake.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "base/status.h"

namespace agentmem {
namespace {

// A NUL-terminated field of printable characters.
absl::StatusOr<std::string> Field(const char* field, std::size_t bytes,
                                  const std::string& name) {
  const void* end = std::memchr(field, 0, bytes);
  if (end == nullptr) {
    return InvalidArgument("hello: " + name + " is longer than " +
                           std::to_string(bytes - 1) + " bytes");
  }
  std::string text(field);
  for (const char c : text) {
    if (std::iscntrl(static_cast<unsigned char>(c))) {
      return InvalidArgument("hello: " + name + " has control characters");
    }
  }
  return text;
}

}  // namespace

MessageHeader MakeHeader(MessageType type, std::size_t bytes) {
  MessageHeader header = {};
  header.magic = kWireMagic;
  header.version = kWireVersion;
  header.type = type;
  header.bytes = static_cast<std::uint32_t>(bytes);
  return header;
}

void SetField(const std::string& text, char* field, std::size_t bytes) {
  std::memset(field, 0, bytes);
  std::memcpy(field, text.data(), std::min(text.size(), bytes - 1));
}

absl::StatusOr<HelloRequest> ParseHello(const void* packet, std::size_t bytes) {
  MessageHeader header;
  if (bytes < sizeof(header)) {
    return InvalidArgument("hello: " + std::to_string(bytes) +
                           " bytes are shorter than a message header");
  }
  std::memcpy(&header, packet, sizeof(header));
  if (header.magic != kWireMagic) {
    return InvalidArgument(
        "hello: not an agentmem client (magic number is wrong)");
  }
  if (header.version != kWireVersion) {
    return FailedPrecondition(
        "hello: client speaks wire version " + std::to_string(header.version) +
        ", this memd speaks version " + std::to_string(kWireVersion) +
        "; update the older of memd and libagentmem");
  }
  if (header.type != MessageType::kHello || header.bytes != bytes ||
      bytes != sizeof(Hello)) {
    return InvalidArgument("hello: message of type " +
                           std::to_string(static_cast<unsigned>(header.type)) +
                           " and " + std::to_string(bytes) +
                           " bytes where a hello of " +
                           std::to_string(sizeof(Hello)) + " was expected");
  }
  Hello hello;
  std::memcpy(&hello, packet, sizeof(hello));
  HelloRequest request;
  AGENTMEM_ASSIGN_OR_RETURN(
      request.tenant, Field(hello.tenant, sizeof(hello.tenant), "tenant"));
  AGENTMEM_ASSIGN_OR_RETURN(
      request.client_name,
      Field(hello.client_name, sizeof(hello.client_name), "client name"));
  if ((hello.flags & ~(kHelloConfined | kHelloAgents)) != 0) {
    return InvalidArgument("hello: unknown flags " +
                           std::to_string(hello.flags));
  }
  request.confined = hello.flags & kHelloConfined;
  request.agents = hello.flags & kHelloAgents;
  return request;
}

Refusal MakeRefusal(const absl::Status& status) {
  Refusal refusal = {};
  refusal.header = MakeHeader(MessageType::kRefusal, sizeof(refusal));
  refusal.code = static_cast<std::uint32_t>(status.code());
  refusal.version_max = kWireVersion;
  SetField(StatusMessage(status), refusal.message, sizeof(refusal.message));
  return refusal;
}

}  // namespace agentmem
