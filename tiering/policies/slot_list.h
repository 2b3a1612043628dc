// A doubly linked list of slots whose links live in an array of the caller.
//
// A slot can stand in one list per links array at a time. Front is the end at
// which PushFront puts a slot; nothing here knows what the order means.
//
// Ownership: the links array belongs to the caller and must outlive the list.
// Threads: thread-compatible. Errors: none; the caller knows whether a slot is
// in the list. Cost: O(1) a call, no allocation.
#ifndef AGENTMEM_TIERING_POLICIES_SLOT_LIST_H_
#define AGENTMEM_TIERING_POLICIES_SLOT_LIST_H_

#include <cstdint>

namespace agentmem::tiering {

inline constexpr std::uint32_t kNoSlot = UINT32_MAX;

struct SlotLinks {
  std::uint32_t front = kNoSlot;  // the neighbour towards the front
  std::uint32_t back = kNoSlot;   // the neighbour towards the back
};

class SlotList {
 public:
  explicit SlotList(SlotLinks* links) : links_(links) {}

  bool empty() const { return front_ == kNoSlot; }
  std::uint32_t front() const { return front_; }
  std::uint32_t back() const { return back_; }
  std::uint32_t TowardsFront(std::uint32_t slot) const {
    return links_[slot].front;
  }

  void PushFront(std::uint32_t slot) {
    links_[slot] = {kNoSlot, front_};
    (front_ == kNoSlot ? back_ : links_[front_].front) = slot;
    front_ = slot;
  }

  void Remove(std::uint32_t slot) {
    const SlotLinks links = links_[slot];
    (links.front == kNoSlot ? front_ : links_[links.front].back) = links.back;
    (links.back == kNoSlot ? back_ : links_[links.back].front) = links.front;
    links_[slot] = {};
  }

 private:
  SlotLinks* links_;
  std::uint32_t front_ = kNoSlot;
  std::uint32_t back_ = kNoSlot;
};

}  // namespace agentmem::tiering

#endif  // AGENTMEM_TIERING_POLICIES_SLOT_LIST_H_
