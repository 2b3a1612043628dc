// What stands in the opaque words of an agentmem_span.
//
//   opaque[0]  pin: its PinTable.  hold: its Session, of which it has a
//              reference
//   opaque[1]  slot (32) | 0 (16) | pin (8) | kind (8)
//   opaque[2]  the slot's generation
//
// Ownership: of what it names, until released. Threads: a value.
#ifndef AGENTMEM_CLIENT_SPAN_H_
#define AGENTMEM_CLIENT_SPAN_H_

#include <cstdint>

#include "agentmem/agentmem.h"
#include "client/pin_table.h"
#include "client/session.h"

namespace agentmem::client {

enum class SpanKind : std::uint8_t { kNone = 0, kPin = 1, kHold = 2 };

inline void SetPin(PinTable* table, int pin, std::uint32_t slot,
                   std::uint64_t generation, agentmem_span* span) {
  span->opaque[0] = reinterpret_cast<std::uint64_t>(table);
  span->opaque[1] = (static_cast<std::uint64_t>(slot) << 32) |
                    (static_cast<std::uint64_t>(pin) << 8) |
                    static_cast<std::uint64_t>(SpanKind::kPin);
  span->opaque[2] = generation;
}
inline void SetHold(Session* session, std::uint32_t slot,
                    std::uint64_t generation, agentmem_span* span) {
  span->opaque[0] = reinterpret_cast<std::uint64_t>(session);
  span->opaque[1] = (static_cast<std::uint64_t>(slot) << 32) |
                    static_cast<std::uint64_t>(SpanKind::kHold);
  span->opaque[2] = generation;
}
inline SpanKind KindOf(const agentmem_span& span) {
  return span.data == nullptr ? SpanKind::kNone
                              : static_cast<SpanKind>(span.opaque[1] & 0xff);
}
inline PinTable* TableOf(const agentmem_span& span) {
  return reinterpret_cast<PinTable*>(span.opaque[0]);
}
inline Session* HoldSessionOf(const agentmem_span& span) {
  return reinterpret_cast<Session*>(span.opaque[0]);
}
inline int PinOf(const agentmem_span& span) {
  return static_cast<int>((span.opaque[1] >> 8) & 0xff);
}
inline std::uint32_t SlotOf(const agentmem_span& span) {
  return static_cast<std::uint32_t>(span.opaque[1] >> 32);
}
inline std::uint64_t GenerationOf(const agentmem_span& span) {
  return span.opaque[2];
}
static_assert(kThreadPins <= 256);

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_SPAN_H_
