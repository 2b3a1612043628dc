// The messages of proto/handshake.h, checked and made; no I/O.
//
// Ownership: values. Threads: thread-safe. Errors: INVALID_ARGUMENT (garbage),
// FAILED_PRECONDITION (another version; both named). Cost: none to speak of.
#ifndef AGENTMEM_MEMD_HANDSHAKE_H_
#define AGENTMEM_MEMD_HANDSHAKE_H_

#include <string>

#include "absl/status/statusor.h"
#include "proto/handshake.h"

namespace agentmem {

struct HelloRequest {
  std::string tenant;
  std::string client_name;
  bool confined = false;
  bool agents = false;
};

// `bytes` of a packet from a stranger.
absl::StatusOr<HelloRequest> ParseHello(const void* packet, std::size_t bytes);

// `status` must not be OK.
Refusal MakeRefusal(const absl::Status& status);

MessageHeader MakeHeader(MessageType type, std::size_t bytes);

// Copies `text` into a NUL-padded field, cut to fit.
void SetField(const std::string& text, char* field, std::size_t bytes);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_HANDSHAKE_H_
