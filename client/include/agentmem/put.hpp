// A posted put: Wait says when the wanted acknowledgement is reached.
//
// Ownership: owns the put's handle, not its bytes: ending it forgets the
// outcome, never the put. Must end before its Client. Move only.
// Threads: thread-compatible. Errors: what posting answered is Wait's answer
// too. Cost: no allocation; Wait sleeps.
#ifndef AGENTMEM_PUT_HPP_
#define AGENTMEM_PUT_HPP_

#include <utility>

#include "agentmem/status.hpp"
#include "agentmem/types.hpp"

namespace agentmem {
inline namespace v0 {

class [[nodiscard]] Put {
 public:
  explicit Put(Status status) : status_(std::move(status)) {}
  ~Put() { Forget(); }
  Put(Put&& other) noexcept
      : client_(other.client_),
        id_(std::exchange(other.id_, 0)),
        status_(std::move(other.status_)) {}
  Put& operator=(Put&& other) noexcept {
    if (this == &other) return *this;
    Forget();
    client_ = other.client_;
    id_ = std::exchange(other.id_, 0);
    status_ = std::move(other.status_);
    return *this;
  }

  // Was it posted? After Wait: did it succeed?
  const Status& status() const { return status_; }
  bool ok() const { return status_.ok(); }

  // DEADLINE_EXCEEDED: not yet; may be asked again. Else final.
  Status Wait(Timeout timeout = kForever) {
    if (id_ == 0) return status_;
    agentmem_error error;
    const Status status = Status::From(
        agentmem_put_wait(client_, id_, TimeoutNs(timeout), &error), error);
    if (status.code() == Code::kDeadlineExceeded) return status;
    id_ = 0;
    status_ = status;
    return status_;
  }
  // Nobody will ask for the outcome.
  void Forget() {
    if (id_ != 0) agentmem_put_forget(client_, std::exchange(id_, 0));
  }

 private:
  friend class Client;
  friend class Reservation;
  friend class Sequence;

  Put(agentmem_client* client, agentmem_put_id id, Status status)
      : client_(client), id_(id), status_(std::move(status)) {}

  agentmem_client* client_ = nullptr;
  agentmem_put_id id_ = 0;
  Status status_;
};

}  // namespace v0
}  // namespace agentmem

#endif  // AGENTMEM_PUT_HPP_
