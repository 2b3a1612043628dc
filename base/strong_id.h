// Integers that cannot be taken for one another.
//
//   using ClientId = StrongId<struct ClientIdTag, std::uint64_t>;
#ifndef AGENTMEM_BASE_STRONG_ID_H_
#define AGENTMEM_BASE_STRONG_ID_H_

#include <compare>
#include <utility>

namespace agentmem {

template <typename Tag, typename Rep>
class StrongId {
 public:
  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  friend constexpr auto operator<=>(StrongId, StrongId) = default;
  template <typename H>
  friend H AbslHashValue(H state, StrongId id) {
    return H::combine(std::move(state), id.value_);
  }

 private:
  Rep value_{};
};

}  // namespace agentmem

#endif  // AGENTMEM_BASE_STRONG_ID_H_
