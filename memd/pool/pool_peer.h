// What a node knows of a peer after their Hello: how to reach its memory.
//
// Ownership: a value. Threads: thread-compatible. Errors, Cost: none.
#ifndef AGENTMEM_MEMD_POOL_POOL_PEER_H_
#define AGENTMEM_MEMD_POOL_POOL_PEER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"

namespace agentmem {

struct PoolPeer {
  std::string node;
  std::uint64_t instance = 0;  // which run of its memd
  std::string rack;
  std::string fabric_address;
  std::uint64_t token = 0;        // what we put into messages to it
  std::uint64_t token_given = 0;  // what its messages to us must carry
  // Of its export extents, as its transport names them.
  std::uint64_t export_address = 0;
  std::uint64_t export_key = 0;
  std::uint64_t export_bytes = 0;  // 0: it lends nothing
  // Of its store: what it speaks with others about it, how much of theirs and
  // its own it takes (0: it serves nobody), and where it is, for people.
  std::uint32_t store_version = 0;
  std::uint64_t store_bytes = 0;
  std::string store_path;
};

enum class PoolPeerState : std::uint8_t { kConnecting, kUp, kDown };

// For operators.
struct PoolPeerSnapshot {
  std::string node;
  std::string rack;
  std::uint64_t instance = 0;
  PoolPeerState state = PoolPeerState::kConnecting;
  DurationNs heard_ns = 0;  // since
  std::uint64_t export_bytes = 0;
  std::uint64_t room_bytes = 0;
  DurationNs round_trip_ns = 0;  // of the last ping
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t in_flight = 0;  // transfers
  std::uint64_t losses = 0;     // of the link
};

// A store of another node that this one's blocks are kept in.
struct RemoteStoreSnapshot {
  std::string node;
  bool reachable = false;  // and serving
  std::string text;        // for people: what it is, or why it is of no use
  std::uint64_t serve_bytes = 0;
  std::string path;
  std::uint64_t writes = 0;  // blocks that it has written down
  std::uint64_t bytes_written = 0;
  std::uint64_t refused = 0;
  bool refuses = false;  // the last block that it was asked to take
};

// What peers keep in this node's store.
struct ServedStoreSnapshot {
  std::uint64_t serve_bytes = 0;  // 0: it serves nobody
  std::uint64_t used_bytes = 0;   // of all blocks in it, this node's too
  std::uint64_t writes = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t refused = 0;
  std::uint64_t erased = 0;
  std::uint64_t under_way = 0;
};

struct PoolSnapshot {
  std::string node;
  std::uint64_t export_bytes = 0;  // this node's
  std::uint64_t export_used_bytes = 0;
  std::uint64_t export_blocks = 0;
  std::uint64_t export_evictions = 0;
  std::uint64_t reservations_expired = 0;
  std::uint64_t export_refused = 0;  // of blocks that may not leave: no room
  std::uint64_t gets = 0;
  std::uint64_t gets_local = 0;  // served by this node's own export extents
  std::uint64_t gets_not_found = 0;
  std::uint64_t gets_elsewhere = 0;  // by another than the first asked
  std::uint64_t puts = 0;
  std::uint64_t puts_failed = 0;
  std::uint64_t stale = 0;    // reads that met another life of the memory
  std::uint64_t corrupt = 0;  // copies that failed their checksum
  std::uint64_t bad_messages = 0;
  std::uint64_t repaired = 0;  // copies made anew
  std::uint64_t moved = 0;     // copies that went to where they belong now
  std::uint64_t queued = 0;    // operations under way
  std::vector<PoolPeerSnapshot> peers;
  bool store_remote = false;  // this node has none of its own
  std::vector<RemoteStoreSnapshot> stores;
  ServedStoreSnapshot served;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_POOL_POOL_PEER_H_
