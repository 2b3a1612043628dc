// Everything that a running memd is made of, in the order of its making: lock,
// store, tenants with their memory, reactor. The administration's server is
// put in front by main, which alone sees gRPC.
//
// Ownership: owns all of it. Threads: Open and Run belong to one thread; Stop
// is async-signal-safe. Errors: Open says what could not be had and what to do.
// Cost: Open reads the store's list of blocks.
#ifndef AGENTMEM_MEMD_DAEMON_H_
#define AGENTMEM_MEMD_DAEMON_H_

#include <memory>

#include "absl/status/statusor.h"
#include "memd/config.h"
#include "memd/reactor.h"

namespace agentmem {

class Daemon {
 public:
  static absl::StatusOr<std::unique_ptr<Daemon>> Open(const Config& config,
                                                      const Clock* clock);
  ~Daemon();

  // Serves until Stop; returns when everything is written down.
  absl::Status Run();
  void Stop();
  AdminBackend& admin();

 private:
  struct Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);
  const std::unique_ptr<Parts> parts_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_DAEMON_H_
