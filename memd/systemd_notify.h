// What systemd is told (sd_notify's protocol: one datagram a message).
//
// Ownership: a value. Threads: thread-compatible. Errors: none; without a
// systemd every call does nothing. Cost: one system call a message.
#ifndef AGENTMEM_MEMD_SYSTEMD_NOTIFY_H_
#define AGENTMEM_MEMD_SYSTEMD_NOTIFY_H_

#include <string>

namespace agentmem {

class SystemdNotify {
 public:
  // `socket` is $NOTIFY_SOCKET; empty: nobody listens.
  explicit SystemdNotify(std::string socket) : socket_(std::move(socket)) {}

  void Ready() const { Send("READY=1"); }
  void Stopping() const { Send("STOPPING=1"); }
  void Status(const std::string& text) const { Send("STATUS=" + text); }

 private:
  void Send(const std::string& message) const;

  const std::string socket_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SYSTEMD_NOTIFY_H_
