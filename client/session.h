// One connection to one run of memd: its mappings and its socket.
//
// A client has one current session. When memd dies, the next one takes its
// place; the old one stays mapped as long as a span, a reservation or a thread
// still refers to it, so that what was handed out stays readable.
//
// Ownership: owns mappings and descriptors; counts references, and ends with
// the last one. Threads: thread-safe but for `tables` (see PinTable).
// Errors: Open refuses layouts of another version, naming both, and sizes that
// do not agree (FAILED_PRECONDITION). Cost: Open maps, Alive is a system call.
#ifndef AGENTMEM_CLIENT_SESSION_H_
#define AGENTMEM_CLIENT_SESSION_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "client/handshake_client.h"
#include "client/mapping.h"
#include "client/pin_table.h"
#include "client/session_set.h"
#include "proto/client_layout.h"
#include "proto/index_reader.h"
#include "proto/outcome.h"

namespace agentmem::client {

class Session {
 public:
  // On success *session is new, stands in `set`, and holds one reference.
  static Outcome Open(Connection connection, SessionSet* set,
                      Session** session);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void Ref() { references_.fetch_add(1, std::memory_order_relaxed); }
  void Unref() {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) End();
  }

  const IndexReader& index() const { return index_; }
  const ClientFile& file() const { return file_; }
  char* data() const { return data_mapping_.base(); }
  std::uint64_t data_bytes() const { return data_mapping_.bytes(); }
  const Welcome& welcome() const { return connection_.welcome; }

  // Has memd hung up?
  bool HungUp() const;
  // After the submission tail moved: wakes memd if it sleeps.
  void RingDoorbell() const;
  // Tells memd's side, even where a forked child still has the socket.
  void Disconnect() const;

  // Guarded by the mutex of ThreadContexts.
  std::array<PinTable, kThreadTables> tables;
  std::uint64_t tables_taken = 0;

 private:
  friend class SessionSet;

  explicit Session(SessionSet* set) : set_(set) {}
  ~Session() = default;
  void End();

  SessionSet* const set_;
  Connection connection_;
  Mapping index_mapping_;
  Mapping data_mapping_;
  Mapping file_mapping_;
  IndexReader index_;
  ClientFile file_;
  std::atomic<std::uint32_t> references_ = 1;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_SESSION_H_
