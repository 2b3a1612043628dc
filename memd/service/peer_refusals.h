// Says once, per peer and cause, that a peer was refused or does not answer: a
// peer that is wrong tries again and again, and many are wrong at a time.
//
// Ownership: a value that cannot be copied. Threads: thread-safe. Errors: none.
// Cost: remembers at most kRemembered peers and causes (about 100 B each);
// beyond that it says so once and only counts.
#ifndef AGENTMEM_MEMD_SERVICE_PEER_REFUSALS_H_
#define AGENTMEM_MEMD_SERVICE_PEER_REFUSALS_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "base/mutex.h"

namespace agentmem {

// Never from a peer's bytes, which could be others each time.
enum class PeerCause : std::uint8_t {
  kCertificate,  // not signed, expired, not for this use
  kName,         // signed, for somebody else
  kHandshake,    // TLS failed before there was a certificate to look at
  kVersion,
  kCluster,
  kSelf,
  kCard,
  kAnswer,   // it refused us
  kSilence,  // it does not answer
};

class PeerRefusals {
 public:
  static constexpr std::size_t kRemembered = 1024;

  // Logs a warning unless it did for this peer and cause; true: it did now.
  bool Note(const std::string& peer, PeerCause cause,
            const std::string& message) AGENTMEM_EXCLUDES(mutex_);

  // The peer is right now: what comes next is said again.
  void Forget(const std::string& peer) AGENTMEM_EXCLUDES(mutex_);

  std::uint64_t count() const AGENTMEM_EXCLUDES(mutex_);

 private:
  mutable Mutex mutex_;
  std::set<std::pair<std::string, PeerCause>> said_ AGENTMEM_GUARDED_BY(mutex_);
  bool said_full_ AGENTMEM_GUARDED_BY(mutex_) = false;
  std::uint64_t count_ AGENTMEM_GUARDED_BY(mutex_) = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_PEER_REFUSALS_H_
