// Room in shared memory for a producer that writes there itself.
//
//   auto room = client->Reserve(length);
//   Produce(room->data());
//   auto put = room->Publish(key, length);
//
// Ownership: owns the room until Publish; ends with Publish, Abandon or its
// destructor. Must end before its Client. Move only. Threads:
// thread-compatible. Errors: see agentmem_publish. Cost: no copy of the bytes.
#ifndef AGENTMEM_RESERVATION_HPP_
#define AGENTMEM_RESERVATION_HPP_

#include <cstddef>
#include <span>
#include <utility>

#include "agentmem/put.hpp"
#include "agentmem/status.hpp"
#include "agentmem/types.hpp"

namespace agentmem {
inline namespace v0 {

class [[nodiscard]] Reservation {
 public:
  ~Reservation() { Abandon(); }
  Reservation(Reservation&& other) noexcept
      : client_(other.client_), room_(std::exchange(other.room_, {})) {}
  Reservation& operator=(Reservation&& other) noexcept {
    if (this == &other) return *this;
    Abandon();
    client_ = other.client_;
    room_ = std::exchange(other.room_, {});
    return *this;
  }

  std::span<std::byte> data() const {
    return {static_cast<std::byte*>(room_.data), room_.capacity};
  }

  // Posts the first `length` bytes; ends the reservation whatever comes of it.
  ::agentmem::Put Publish(const Key& key, std::uint64_t length,
                          Ack ack = Ack::kVisible,
                          BlockClass block_class = BlockClass::kCache,
                          Timeout timeout = kDefaultTimeout) {
    agentmem_error error;
    agentmem_put_id id = 0;
    const agentmem_code code = agentmem_publish(
        client_, &room_, &key, length, static_cast<agentmem_class>(block_class),
        static_cast<agentmem_ack>(ack), TimeoutNs(timeout), &id, &error);
    room_ = {};
    return ::agentmem::Put(client_, id, Status::From(code, error));
  }
  void Abandon() {
    if (room_.data != nullptr) agentmem_abandon(client_, &room_);
    room_ = {};
  }

 private:
  friend class Client;

  Reservation(agentmem_client* client, const agentmem_reservation& room)
      : client_(client), room_(room) {}

  agentmem_client* client_;
  agentmem_reservation room_;
};

}  // namespace v0
}  // namespace agentmem

#endif  // AGENTMEM_RESERVATION_HPP_
