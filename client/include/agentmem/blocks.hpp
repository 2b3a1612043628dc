// Pinned blocks: what Client::Get and Sequence::Load return.
//
//   auto blocks = client->Get(keys, 50ms);
//   if (blocks.complete()) Use(blocks[0]);
//
// Each blocks[i] is a view into shared memory, which stays as it is until this
// object ends. A get that did not obtain everything says why in status(), and
// what it did obtain is here all the same.
//
// Ownership: owns the pins; must end before its Client. Move only.
// Threads: thread-compatible; may end on another thread than the one that got
// it. Errors: see agentmem_get. Cost: one block: no allocation.
#ifndef AGENTMEM_BLOCKS_HPP_
#define AGENTMEM_BLOCKS_HPP_

#include <cstddef>
#include <memory>
#include <utility>

#include "agentmem/status.hpp"
#include "agentmem/types.hpp"

namespace agentmem {
inline namespace v0 {

class [[nodiscard]] Blocks {
 public:
  Blocks() = default;
  explicit Blocks(Status status) : status_(std::move(status)) {}
  ~Blocks() { Release(); }
  Blocks(Blocks&& other) noexcept { *this = std::move(other); }
  Blocks& operator=(Blocks&& other) noexcept {
    if (this == &other) return *this;
    Release();
    client_ = other.client_;
    single_ = other.single_;
    many_ = std::move(other.many_);
    size_ = std::exchange(other.size_, 0);
    status_ = std::move(other.status_);
    return *this;
  }

  // OK: every block that was asked for is here.
  const Status& status() const { return status_; }
  bool complete() const { return status_.ok(); }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // Was block i obtained? No block is empty, so operator[] tells as well.
  bool has(std::size_t i) const { return spans()[i].data != nullptr; }
  Bytes operator[](std::size_t i) const {
    const agentmem_span& span = spans()[i];
    return {static_cast<const std::byte*>(span.data), span.length};
  }
  // The tier in which block i was found.
  Tier tier(std::size_t i) const { return static_cast<Tier>(spans()[i].tier); }

  // Turns short pins into holds: for blocks kept longer than a call or two.
  Status Hold(Timeout timeout = kDefaultTimeout) {
    if (size_ == 0) return Status();
    agentmem_error error;
    return Status::From(
        agentmem_hold(client_, spans(), size_, TimeoutNs(timeout), &error),
        error);
  }
  void Release() {
    if (size_ != 0) agentmem_release(client_, spans(), size_);
    size_ = 0;
  }

 private:
  friend class Client;
  friend class Sequence;

  Blocks(agentmem_client* client, std::size_t size)
      : client_(client), size_(size) {
    if (size > 1) many_ = std::make_unique<agentmem_span[]>(size);
  }
  agentmem_span* spans() { return many_ ? many_.get() : &single_; }
  const agentmem_span* spans() const { return many_ ? many_.get() : &single_; }

  agentmem_client* client_ = nullptr;
  agentmem_span single_ = {};
  std::unique_ptr<agentmem_span[]> many_;
  std::size_t size_ = 0;
  Status status_;
};

}  // namespace v0
}  // namespace agentmem

#endif  // AGENTMEM_BLOCKS_HPP_
