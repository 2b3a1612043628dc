// Pool messages (proto/pool_messages.h, proto/store_messages.h) as bytes: made
// and taken apart.
//
// Ownership: a builder owns its bytes. Threads: thread-compatible. Errors:
// none: what is read was checked against its header before. Cost: one
// allocation a message.
#ifndef AGENTMEM_MEMD_POOL_MESSAGE_BUILDER_H_
#define AGENTMEM_MEMD_POOL_MESSAGE_BUILDER_H_

#include <cstring>
#include <span>
#include <string>

#include "proto/pool_messages.h"
#include "proto/store_messages.h"

namespace agentmem {

// 0: no such message.
inline std::size_t EntryBytes(PoolMessage type) {
  switch (type) {
    case PoolMessage::kPing:
    case PoolMessage::kPong:
      return sizeof(PoolPing);
    case PoolMessage::kReserve:
      return sizeof(PoolReserve);
    case PoolMessage::kReserved:
      return sizeof(PoolReserved);
    case PoolMessage::kCommit:
      return sizeof(PoolCommit);
    case PoolMessage::kCommitted:
    case PoolMessage::kDropped:
      return sizeof(PoolDone);
    case PoolMessage::kFind:
      return sizeof(PoolName);
    case PoolMessage::kFound:
      return sizeof(PoolFound);
    case PoolMessage::kDrop:
    case PoolMessage::kRevoke:
      return sizeof(PoolDrop);
    case PoolMessage::kStage:
      return sizeof(StoreStage);
    case PoolMessage::kStaged:
      return sizeof(StoreStaged);
    case PoolMessage::kKeep:
      return sizeof(StoreKeep);
    case PoolMessage::kKept:
      return sizeof(StoreKept);
    case PoolMessage::kErase:
      return sizeof(StoreErase);
    case PoolMessage::kErased:
      return sizeof(PoolDone);
  }
  return 0;
}

inline PoolMessage AnswerOf(PoolMessage request) {
  return static_cast<PoolMessage>(static_cast<std::uint16_t>(request) + 1);
}

template <typename Entry>
Entry EntryAt(std::span<const char> body, std::size_t index) {
  Entry entry;
  std::memcpy(&entry, body.data() + index * sizeof(Entry), sizeof(Entry));
  return entry;
}

class MessageBuilder {
 public:
  MessageBuilder(PoolMessage type, std::uint64_t token, std::uint64_t request) {
    header_ = {kPoolMagic, VersionOf(type), type, 0, 0, token, request};
    bytes_.resize(sizeof(header_));
  }

  template <typename Entry>
  void Add(const Entry& entry) {
    bytes_.append(reinterpret_cast<const char*>(&entry), sizeof(entry));
    ++header_.count;
  }

  std::uint32_t count() const { return header_.count; }

  // Once.
  const std::string& Finish() {
    header_.bytes = static_cast<std::uint32_t>(bytes_.size());
    std::memcpy(bytes_.data(), &header_, sizeof(header_));
    return bytes_;
  }

 private:
  PoolHeader header_;
  std::string bytes_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_MESSAGE_BUILDER_H_
