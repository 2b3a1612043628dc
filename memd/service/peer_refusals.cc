#include "memd/service/peer_refusals.h"

#include "base/log.h"

namespace agentmem {

bool PeerRefusals::Note(const std::string& peer, PeerCause cause,
                        const std::string& message) {
  MutexLock lock(&mutex_);
  ++count_;
  if (said_.contains({peer, cause})) return false;
  if (said_.size() >= kRemembered) {
    if (!said_full_) {
      LogWarning("more than " + std::to_string(kRemembered) +
                 " kinds of wrong peers: others are counted, not named");
    }
    said_full_ = true;
    return false;
  }
  said_.insert({peer, cause});
  LogWarning(message);
  return true;
}

void PeerRefusals::Forget(const std::string& peer) {
  MutexLock lock(&mutex_);
  auto entry = said_.lower_bound({peer, PeerCause::kCertificate});
  while (entry != said_.end() && entry->first == peer) {
    entry = said_.erase(entry);
  }
}

std::uint64_t PeerRefusals::count() const {
  MutexLock lock(&mutex_);
  return count_;
}

}  // namespace agentmem
