/* libagentmem: the C ABI. Stable under its soname; agentmem.hpp is the C++
 * layer over it (header-only).
 *
 * A client is a process's connection to the memd of its node. Blocks are
 * immutable bytes (1 B to 4 MiB) under a 128-bit key. A get of a block that is
 * in DRAM makes no system call, copies nothing and does not involve memd: it
 * returns a span into shared memory, pinned until it is released.
 *
 * Ownership: what connect/open return is the caller's to close. Spans must be
 *   released; they stay valid when memd dies, until released or closed.
 * Threads: every function is thread-safe, but one object other than the client
 *   (a sequence, a span, a reservation) is used by one thread at a time. Pins
 *   are kept per thread; a span may be released by any thread.
 * Fork: a forked child must not use the client; every call there answers
 *   AGENTMEM_FAILED_PRECONDITION and touches nothing.
 * Errors: the canonical codes. When `error` is not NULL and the code is not OK,
 *   it receives the code and a sentence for people.
 * Signals, environment, standard streams: untouched. Never aborts on what a
 *   daemon, peer or user can cause.
 * Times: timeouts are nanoseconds from now; 0 means "do not wait",
 *   AGENTMEM_FOREVER no limit.
 */
#ifndef AGENTMEM_AGENTMEM_H_
#define AGENTMEM_AGENTMEM_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AGENTMEM_API __attribute__((visibility("default")))
#define AGENTMEM_VERSION_MAJOR 0
#define AGENTMEM_VERSION_MINOR 1
#define AGENTMEM_FOREVER UINT64_MAX
#define AGENTMEM_BLOCK_BYTES_MAX (4u << 20)

typedef int32_t agentmem_code;
enum {
  AGENTMEM_OK = 0,
  AGENTMEM_CANCELLED = 1,
  AGENTMEM_UNKNOWN = 2,
  AGENTMEM_INVALID_ARGUMENT = 3,
  AGENTMEM_DEADLINE_EXCEEDED = 4,
  AGENTMEM_NOT_FOUND = 5,
  AGENTMEM_ALREADY_EXISTS = 6,
  AGENTMEM_PERMISSION_DENIED = 7,
  AGENTMEM_RESOURCE_EXHAUSTED = 8,
  AGENTMEM_FAILED_PRECONDITION = 9,
  AGENTMEM_ABORTED = 10,
  AGENTMEM_OUT_OF_RANGE = 11,
  AGENTMEM_UNIMPLEMENTED = 12,
  AGENTMEM_INTERNAL = 13,
  AGENTMEM_UNAVAILABLE = 14,
  AGENTMEM_DATA_LOSS = 15
};

typedef struct agentmem_error {
  agentmem_code code;
  char message[508]; /* NUL-terminated */
} agentmem_error;

/* "group" decides placement in a cluster; "name" must be unique in a tenant. */
typedef struct agentmem_key {
  uint32_t group;
  uint32_t name[3];
} agentmem_key;

typedef uint8_t agentmem_class;
enum { AGENTMEM_CACHE = 1, AGENTMEM_STATE = 2 };

typedef uint8_t agentmem_ack;
enum { AGENTMEM_VISIBLE = 1, AGENTMEM_REPLICATED = 2, AGENTMEM_DURABLE = 3 };

typedef uint8_t agentmem_tier;
enum {
  AGENTMEM_TIER_NONE = 0,
  AGENTMEM_TIER_HBM = 1,
  AGENTMEM_TIER_DRAM = 2,
  AGENTMEM_TIER_POOL = 3,
  AGENTMEM_TIER_STORE = 4
};

typedef struct agentmem_client agentmem_client;
typedef struct agentmem_sequence agentmem_sequence;

/* ---- connection -------------------------------------------------------- */

typedef struct agentmem_options {
  uint32_t size;           /* sizeof(agentmem_options), set by the caller */
  uint32_t reserved;       /* 0 */
  const char* socket_path; /* NULL: $AGENTMEM_SOCKET; else
                              $XDG_RUNTIME_DIR/agentmem/memd.sock, as root
                              /run/agentmem/memd.sock */
  const char* tenant;      /* NULL: the user's default tenant */
  const char* name;        /* NULL: the program's name; for memctl clients */
  uint64_t timeout_ns;     /* for connecting; 0: 5 s */
} agentmem_options;

/* `options` may be NULL. UNAVAILABLE: no memd answers (the message names the
 * socket); PERMISSION_DENIED: the tenant is not this user's;
 * FAILED_PRECONDITION: another version (both named). */
AGENTMEM_API agentmem_code agentmem_connect(const agentmem_options* options,
                                            agentmem_client** client,
                                            agentmem_error* error);
/* Returns pins, holds and grants. NULL is allowed. No other thread may be in a
 * call on this client; all spans of it end. */
AGENTMEM_API void agentmem_close(agentmem_client* client);

/* ---- blocks: get ------------------------------------------------------- */

typedef struct agentmem_span {
  const void* data; /* NULL: this block was not obtained */
  uint64_t length;
  uint64_t opaque[3]; /* how it is pinned; do not touch */
  uint8_t tier;       /* where it was found (agentmem_tier) */
  uint8_t reserved[7];
} agentmem_span;

/* Gets `count` blocks; spans[i] belongs to keys[i]. Blocks in DRAM are pinned
 * at once; for others memd is asked once, and waited for until the timeout. OK:
 * all are there. Otherwise some spans may be there (data not NULL) and must be
 * released: NOT_FOUND (some are stored nowhere), DEADLINE_EXCEEDED, UNAVAILABLE
 * (memd is gone), RESOURCE_EXHAUSTED (hold quota or pool; named), DATA_LOSS
 * (the only copy is corrupt). With a timeout of 0 the index is the answer:
 * NOT_FOUND only if no put of this client is still on its way. */
AGENTMEM_API agentmem_code agentmem_get(agentmem_client* client,
                                        const agentmem_key* keys, size_t count,
                                        uint64_t timeout_ns,
                                        agentmem_span* spans,
                                        agentmem_error* error);
/* Ends spans and clears them. Spans without data are skipped. Never waits. */
AGENTMEM_API void agentmem_release(agentmem_client* client,
                                   agentmem_span* spans, size_t count);
/* Turns short pins into holds, which memd counts under a quota: for spans kept
 * longer than a call or two. Spans stay valid whatever the code. */
AGENTMEM_API agentmem_code agentmem_hold(agentmem_client* client,
                                         agentmem_span* spans, size_t count,
                                         uint64_t timeout_ns,
                                         agentmem_error* error);
/* tiers[i]: the highest tier that has keys[i]. One walk in shared memory; on a
 * node by itself that is all. In a cluster memd is asked for the keys that the
 * node has not met, and asks the others, also for blocks put a moment ago: a
 * round trip for each 128 keys, 100 ms at most in all. Bytes are not brought.
 * NONE: nobody has it, or who may have it did not answer by then. */
AGENTMEM_API agentmem_code agentmem_contains(agentmem_client* client,
                                             const agentmem_key* keys,
                                             size_t count, agentmem_tier* tiers,
                                             agentmem_error* error);
/* Asks memd to bring blocks into DRAM; does not wait for them. */
AGENTMEM_API agentmem_code agentmem_prefetch(agentmem_client* client,
                                             const agentmem_key* keys,
                                             size_t count,
                                             agentmem_error* error);

/* ---- blocks: put ------------------------------------------------------- */

/* A posted put. 0 is none. Ends with agentmem_put_wait (unless that answered
 * DEADLINE_EXCEEDED) or agentmem_put_forget. */
typedef uint64_t agentmem_put_id;

/* Copies `length` bytes into shared memory and posts them under `key`. Waits,
 * up to the timeout, only for room. A key that exists already keeps its bytes,
 * and the put succeeds. `put` may be NULL: then nobody will ask for its
 * outcome. INVALID_ARGUMENT: length 0 or beyond AGENTMEM_BLOCK_BYTES_MAX,
 * unknown class or ack. RESOURCE_EXHAUSTED: everything is pinned or over quota
 * (named). */
AGENTMEM_API agentmem_code
agentmem_put(agentmem_client* client, const agentmem_key* key, const void* data,
             uint64_t length, agentmem_class block_class, agentmem_ack ack,
             uint64_t timeout_ns, agentmem_put_id* put, agentmem_error* error);

typedef struct agentmem_reservation {
  void* data; /* write here */
  uint64_t capacity;
  uint64_t opaque[3];
} agentmem_reservation;

/* Room for `length` bytes in shared memory, for a producer that writes there
 * itself. Ends with publish or abandon. */
AGENTMEM_API agentmem_code agentmem_reserve(agentmem_client* client,
                                            uint64_t length,
                                            uint64_t timeout_ns,
                                            agentmem_reservation* reservation,
                                            agentmem_error* error);
/* Posts the first `length` bytes of the reservation under `key`; ends it,
 * whatever the code. */
AGENTMEM_API agentmem_code agentmem_publish(
    agentmem_client* client, agentmem_reservation* reservation,
    const agentmem_key* key, uint64_t length, agentmem_class block_class,
    agentmem_ack ack, uint64_t timeout_ns, agentmem_put_id* put,
    agentmem_error* error);
AGENTMEM_API void agentmem_abandon(agentmem_client* client,
                                   agentmem_reservation* reservation);
/* Waits until the wanted acknowledgement is reached. */
AGENTMEM_API agentmem_code agentmem_put_wait(agentmem_client* client,
                                             agentmem_put_id put,
                                             uint64_t timeout_ns,
                                             agentmem_error* error);
AGENTMEM_API void agentmem_put_forget(agentmem_client* client,
                                      agentmem_put_id put);

/* ---- objects: immutable bytes of any size under a name ------------------ */

/* Stores an object: all of it is readable under `name`, or none. Waits for the
 * acknowledgement. ALREADY_EXISTS: the name is taken. */
AGENTMEM_API agentmem_code agentmem_object_put(
    agentmem_client* client, const char* name, const void* data,
    uint64_t length, agentmem_class block_class, agentmem_ack ack,
    uint64_t timeout_ns, agentmem_error* error);
/* NOT_FOUND: no such object, or a cache block of it is gone. */
AGENTMEM_API agentmem_code agentmem_object_size(agentmem_client* client,
                                                const char* name,
                                                uint64_t timeout_ns,
                                                uint64_t* length,
                                                agentmem_error* error);
/* Copies bytes [offset, offset + capacity) that exist; `length`: how many. */
AGENTMEM_API agentmem_code
agentmem_object_get(agentmem_client* client, const char* name, uint64_t offset,
                    void* data, uint64_t capacity, uint64_t timeout_ns,
                    uint64_t* length, agentmem_error* error);

/* ---- sequences: chains of KV blocks ------------------------------------ */

typedef struct agentmem_sequence_options {
  uint32_t size;              /* sizeof(agentmem_sequence_options) */
  uint32_t block_tokens;      /* tokens a block, 1 to 65536 */
  const char* model;          /* names which model's KV this is; required */
  const void* layout_digest;  /* what else must be equal for bytes to be usable:
                                 dtype, layout, adapter, ...; may be NULL */
  size_t layout_digest_bytes; /* at most 64 */
} agentmem_sequence_options;

AGENTMEM_API agentmem_code agentmem_sequence_open(
    agentmem_client* client, const agentmem_sequence_options* options,
    agentmem_sequence** sequence, agentmem_error* error);
AGENTMEM_API void agentmem_sequence_close(agentmem_sequence* sequence);

/* The longest stored prefix of `tokens`, in whole blocks: writes its keys (at
 * most `capacity`) and sets the sequence's head behind it. Blocks in any tier
 * count. One walk in shared memory: no daemon, no system call. In a cluster
 * those of other nodes count, too: where the walk ends, memd is asked for the
 * next blocks, 4, then 16, 64, 128 at a time while all of them are found. A
 * prefix that ends there costs one round trip to memd. All of it takes 100 ms
 * at most; what did not come by then, or memd being gone, ends the prefix. */
AGENTMEM_API agentmem_code
agentmem_sequence_match(agentmem_sequence* sequence, const uint32_t* tokens,
                        size_t token_count, agentmem_key* keys, size_t capacity,
                        size_t* matched_blocks, agentmem_error* error);
/* The key of the block behind the head, which `tokens` (the whole list, from
 * the first token on) continues; moves the head behind it. OUT_OF_RANGE: tokens
 * do not fill that block. */
AGENTMEM_API agentmem_code agentmem_sequence_next(agentmem_sequence* sequence,
                                                  const uint32_t* tokens,
                                                  size_t token_count,
                                                  agentmem_key* key,
                                                  agentmem_error* error);
/* next and put in one. */
AGENTMEM_API agentmem_code agentmem_sequence_append(
    agentmem_sequence* sequence, const uint32_t* tokens, size_t token_count,
    const void* data, uint64_t length, agentmem_class block_class,
    agentmem_ack ack, uint64_t timeout_ns, agentmem_put_id* put,
    agentmem_error* error);
/* match and get in one: spans of the longest prefix (at most `capacity`). A
 * block that vanished in between ends the prefix: not an error. Other nodes are
 * asked as by match, within the timeout; with a timeout of 0 they are not. */
AGENTMEM_API agentmem_code agentmem_sequence_load(
    agentmem_sequence* sequence, const uint32_t* tokens, size_t token_count,
    uint64_t timeout_ns, agentmem_span* spans, size_t capacity,
    size_t* loaded_blocks, agentmem_error* error);

#ifdef __cplusplus
} /* extern "C" */
#endif

/* Agents and regions: mutable memory with versions. */
#include "agentmem/agents.h"

#endif /* AGENTMEM_AGENTMEM_H_ */
