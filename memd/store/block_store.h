// BlockStore: the durable tier under a node, asynchronous and batched.
//
// The caller submits operations over memory of its own and takes completions
// from a queue; an eventfd becomes readable when the queue is not empty.
//
// Ownership: iovecs must stay valid and unchanged until the operation's
// completion has been taken. The store owns nothing of the caller's.
// Threads: one caller thread (the reactor) but for ScanPrefix; the
// implementation's own threads only touch the iovecs. Callbacks: none. Errors:
// in the completion; codes NOT_FOUND (no such block), DATA_LOSS (its record is
// corrupt; the store logs why, once a block), RESOURCE_EXHAUSTED (disk full),
// UNAVAILABLE (the device failed), INVALID_ARGUMENT (the operation itself is
// wrong; of a get whose room is not the stored length, the completion holds
// that length). A failed put leaves nothing that Get or Scan shows. Cost:
// Submit never blocks: it returns how many were taken; the rest is to be
// submitted again after a completion.
#ifndef AGENTMEM_MEMD_STORE_BLOCK_STORE_H_
#define AGENTMEM_MEMD_STORE_BLOCK_STORE_H_

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/types.h"

namespace agentmem {

struct StoreOp {
  enum class Kind : std::uint8_t { kPut, kGet, kDelete };
  Kind kind = Kind::kPut;
  // kPut: the completion comes only after the record is on stable storage.
  bool durable = false;
  BlockClass block_class = BlockClass::kCache;
  TenantId tenant;
  Key key;
  std::uint64_t ticket = 0;  // the caller's; comes back in the completion
  // kPut: the bytes. kGet: room for exactly the stored length. Buffers start
  // and, but for the last one, end on 512 B so that direct I/O can take them.
  iovec bytes[1] = {};
};

struct StoreCompletion {
  std::uint64_t ticket = 0;
  Code code = Code::kOk;
  std::uint32_t length = 0;  // bytes written or read
  // Of a store that is another node's: its name, as much of it as there is room
  // for; else zeros.
  std::array<char, 24> node = {};
};

// What a store knows of a block without reading it.
struct StoredBlock {
  TenantId tenant;
  Key key;
  BlockClass block_class = BlockClass::kCache;
  std::uint32_t length = 0;
};

// Gets by the caller's own thread. Threads: one at a time.
class LoneReader {
 public:
  virtual ~LoneReader() = default;

  // Blocks for the disk.
  virtual StoreCompletion Read(const StoreOp& get) = 0;
};

class BlockStore {
 public:
  virtual ~BlockStore() = default;

  // Takes a prefix of `ops`; returns its size. Never blocks.
  virtual std::size_t Submit(std::span<const StoreOp> ops) = 0;

  // Moves finished operations into `out`; returns their number. Never blocks.
  virtual std::size_t Poll(std::span<StoreCompletion> out) = 0;

  // Readable (POLLIN) while Poll would return something. Owned by the store.
  virtual int completion_fd() const = 0;

  // Calls `visit` for every stored block, in no order; at start only, blocking.
  virtual absl::Status Scan(
      const std::function<void(const StoredBlock&)>& visit) = 0;

  // Calls `visit` for the stored blocks of `tenant` whose Key::low() is
  // `key_low`, in the order of Key::high() or none. Thread-safe, unlike the
  // rest; blocks; its cost is that of the blocks it visits. A block that is put
  // or deleted meanwhile may be visited or not. `visit` must not call the
  // store.
  virtual absl::Status ScanPrefix(
      TenantId tenant, std::uint64_t key_low,
      const std::function<void(const StoredBlock&)>& visit) = 0;

  // Thread-safe; the store must outlive it. Null: this store has none.
  virtual std::unique_ptr<LoneReader> NewReader() = 0;

  // Makes everything accepted stable, blocking; for shutdown.
  virtual absl::Status Flush() = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_BLOCK_STORE_H_
