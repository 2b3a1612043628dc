/* Agents and regions: the C ABI. Included by agentmem.h.
 *
 * An agent is a named owner of memory that outlives its process. A region of it
 * is a range of bytes that memd keeps, 4 KiB to 1 TiB: mapped, and paged in at
 * the first touch (userfaultfd), or, where the kernel does not let a process
 * have that, read and written by calls (explicit). Writes are this process's
 * until agentmem_region_commit makes a version of them: an immutable cut that
 * any process of the tenant can open, on any node, now or next month. What was
 * not committed ends with its writer.
 *
 *   agentmem_agent_open(client, "coder-7", &options, timeout, &agent, &error);
 *   agentmem_region_open(agent, "heap", &region_options, timeout, &region, ..);
 *   char* bytes = agentmem_region_data(region);   (NULL: explicit)
 *   agentmem_region_commit(region, &commit_options, timeout, &version, &error);
 *
 * Ownership: what open returns is the caller's to close; regions before their
 *   agent, agents before the client. A region's memory ends with its close.
 *   Strings and structs that a callback gets end with the callback.
 * Threads: every function is thread-safe. Requests of one client to memd go one
 *   at a time; their deadline counts while they wait for their turn. Faults and
 *   agentmem_region_watch wait for nobody. Callbacks run in the calling thread
 *   with no lock held.
 * Fork: a child has no mapping of a region (a touch is SIGSEGV, not zeros), and
 *   every call there answers AGENTMEM_FAILED_PRECONDITION.
 * memd's end: agents and regions end with the memd that opened them; every call
 *   then answers AGENTMEM_UNAVAILABLE and says so. Close them and open the
 *   agent again. Memory that is there stays readable and writable until the
 *   close. A touch of what is not there waits for the agent's fault timeout and
 *   then is SIGBUS, in that thread alone (Linux 6.6; before, it waits until the
 *   region is closed, and then is SIGSEGV). Never zeros.
 * System calls: where a process may only have faults of user mode
 *   (agentmem_region_state.user_mode_only), a read(2) or write(2) whose buffer
 *   is a unit that is not there, or a read(2) into one that was not written
 *   since the last commit (AGENTMEM_REGION_SYNC), answers EFAULT: touch it so
 *   before, or copy. The functions of this library take any memory.
 * Errors: as agentmem.h. Every string is at most AGENTMEM_AGENT_NAME_MAX or
 *   AGENTMEM_REGION_NAME_MAX bytes; INVALID_ARGUMENT names what is wrong.
 * Times: as agentmem.h; a timeout of 0 is too short for a request to memd, and
 *   answers AGENTMEM_DEADLINE_EXCEEDED. After that answer memd may still do
 *   what was asked.
 */
#ifndef AGENTMEM_AGENTS_H_
#define AGENTMEM_AGENTS_H_

#include <stddef.h>
#include <stdint.h>

#include "agentmem/agentmem.h"

#ifdef __cplusplus
extern "C" {
#endif

#define AGENTMEM_AGENT_NAME_MAX 127      /* bytes, without the NUL */
#define AGENTMEM_REGION_NAME_MAX 63      /* bytes, without the NUL */
#define AGENTMEM_REGION_UNIT_BYTES 4096u /* sizes are multiples of it */
#define AGENTMEM_LABELS_MAX 32

typedef struct agentmem_agent agentmem_agent;
typedef struct agentmem_region agentmem_region;

typedef struct agentmem_label {
  const char* key;
  const char* value; /* NULL: empty */
} agentmem_label;

typedef struct agentmem_range {
  uint64_t offset;
  uint64_t bytes;
} agentmem_range;

/* What was done with a hint. Hints are never promises: a wrong one may cost
 * time, never data. */
typedef uint8_t agentmem_answer;
enum {
  AGENTMEM_ACCEPTED = 1,
  AGENTMEM_CLIPPED = 2,
  AGENTMEM_DEFERRED = 3,
  AGENTMEM_REJECTED = 4
};

/* ---- agents ------------------------------------------------------------- */

typedef uint32_t agentmem_agent_mode;
enum {
  AGENTMEM_AGENT_READ = 0,  /* any number of them */
  AGENTMEM_AGENT_WRITE = 1, /* one at a time, under a fence */
};

typedef struct agentmem_agent_options {
  uint32_t size; /* sizeof(agentmem_agent_options), set by the caller */
  agentmem_agent_mode mode;
  uint8_t create;    /* 1: make it if there is none (needs WRITE) */
  uint8_t take_over; /* 1: become the writer though another one lives, which is
                        fenced off: its commits answer ABORTED */
  uint8_t reserved[2];          /* 0 */
  uint32_t label_count;         /* at most AGENTMEM_LABELS_MAX */
  const agentmem_label* labels; /* of an agent that is made */
  uint64_t fault_timeout_ns;    /* how long a touch waits once memd is gone;
                                   0: 10 s, AGENTMEM_FOREVER: for ever */
} agentmem_agent_options;

/* `options` may be NULL: an existing agent, for reading. NOT_FOUND: there is
 * none; FAILED_PRECONDITION: another process writes it (named; see take_over);
 * UNIMPLEMENTED: this memd has no agents. */
AGENTMEM_API agentmem_code
agentmem_agent_open(agentmem_client* client, const char* name,
                    const agentmem_agent_options* options, uint64_t timeout_ns,
                    agentmem_agent** agent, agentmem_error* error);
/* NULL is allowed. The right to write ends with it, or with its last open
 * region; what was not committed is gone. */
AGENTMEM_API void agentmem_agent_close(agentmem_agent* agent);

typedef uint8_t agentmem_phase;
enum {
  AGENTMEM_REASONING = 1,
  AGENTMEM_TOOL = 2,
  AGENTMEM_HUMAN_WAIT = 3,
  AGENTMEM_IDLE = 4,
  AGENTMEM_DONE = 5
};

/* Tells memd what the agent does now, and so when its memory is next needed:
 * under pressure that of agents that are done leaves first, then of those that
 * are idle, wait for a human, for a tool. One that ends (`eta_ns`, from now; 0:
 * unknown) within a second, reasons, or never said anything, is at work.
 * `tool`: the tool's name in AGENTMEM_TOOL, else NULL. `answer` may be NULL; it
 * says CLIPPED: the eta to a day; DEFERRED: to when this process has a region
 * of it open, or one has blocks of it in device memory (kv.h). */
AGENTMEM_API agentmem_code
agentmem_agent_phase(agentmem_agent* agent, agentmem_phase phase,
                     const char* tool, uint64_t eta_ns, uint64_t timeout_ns,
                     agentmem_answer* answer, agentmem_error* error);
/* Replaces all labels. */
AGENTMEM_API agentmem_code agentmem_agent_set_labels(
    agentmem_agent* agent, const agentmem_label* labels, size_t count,
    uint64_t timeout_ns, agentmem_error* error);

typedef uint32_t agentmem_retention;
enum {
  AGENTMEM_RETAIN_ALL = 0,
  AGENTMEM_RETAIN_LAST = 1, /* the last `value` versions of each region */
  AGENTMEM_RETAIN_AGE = 2   /* versions younger than `value` nanoseconds */
};
/* Which versions are kept. The newest of a region always is. */
AGENTMEM_API agentmem_code agentmem_agent_set_retention(
    agentmem_client* client, const char* name, agentmem_retention retention,
    uint64_t value, uint64_t timeout_ns, agentmem_error* error);

typedef struct agentmem_hibernate_stats {
  uint64_t written_bytes;  /* what was not yet stored */
  uint64_t released_bytes; /* of DRAM */
} agentmem_hibernate_stats;

/* Stores what is not stored yet and lets go of the agent's DRAM; a touch brings
 * it back. `stats` may be NULL. */
AGENTMEM_API agentmem_code agentmem_agent_hibernate(
    agentmem_client* client, const char* name, uint64_t timeout_ns,
    agentmem_hibernate_stats* stats, agentmem_error* error);
/* Asks for what the agent touched first after its last resume; does not wait
 * for it. `asked_blocks` may be NULL. */
AGENTMEM_API agentmem_code agentmem_agent_resume(agentmem_client* client,
                                                 const char* name,
                                                 uint64_t timeout_ns,
                                                 uint64_t* asked_blocks,
                                                 agentmem_error* error);
/* All versions of all its regions. FAILED_PRECONDITION: a writer has it open.
 */
AGENTMEM_API agentmem_code agentmem_agent_delete(agentmem_client* client,
                                                 const char* name,
                                                 uint64_t timeout_ns,
                                                 agentmem_error* error);
/* A new agent `to` with the regions of `from` as they were committed; copies
 * nothing. `version`: 0: the newest of each region; else of an agent with one
 * region. ALREADY_EXISTS: `to` is taken. */
AGENTMEM_API agentmem_code agentmem_agent_fork(agentmem_client* client,
                                               const char* from,
                                               uint64_t version, const char* to,
                                               uint64_t timeout_ns,
                                               agentmem_error* error);

typedef struct agentmem_agent_info {
  const char* name;
  const char* writer; /* its client's name; empty: none now */
  int32_t writer_pid; /* 0: none now */
  uint32_t regions;
  agentmem_phase phase;
  uint8_t writing; /* 1: it has a writer now */
  uint8_t reserved[6];
  uint64_t region_bytes;      /* sum of its regions' sizes */
  uint64_t resident_bytes;    /* of them, in DRAM */
  uint64_t versions;          /* of all its regions, ever */
  uint64_t committed_unix_ns; /* newest version; of agent_show alone */
} agentmem_agent_info;        /* may grow at its end */

typedef struct agentmem_region_info {
  const char* name;
  uint64_t bytes;
  uint64_t version; /* 0: nothing was committed yet */
  uint64_t oldest_version;
  uint64_t resident_bytes;
  uint64_t dirty_bytes; /* written and not committed */
} agentmem_region_info; /* may grow at its end */

typedef void (*agentmem_agent_callback)(void* context,
                                        const agentmem_agent_info* info);
typedef void (*agentmem_region_callback)(void* context,
                                         const agentmem_region_info* info);

/* All agents whose names begin with `prefix` (NULL: all), by name. */
AGENTMEM_API agentmem_code agentmem_agent_list(
    agentmem_client* client, const char* prefix, uint64_t timeout_ns,
    agentmem_agent_callback callback, void* context, agentmem_error* error);
/* One agent, then its regions. Either callback may be NULL. */
AGENTMEM_API agentmem_code
agentmem_agent_show(agentmem_client* client, const char* name,
                    uint64_t timeout_ns, agentmem_agent_callback agent_callback,
                    agentmem_region_callback region_callback, void* context,
                    agentmem_error* error);

/* ---- regions ------------------------------------------------------------ */

typedef struct agentmem_region_options {
  uint32_t size; /* sizeof(agentmem_region_options), set by the caller */
  uint8_t force_explicit; /* 1: not mapped, read and written by calls */
  uint8_t reserved[3];    /* 0 */
  uint64_t bytes;   /* of a region that is made, a multiple of 4 KiB, 4 KiB to
                       1 TiB; 0: it must exist */
  uint64_t version; /* 0: the newest; else that one, for reading */
} agentmem_region_options;

/* Takes milliseconds whatever the size: nothing is loaded. `options` may be
 * NULL. For reading: a region of an agent opened for reading, or a version.
 * NOT_FOUND: no such region and bytes is 0, or no such version;
 * FAILED_PRECONDITION: it exists with another size (both named). */
AGENTMEM_API agentmem_code agentmem_region_open(
    agentmem_agent* agent, const char* name,
    const agentmem_region_options* options, uint64_t timeout_ns,
    agentmem_region** region, agentmem_error* error);
/* Unmaps it. NULL is allowed. No thread may touch its memory any more, nor be
 * in a call on it. What was not committed stays until its agent is closed. */
AGENTMEM_API void agentmem_region_close(agentmem_region* region);

typedef uint8_t agentmem_region_mode;
enum {
  AGENTMEM_REGION_EXPLICIT = 0, /* by agentmem_region_read and _write */
  AGENTMEM_REGION_SYNC = 1      /* mapped; a unit's first write since the last
                                   commit waits for memd */
};

typedef struct agentmem_region_state {
  uint32_t size; /* sizeof(agentmem_region_state), set by the caller */
  agentmem_region_mode mode;
  uint8_t read_only;
  uint8_t user_mode_only; /* 1: see "System calls" above */
  uint8_t lost;           /* 1: its memd is gone; open the agent again */
  uint8_t poisons;        /* 1: a touch past the fault timeout is SIGBUS;
                             0: this kernel cannot; it waits */
  uint8_t reserved[7];
  uint64_t faults_waiting;  /* touches that met a memd that was gone ... */
  uint64_t faults_poisoned; /* ... and those that were answered by SIGBUS; both
                               of all regions of this client */
  char reason[384]; /* why it is explicit, and what to set; empty: mapped */
} agentmem_region_state;

/* Its memory; NULL: it is explicit (agentmem_region_status says why). */
AGENTMEM_API void* agentmem_region_data(agentmem_region* region);
AGENTMEM_API uint64_t agentmem_region_size(agentmem_region* region);
/* Opened at, refreshed to, or made last by agentmem_region_commit. */
AGENTMEM_API uint64_t agentmem_region_version(agentmem_region* region);
/* Asks nobody: answers also when memd is gone. */
AGENTMEM_API agentmem_code agentmem_region_status(agentmem_region* region,
                                                  agentmem_region_state* state,
                                                  agentmem_error* error);

typedef struct agentmem_commit_options {
  uint32_t size;    /* sizeof(agentmem_commit_options), set by the caller */
  agentmem_ack ack; /* 0: AGENTMEM_DURABLE */
  uint8_t reserved[3];
  uint32_t label_count;         /* at most AGENTMEM_LABELS_MAX */
  uint32_t reserved1;           /* 0 */
  const char* message;          /* at most 4096 bytes; NULL: none */
  const agentmem_label* labels; /* at most 4096 bytes in all */
  uint8_t trace_id[16];         /* of the trace that this is part of, or 0 */
} agentmem_commit_options;

/* Makes a version of what the region holds now: a consistent cut, though other
 * threads go on writing. Costs the units written since the last one. `options`
 * and `version` may be NULL. ABORTED: another writer took over. */
AGENTMEM_API agentmem_code agentmem_region_commit(
    agentmem_region* region, const agentmem_commit_options* options,
    uint64_t timeout_ns, uint64_t* version, agentmem_error* error);
/* A version of each open region of the agent, all at one instant. */
AGENTMEM_API agentmem_code agentmem_agent_commit(
    agentmem_agent* agent, const agentmem_commit_options* options,
    uint64_t timeout_ns, agentmem_error* error);

/* Loads [offset, offset + bytes) in one request, before it is touched.
 * UNAVAILABLE: the store, or the node, that has some of it does not answer
 * (who touches it waits until it does). */
AGENTMEM_API agentmem_code agentmem_region_populate(agentmem_region* region,
                                                    uint64_t offset,
                                                    uint64_t bytes,
                                                    uint64_t timeout_ns,
                                                    agentmem_error* error);
/* Loads it, and keeps it in DRAM until unpin, the close, or the process's end:
 * for what system calls or devices reach. Counted under a quota. */
AGENTMEM_API agentmem_code agentmem_region_pin(agentmem_region* region,
                                               uint64_t offset, uint64_t bytes,
                                               uint64_t timeout_ns,
                                               agentmem_error* error);
AGENTMEM_API agentmem_code agentmem_region_unpin(agentmem_region* region,
                                                 uint64_t offset,
                                                 uint64_t bytes,
                                                 uint64_t timeout_ns,
                                                 agentmem_error* error);
/* Next use of it in `next_use_ns` from now: 0: at once (it is loaded),
 * AGENTMEM_FOREVER: never. `answer` may be NULL. */
AGENTMEM_API agentmem_code agentmem_region_hint(agentmem_region* region,
                                                uint64_t offset, uint64_t bytes,
                                                uint64_t next_use_ns,
                                                uint64_t timeout_ns,
                                                agentmem_answer* answer,
                                                agentmem_error* error);

/* Copies out of and into a region, in every mode. Where the region is mapped,
 * what is not there is loaded first, so that a memd or a store that is gone is
 * an answer (UNAVAILABLE) and not SIGBUS. A write that fails may be done in
 * part. OUT_OF_RANGE: beyond the region's end. */
AGENTMEM_API agentmem_code agentmem_region_read(agentmem_region* region,
                                                uint64_t offset, void* buffer,
                                                uint64_t bytes,
                                                uint64_t timeout_ns,
                                                agentmem_error* error);
AGENTMEM_API agentmem_code agentmem_region_write(
    agentmem_region* region, uint64_t offset, const void* buffer,
    uint64_t bytes, uint64_t timeout_ns, agentmem_error* error);

typedef void (*agentmem_range_callback)(void* context,
                                        const agentmem_range* range);

/* Moves a region that is open for reading to `version` (0: the newest), and
 * tells which ranges changed; one range of the whole region when they are too
 * many to tell. `changed` and `new_version` may be NULL. The caller keeps
 * threads from reading it meanwhile, or bears bytes of both. */
AGENTMEM_API agentmem_code agentmem_region_refresh(
    agentmem_region* region, uint64_t version, uint64_t timeout_ns,
    uint64_t* new_version, agentmem_range_callback changed, void* context,
    agentmem_error* error);
/* Sleeps until the region has a version newer than `after_version`, whoever
 * commits it: `version` is the newest. DEADLINE_EXCEEDED: none came. */
AGENTMEM_API agentmem_code agentmem_region_watch(agentmem_region* region,
                                                 uint64_t after_version,
                                                 uint64_t timeout_ns,
                                                 uint64_t* version,
                                                 agentmem_error* error);

/* ---- versions ----------------------------------------------------------- */

enum {
  AGENTMEM_VERSION_IS_REVERT = 1, /* equal to `origin` of this region */
  AGENTMEM_VERSION_IS_FORK = 2    /* equal to `origin` of the agent forked */
};

typedef struct agentmem_version_info {
  uint64_t number;
  uint64_t parent; /* 0: none */
  uint64_t origin;
  uint64_t unix_ns;
  uint64_t region_bytes;
  uint64_t changed_bytes;
  uint32_t changed_pages;
  uint32_t flags;
  const char* message; /* may be empty */
  const agentmem_label* labels;
  size_t label_count;
  uint8_t trace_id[16];
} agentmem_version_info; /* may grow at its end */

typedef void (*agentmem_version_callback)(void* context,
                                          const agentmem_version_info* info);

/* At most `count` versions (0: all), newest first, from `from` (0: the newest)
 * down. */
AGENTMEM_API agentmem_code agentmem_region_history(
    agentmem_client* client, const char* agent, const char* region,
    uint64_t from, uint64_t count, uint64_t timeout_ns,
    agentmem_version_callback callback, void* context, agentmem_error* error);
/* The ranges in which two versions differ, ascending. `from` 0: a region of
 * zeros, so that the ranges are all that was ever written; `to` 0: the newest.
 */
AGENTMEM_API agentmem_code agentmem_region_diff(
    agentmem_client* client, const char* agent, const char* region,
    uint64_t from, uint64_t to, uint64_t timeout_ns,
    agentmem_range_callback callback, void* context, agentmem_error* error);
/* A new version that is equal to `version`; nothing is lost.
 * FAILED_PRECONDITION: a writer has the agent open. `new_version` may be NULL.
 */
AGENTMEM_API agentmem_code agentmem_region_revert(
    agentmem_client* client, const char* agent, const char* region,
    uint64_t version, uint64_t timeout_ns, uint64_t* new_version,
    agentmem_error* error);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* AGENTMEM_AGENTS_H_ */
