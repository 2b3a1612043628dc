// Moves KV blocks between an engine's cache in device memory and the tenant's
// DRAM: the device copies straight into and out of the shared slots.
//
// A store: for each block a slot is reserved, the device gathers the block's
// fragments into it behind what the engine has posted so far, and when its
// event has passed, the slot is published. A load: the blocks are brought into
// DRAM and held, the device scatters them layer by layer, and each layer has an
// event of its own, so that the engine computes the first while the others
// arrive. A load goes in windows: what is in DRAM is copied while memd brings
// the next ones, and when more are wanted than may be held at a time, they wait
// for those before them. The layers' events stand in the last window, which the
// device begins when it is done with the others. So the first layer of a load
// that is in DRAM, and within the quota of holds, is there when its own bytes
// are; of another, when all but one window are there.
//
// With a pool of blocks in device memory (client/hbm_pool.h): a load takes what
// is in the pool from there, by copies within the device. Other blocks go into
// a slot of the pool, if there is one, layer by layer, and from there into the
// engine's pages: one long fragment over the bus instead of many short ones. A
// store gathers into a slot of the pool and copies that into DRAM, for the same
// reason. What is within the device goes on a stream of its own: the next block
// is gathered while one crosses the bus, and a layer scattered while the next
// does. What came so into the pool is
// found there when the event behind it has passed. Without a slot all of it
// goes as if there were no pool.
//
// A compressed cache's blocks are FP8 (client/kv_fp8.h): kernels take the place
// of fragments. A store makes the codes where it would gather: in the slot of
// the pool, if there is one, which the header and the zeros between codes are
// sent into before; a load makes elements of them from wherever they are. The
// codes of several blocks of a store are made by one post.
//
// Nothing here has a thread: what has ended is looked at in Post, Advance and
// Wait. A transfer that nobody wants any more is advanced until it is done
// (KvDevice does), since the device writes into what it holds.
//
// Advance waits for nobody. A memd that is there and takes nothing (it hangs,
// or is stopped) has a full ring at last: blocks whose copies have ended are
// queued then, each in the slot that it was granted, before all that the client
// asks of memd later (Writer::QueuePublish). Only Wait waits for memd, until
// its deadline. What the pool has of such a block is found there: its copies
// have ended.
//
// Ownership: borrows its parts and, in Post alone, the arguments. Threads: one
// at a time. Errors: INVALID_ARGUMENT naming the argument; NOT_FOUND: a block
// is nowhere; DATA_LOSS: it has another length than the layout says, or is FP8
// of another shape;
// RESOURCE_EXHAUSTED: no room or quota (named); UNAVAILABLE: memd or the
// device is gone. After an error of Post the pages of a load are undefined,
// some blocks of a store may be there, and what the engine posts to the same
// stream waits for the copies that are still under way. Cost: Post: a lock and
// a post of copies a block (and a layer); waits only for room and for blocks
// that are not in DRAM.
#ifndef AGENTMEM_CLIENT_KV_TRANSFER_H_
#define AGENTMEM_CLIENT_KV_TRANSFER_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "agentmem/agentmem.h"
#include "client/deadline.h"
#include "client/device_memory.h"
#include "client/hbm_pool.h"
#include "client/kv_cache.h"
#include "client/kv_fp8.h"
#include "client/reader.h"
#include "client/writer.h"
#include "cuda/copy_plan.h"
#include "cuda/device.h"
#include "cuda/kv_layout.h"
#include "proto/outcome.h"

namespace agentmem::client {

struct KvParts {
  Device* device = nullptr;
  const Crossovers* crossovers = nullptr;
  DeviceMemory* memory = nullptr;
  Reader* reader = nullptr;
  Writer* writer = nullptr;
  HbmPool* pool = nullptr;  // null: none
  // Null: what is moved does not stay in the pool.
  std::shared_ptr<const HbmKeep> keep;
};

// Block i has keys[i] and the pages [i * block_pages, (i + 1) * block_pages).
struct KvBlocks {
  std::span<const Key> keys;
  std::span<const std::uint32_t> pages;
};

// Within the device a kernel is the faster for all that it takes well.
inline constexpr SplitRule kRuleWithin = {kKernelFragmentBytesMax + 1,
                                          CopyMethod::kKernel};

// Posts the copies, each by the way that the rule has for it. Brings
// `fragments` into another order. Not OK: some may be posted.
Outcome PostFragments(Device* device, Direction direction, Stream stream,
                      const SplitRule& rule, std::span<Fragment> fragments);

// Memory that memd takes back just now is asked for again, until the deadline.
Outcome BeginUse(DeviceMemory* memory, Session* session, const void* data,
                 std::uint64_t bytes, const Deadline& deadline);

// After a failure: what the engine posts from here on waits for the copies that
// are under way on `ours`; if it cannot be told so, the caller waits.
void HoldUp(Device* device, Stream ours, Stream engine, Event* fence);

class KvTransfer {
 public:
  virtual ~KvTransfer() = default;
  KvTransfer(const KvTransfer&) = delete;
  KvTransfer& operator=(const KvTransfer&) = delete;

  // Takes what has ended. True: the device uses nothing of it any more.
  bool Advance();
  // OK: all of it is done (a store: as its acknowledgement says).
  // DEADLINE_EXCEEDED: it goes on.
  virtual Outcome Wait(const Deadline& deadline) = 0;
  // What is posted to `stream` from here on waits for this layer.
  virtual Outcome WaitLayer(std::uint32_t layer, Stream stream) = 0;
  // Of a load: where each block was when it began.
  virtual std::span<const agentmem_tier> tiers() const { return {}; }

 protected:
  KvTransfer(const KvParts& parts, std::shared_ptr<const KvCache> cache,
             Direction direction);

  // What the device begins on `ours` from here on, it begins behind what the
  // engine has posted.
  Outcome StandBehind(Stream engine, std::span<const Stream> ours);
  // After a failure: see HoldUp.
  void HoldUpEngine(Stream engine, std::span<const Stream> ours);
  // Takes those pieces of it whose events have passed. True: none is left.
  virtual bool AdvanceCopies() = 0;
  void Note(const Outcome& outcome) {
    if (outcome_.ok()) outcome_ = outcome;
  }

  const KvParts parts_;
  const std::shared_ptr<const KvCache> cache_;
  const Stream stream_;  // the device's own, of this direction
  Outcome outcome_;      // the first failure

 private:
  Event engine_{};            // what the engine had posted
  std::deque<Event> fences_;  // of HoldUpEngine
};

class KvStore final : public KvTransfer {
 public:
  KvStore(const KvParts& parts, std::shared_ptr<const KvCache> cache,
          BlockClass block_class, Ack ack);
  ~KvStore() override;

  Outcome Post(const KvBlocks& blocks, Stream engine, const Deadline& deadline);
  Outcome Wait(const Deadline& deadline) override;
  Outcome WaitLayer(std::uint32_t layer, Stream stream) override;

 private:
  struct Moving {
    agentmem_reservation room;
    Key key;
    Event event;
    bool is_whole = false;  // all its copies were posted, or will be
    HbmBlock slot;          // in the pool
    bool is_filling = false;
    bool is_gathered = false;  // into its slot; until `gathered` has passed
    Event gathered{};
  };

  // With a pool, fragments are gathered on a stream of their own, so that the
  // next block's are while one crosses the bus.
  std::span<const Stream> streams() const {
    return std::span(streams_).first(parts_.pool == nullptr ? 1 : 2);
  }
  Outcome Reserve(const Deadline& deadline, agentmem_reservation* room);
  Outcome Move(const Key& key, std::span<const std::uint32_t> pages,
               const Deadline& deadline);
  void TakeSlot(Moving* moving);
  void EndSlot(const Moving& moving, bool whole);
  Outcome PostCopies(std::span<const std::uint32_t> pages, Moving* moving);
  Outcome AddCodes(std::span<const std::uint32_t> pages, Moving* moving,
                   const Deadline& deadline);
  Outcome PostCodes(const Deadline& deadline);
  void EndCodes();
  Outcome CopyWhole(const Moving& moving);
  Outcome Gather(std::span<const std::uint32_t> pages, char* block,
                 const SplitRule& rule, Stream stream);
  Outcome GatherInto(std::span<const std::uint32_t> pages, Moving* moving);
  bool AdvanceCopies() override;
  // False: it reads the engine's pages still.
  bool EndGather(Moving* moving);
  void Finish(Moving* moving, EventState state, const Outcome& why);
  void Publish(Moving* moving);

  const BlockClass block_class_;
  const Ack ack_;
  const std::array<Stream, 2> streams_;  // stream_, and within the device
  std::deque<Moving> moving_;            // oldest first
  std::vector<agentmem_put_id> puts_;    // published
  std::vector<Fragment> fragments_;      // of one block, kept for its memory
  KvFp8Post fp8_;                        // of a compressed cache
  std::size_t unposted_ = 0;  // the last of moving_, whose codes it has
};

class KvLoad final : public KvTransfer {
 public:
  KvLoad(const KvParts& parts, std::shared_ptr<const KvCache> cache);
  ~KvLoad() override;

  Outcome Post(const KvBlocks& blocks, Stream engine, const Deadline& deadline);
  Outcome Wait(const Deadline& deadline) override;
  Outcome WaitLayer(std::uint32_t layer, Stream stream) override;

  std::span<const agentmem_tier> tiers() const override { return tiers_; }

 private:
  // A block on its way: out of DRAM, out of the pool, or out of the one into
  // the other.
  struct Piece {
    std::size_t block = 0;       // of the load's
    const char* dram = nullptr;  // null: it was in the pool
    HbmBlock slot;
    bool is_filling = false;
  };
  struct Window {
    std::size_t first = 0;  // of the blocks that were not in the pool
    std::vector<agentmem_span> spans;
    std::size_t begun = 0;  // of them, which the device may reach
    std::vector<Piece> pieces;
    bool is_whole = false;      // all its copies were posted
    Event event{};              // behind those of stream_
    std::vector<Event> joins;   // before it, where scatters wait for stream_
    bool is_scattered = false;  // out of slots; until `scattered` has passed
    Event scattered{};
  };

  // With a pool, slots are scattered on a stream of their own, so that what
  // comes next crosses the bus meanwhile.
  std::span<const Stream> streams() const {
    return std::span(streams_).first(parts_.pool == nullptr ? 1 : 2);
  }

  Outcome Check(const KvBlocks& blocks) const;
  void FindInPool(const KvBlocks& blocks);
  void NoteTiers(const KvBlocks& blocks);
  Outcome PostAll(const KvBlocks& blocks, const Deadline& deadline);
  void PrefetchAhead(std::size_t next);
  Outcome HoldSome(const Deadline& deadline, Window* window);
  void PinFirst(const Key* keys, std::vector<agentmem_span>* spans);
  std::size_t AwaitedOf(std::size_t count) const;
  Outcome BeginPieces(const Deadline& deadline, Window* window);
  void TakeSlot(const Key& key, Piece* piece);
  Outcome PostWindow(const KvBlocks& blocks, const Deadline& deadline,
                     Window* window);
  std::span<const std::uint32_t> PagesOf(const KvBlocks& blocks,
                                         const Piece& piece) const {
    return blocks.pages.subspan(piece.block * cache_->block_pages,
                                cache_->block_pages);
  }
  Outcome PostLayer(const KvBlocks& blocks, Window* window, std::uint32_t layer,
                    bool is_last, const Deadline& deadline);
  // Slots into pages, behind what stream_ has: of a layer of the last window;
  // of the others, of all layers.
  Outcome Scatter(Window* window);
  Outcome PostElements(const KvBlocks& blocks, const Window& window,
                       std::uint32_t layer, const Deadline& deadline);
  bool AdvanceCopies() override;
  // False: it reads slots still.
  bool EndScatter(Window* window);
  void EndPieces(std::span<const Piece> pieces, bool whole);
  void Release(Window* window, bool whole);
  void EndLayers();

  const std::array<Stream, 2> streams_;  // stream_, and within the device
  // In the pool when the load began, until the first window takes them; and the
  // others.
  std::vector<Piece> hits_;
  std::vector<std::size_t> missing_;
  std::vector<Key> missing_keys_;
  std::size_t prefetched_ = 0;  // of missing_, asked of memd ahead
  std::vector<agentmem_tier> tiers_;
  std::deque<Window> windows_;  // oldest first
  std::vector<Event> layer_events_;
  bool has_scattered_ = false;       // any window
  std::vector<Fragment> fragments_;  // over the bus
  std::vector<Fragment> within_;     // the device
  KvFp8Post fp8_;                    // of a compressed cache
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_KV_TRANSFER_H_
