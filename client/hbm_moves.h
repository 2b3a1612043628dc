// The keeper's own copies: blocks that leave the pool are written into DRAM,
// blocks that come back are read from there. Each is one copy of contiguous
// bytes.
//
// On streams of their own: transfers stand behind engines' work, and an agent
// that leaves in time must not. Not many at a time (16 MiB each way): engines'
// transfers have the bus, too.
//
// Ownership: borrows its parts; has a use of each block, a reservation or a
// pin, until its copy has ended. Threads: one, the same always: it pins.
// Errors: are the pool's to know: EndWrite says whether a block is below;
// EndFill, whether it is there. Cost: Advance: a look at each copy's event;
// WriteDown waits 1 ms for room.
#ifndef AGENTMEM_CLIENT_HBM_MOVES_H_
#define AGENTMEM_CLIENT_HBM_MOVES_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>

#include "agentmem/agentmem.h"
#include "client/hbm_pool.h"
#include "client/kv_transfer.h"
#include "cuda/device.h"

namespace agentmem::client {

class HbmMoves {
 public:
  static constexpr std::uint64_t kBytesMax = 16 << 20;  // under way, each way

  // Of `parts`: device, memory, reader, writer.
  HbmMoves(const KvParts& parts, HbmPool* pool) : parts_(parts), pool_(pool) {}
  // The device is at its end if something is under way.
  ~HbmMoves();
  HbmMoves(const HbmMoves&) = delete;
  HbmMoves& operator=(const HbmMoves&) = delete;

  // Less than may be is under way.
  bool TakesWrites() const { return down_bytes_ < kBytesMax; }
  bool TakesReads() const { return up_bytes_ < kBytesMax; }
  // Of TakeToWrite. False: memd is gone, or has no room for what must not be
  // lost: not soon again.
  bool WriteDown(const HbmBlock& block);
  // There is nothing more to write: that memd was late is forgotten.
  void EndRow() {
    if (downs_.empty()) lates_ = 0;
  }

  enum class Read : std::uint8_t {
    kDone,    // begun, or it is there, or cannot be
    kLater,   // memd has it, but not in DRAM yet; or another fills it just now
    kNoRoom,  // in the pool
  };
  Read BringUp(const HbmPool::Remembered& what, HbmAgent agent);

  // Takes what has ended. True: nothing is under way.
  bool Advance();
  // As Advance, without waiting for memd. True: the device copies nothing.
  bool AdvanceCopies();
  // Under way for that agent.
  std::size_t reads(HbmAgent agent) const;
  // Writes that came to nothing, ever.
  std::uint64_t failures() const { return failures_; }

 private:
  struct Down {
    HbmBlock block;
    agentmem_reservation room = {};
    Event event{};
    bool is_whole = false;
    agentmem_put_id put = 0;  // its copy has ended
  };
  struct Up {
    HbmBlock block;
    HbmAgent agent;
    agentmem_span span = {};
    Event event{};
    bool is_whole = false;
  };

  Outcome Copy(const HbmBlock& block, const void* host, Direction direction);
  bool AdvanceDown(Down* down);
  HbmWritten EndDown(const Down& down, const Outcome& outcome);
  Outcome Publish(Down* down, EventState state);

  const KvParts parts_;
  HbmPool* const pool_;
  std::deque<Down> downs_;  // oldest first
  std::deque<Up> ups_;
  std::map<HbmAgent, std::size_t> reads_;
  std::uint64_t down_bytes_ = 0;
  std::uint64_t up_bytes_ = 0;
  std::uint64_t failures_ = 0;
  bool waits_for_memd_ = true;
  int lates_ = 0;  // writes for which memd was late, in a row
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_HBM_MOVES_H_
