// The sentences that people read when something is not OK.
//
// Threads: pure functions. Errors: none. Cost: allocates; never on a hit.
#ifndef AGENTMEM_CLIENT_MESSAGES_H_
#define AGENTMEM_CLIENT_MESSAGES_H_

#include <cstdint>
#include <string>

#include "proto/client_layout.h"
#include "proto/types.h"

namespace agentmem::client {

// "1.5 MiB"; exact below 1 KiB.
std::string HumanBytes(std::uint64_t bytes);

// Why memd answered `completion` with an error, and what to do about it.
std::string Explain(const CompletionEntry& completion);

// Names both versions.
std::string VersionMismatch(const std::string& what, std::uint32_t theirs,
                            std::uint32_t ours);

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_MESSAGES_H_
