/* agentmem, the C ABI: KV blocks between a device's memory and agentmem.
 *
 *   agentmem_device_open(client, &device_options, &device, &error);
 *   agentmem_kv_open(device, &layout, layers, NULL, pages, block_tokens, &kv,
 *                    &error);
 *   agentmem_kv_store(kv, keys, count, pages, stream, ..., &transfer, &error);
 *   ...
 *   agentmem_kv_load(kv, keys, count, pages, stream, ..., &transfer, &error);
 *   for each layer:
 *     agentmem_kv_wait_layer(transfer, layer, stream, &error);
 *     ... launch the layer's kernels on `stream` ...
 *   agentmem_kv_wait(transfer, timeout, &error);
 *   agentmem_kv_close_transfer(transfer);
 *
 * The engine keeps its KV cache as it likes, in pages of some tokens; a layout
 * says where. A block is so many whole pages of tokens, of all layers, and is
 * the same bytes whatever engine's layout it came from:
 *
 *   [layer][plane: K, V][token][head][element]
 *
 * Copies go straight between device memory and the shared DRAM. They stand
 * behind what was posted to the engine's stream before the call, and hold up
 * nothing that is posted to it later, unless it waits (agentmem_kv_wait_layer).
 * Until a transfer is done (agentmem_kv_wait), the engine must neither change
 * the pages of a store nor use those of a load; who closes a transfer earlier
 * does not learn when that is. A store and a load that follows it are not
 * ordered by the stream: wait for the one before the other. (A block whose
 * copy has ended and that a call has looked at since, a wait that timed out or
 * the close of the transfer, is found by any load after that.) After a store or
 * load that answered an error, what is posted to the same stream waits for the
 * copies that were begun: its pages may be used again there.
 *
 * A key must name all that its bytes depend on: the model, the rank of tensor
 * parallelism, the element type. Only the length is checked.
 *
 * A stream is the native handle (cudaStream_t) as an integer; 1 and 2 are
 * CUDA's legacy and per-thread default streams; 0 is refused. One that is being
 * captured into a graph is FAILED_PRECONDITION.
 *
 * Threads: one at a time for a transfer, any for the rest. No call aborts.
 * Opening a device (6 s where it is measured), closing it (30 s at most for
 * copies, and 15 s for memd) and freeing its memory wait without a timeout of
 * the caller's; so does the first use of each 4 MiB of DRAM, for milliseconds,
 * unless the device's thread has registered it before: when a device is opened
 * it begins with all that has blocks. */
#ifndef AGENTMEM_KV_H_
#define AGENTMEM_KV_H_

#include "agentmem/agentmem.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct agentmem_device agentmem_device;
typedef struct agentmem_kv agentmem_kv;
typedef struct agentmem_kv_transfer agentmem_kv_transfer;

typedef enum agentmem_device_kind {
  AGENTMEM_DEVICE_HOST = 1, /* none: threads and malloc, to try things out */
  AGENTMEM_DEVICE_CUDA = 2
} agentmem_device_kind;

typedef struct agentmem_device_options {
  uint32_t size;         /* sizeof(agentmem_device_options) */
  uint32_t kind;         /* agentmem_device_kind */
  uint32_t index;        /* which of them, as CUDA counts */
  uint32_t reserved;     /* 0 */
  uint64_t memory_bytes; /* of the host device; 0: 1 GiB */
} agentmem_device_options;

/* One device a client: another takes a client of its own. It must be closed
 * before the client. The first time on a machine a CUDA device is measured for
 * up to 2 s, or waits up to 4 s for another process that measures;
 * $XDG_STATE_HOME/agentmem/copy-crossovers keeps what was found (of
 * root: /var/lib/agentmem/copy-crossovers). UNAVAILABLE: there is no such
 * device, or libagentmem was built without it (named); FAILED_PRECONDITION: the
 * client has one already. */
AGENTMEM_API agentmem_code agentmem_device_open(
    agentmem_client* client, const agentmem_device_options* options,
    agentmem_device** device, agentmem_error* error);
/* Waits for copies that still run, 30 s at most. NULL is allowed. All of its kv
 * and transfers must be closed. Of a pool of blocks in device memory, those of
 * class state that are not below are written to DRAM first: if memd is gone,
 * the next one is looked for for about 1 s, and it has 5 s to take them. What
 * it has not taken by then is lost, as are blocks of class cache that are not
 * below. What stores that were closed have copied, and memd has had no room for
 * in its ring, goes out with the client's next call, or when the client is
 * closed, which waits 1 s for it. Beside the copies it ends within 15 s,
 * whatever memd does. */
AGENTMEM_API void agentmem_device_close(agentmem_device* device);

typedef struct agentmem_device_state {
  uint32_t size;             /* sizeof(agentmem_device_state) */
  uint32_t reserved;         /* 0 */
  char name[64];             /* as its driver says; "host" */
  uint64_t memory_bytes;     /* of the device */
  uint64_t registered_bytes; /* of DRAM, which it reaches */
  /* Fragments of fewer bytes are copied by a kernel, others by the copy engine;
   * out of the device and into it. Measured on this machine. */
  uint32_t kernel_below_bytes_out;
  uint32_t kernel_below_bytes_in;
  /* Whether small ones go staged (by a ring in device memory), and what was in
   * the way of measuring or keeping that; or "". */
  char note[256];
} agentmem_device_state;

AGENTMEM_API agentmem_code
agentmem_device_describe(agentmem_device* device, agentmem_device_state* state,
                         agentmem_error* error);

/* For an engine that is idle for long: gives back DRAM that memd wants (as the
 * device's thread does, 20 times a second), and ends transfers that were closed
 * before they were done. Every store, load, wait and describe does so as well.
 * With a pool of blocks in device memory, transfers that are open and done let
 * go of their blocks, too; the pool's thread does all of it by itself. Waits
 * for no copy that is not done. */
AGENTMEM_API void agentmem_device_poll(agentmem_device* device);

/* Memory of the device, for who has no allocator of his own. */
AGENTMEM_API agentmem_code agentmem_device_allocate(agentmem_device* device,
                                                    uint64_t bytes,
                                                    uint64_t* address,
                                                    agentmem_error* error);
AGENTMEM_API void agentmem_device_free(agentmem_device* device,
                                       uint64_t address);

typedef enum agentmem_kv_type {
  AGENTMEM_KV_FLOAT16 = 0,
  AGENTMEM_KV_BFLOAT16 = 1,
  AGENTMEM_KV_FLOAT32 = 2,
  AGENTMEM_KV_FP8 = 3,
  AGENTMEM_KV_INT8 = 4
} agentmem_kv_type;

/* Strides are in bytes, from one of them to the next; a head's elements lie
 * together. */
typedef struct agentmem_kv_layout {
  uint32_t size;   /* sizeof(agentmem_kv_layout) */
  uint32_t layers; /* 1 to 1024 */
  uint32_t planes; /* 2: K and V; 1: a latent */
  uint32_t page_tokens;
  uint32_t heads; /* of K and V, of this rank */
  uint32_t head_size;
  uint32_t type; /* agentmem_kv_type */
  uint32_t reserved;
  uint64_t plane_stride;
  uint64_t page_stride;
  uint64_t token_stride;
  uint64_t head_stride;
} agentmem_kv_layout;

/* The shapes that engines allocate, a tensor a layer where nothing else is
 * said. Engines change them between versions: a tensor's own strides are what
 * to ask first. `heads_first` (vLLM's HND) changes page_tokens and heads. */
typedef enum agentmem_kv_engine {
  /* vLLM with FlashAttention, of 2025: [2, pages, page_tokens, heads,
   * head_size] (vllm/v1/attention/backends/flash_attn.py) */
  AGENTMEM_KV_VLLM_FLASH = 1,
  /* vLLM with FlashInfer: [pages, 2, page_tokens, heads, head_size]
   * (vllm/v1/attention/backends/flashinfer.py) */
  AGENTMEM_KV_VLLM_FLASHINFER = 2,
  /* vLLM, all layers in one tensor, tokens first: [pages, layers, 2,
   * page_tokens, heads, head_size] (include_num_layers_dimension) */
  AGENTMEM_KV_VLLM_ALL_LAYERS = 3,
  /* vLLM 0.27 with FlashAttention: [pages, page_tokens, heads,
   * 2 x head_size] */
  AGENTMEM_KV_VLLM_PACKED = 4,
  /* SGLang's MHATokenToKVPool, tokens first: K and V are tensors of their own,
   * [pages x page_tokens, heads, head_size]; agentmem_kv_open takes `values`
   * (python/sglang/srt/mem_cache/memory_pool.py) */
  AGENTMEM_KV_SGLANG_MHA = 5,
  /* A latent, tokens first, heads is 1: [pages, page_tokens, head_size], where
   * head_size is kv_lora_rank + qk_rope_head_dim (SGLang's MLATokenToKVPool,
   * vLLM's MLA backends) */
  AGENTMEM_KV_MLA = 6
} agentmem_kv_engine;

/* Sets planes and all strides of `layout`, by its size, layers, page_tokens,
 * heads, head_size and type; `pages` are a tensor's. INVALID_ARGUMENT: no such
 * engine, or shape of it; a field out of its range (named). */
AGENTMEM_API agentmem_code agentmem_kv_layout_of(agentmem_kv_engine engine,
                                                 int heads_first,
                                                 uint64_t pages,
                                                 agentmem_kv_layout* layout,
                                                 agentmem_error* error);

/* Describes an engine's cache: layers[i] is the device address of layer i's
 * tensor, of `pages` pages; values[i] of its V, where that is a tensor of its
 * own (SGLang), else `values` is NULL and plane_stride counts. `block_tokens`,
 * a multiple of page_tokens, are a block's. INVALID_ARGUMENT naming the field:
 * out of its range, or strides by which two elements share a place. */
AGENTMEM_API agentmem_code agentmem_kv_open(
    agentmem_device* device, const agentmem_kv_layout* layout,
    const uint64_t* layers, const uint64_t* values, uint64_t pages,
    uint32_t block_tokens, agentmem_kv** kv, agentmem_error* error);
AGENTMEM_API void agentmem_kv_close(agentmem_kv* kv);
/* Of a block. */
AGENTMEM_API uint64_t agentmem_kv_block_bytes(const agentmem_kv* kv);

/* Stores `count` blocks. Block i has keys[i] and the next block_tokens /
 * page_tokens entries of `pages`. Waits, up to the timeout, only for room. A
 * key that exists already keeps its bytes. After an error some of the blocks
 * may be stored. OUT_OF_RANGE: a page that is not there; otherwise as
 * agentmem_reserve. */
AGENTMEM_API agentmem_code agentmem_kv_store(
    agentmem_kv* kv, const agentmem_key* keys, size_t count,
    const uint32_t* pages, uint64_t stream, agentmem_class block_class,
    agentmem_ack ack, uint64_t timeout_ns, agentmem_kv_transfer** transfer,
    agentmem_error* error);
/* Loads `count` blocks into the engine's pages, which must differ from each
 * other. Waits, up to the timeout, for blocks that are not in DRAM, while those
 * that are are copied; and of more blocks than the tenant's quota of holds has
 * room for (hold_quota; a quarter of DRAM), for copies of the first. After an
 * error the pages are undefined. Errors: as agentmem_get, for all of them;
 * DATA_LOSS: a block of another length; INVALID_ARGUMENT: a page stands there
 * twice. */
AGENTMEM_API agentmem_code
agentmem_kv_load(agentmem_kv* kv, const agentmem_key* keys, size_t count,
                 const uint32_t* pages, uint64_t stream, uint64_t timeout_ns,
                 agentmem_kv_transfer** transfer, agentmem_error* error);

/* What is posted to `stream` from here on waits until this layer of all blocks
 * of the load is in its pages; the caller does not wait. Layers come one by one
 * where all blocks were in DRAM and within the quota of holds. Of other loads
 * most blocks come whole, and the first layer is there shortly before the last:
 * docs/kv.md, "When a layer is there". */
AGENTMEM_API agentmem_code
agentmem_kv_wait_layer(agentmem_kv_transfer* transfer, uint32_t layer,
                       uint64_t stream, agentmem_error* error);
/* Waits until all of it is done, and what it held is given back; a store: until
 * it is acknowledged. Call it, or poll it with a timeout of 0, for a store's
 * blocks to be published: without a pool of blocks in device memory nothing
 * publishes them between calls. DEADLINE_EXCEEDED: it goes on. */
AGENTMEM_API agentmem_code agentmem_kv_wait(agentmem_kv_transfer* transfer,
                                            uint64_t timeout_ns,
                                            agentmem_error* error);
/* NULL is allowed. What is not done goes on: blocks that a store has not
 * published yet are, when another call on this device comes by. */
AGENTMEM_API void agentmem_kv_close_transfer(agentmem_kv_transfer* transfer);

/* Where each of its blocks was when a load began: `tiers` has as many entries
 * as the load has blocks. FAILED_PRECONDITION: of a store. */
AGENTMEM_API agentmem_code
agentmem_kv_tiers(const agentmem_kv_transfer* transfer, agentmem_tier* tiers,
                  size_t count, agentmem_error* error);

/* ---- blocks in device memory (tier hbm) --------------------------------- */

/* A device may have a pool: blocks that stay in its memory, in this process,
 * beside DRAM, so that a load of them does not cross the bus. What is in it is
 * below, too, or goes there before it leaves. memd says how much of the device
 * it may use, less when others need some; agents that wait for a human, are
 * idle or done leave it within the deadline that memd sets, and are brought
 * back when they reason again. */
typedef struct agentmem_hbm_options {
  uint32_t size;     /* sizeof(agentmem_hbm_options) */
  uint32_t reserved; /* 0 */
  uint64_t bytes;    /* of the device's memory, wanted at most */
} agentmem_hbm_options;

/* One a device; it ends with it. A thread of its own listens to memd.
 * FAILED_PRECONDITION: the device has one; UNIMPLEMENTED: memd knows of none;
 * otherwise as a request to memd. A grant of less than was wanted is no
 * error. */
AGENTMEM_API agentmem_code
agentmem_hbm_open(agentmem_device* device, const agentmem_hbm_options* options,
                  uint64_t timeout_ns, agentmem_error* error);

/* From here on the blocks that `kv` stores and loads stay in the pool, as far
 * as there is room, for that agent (by its name; one that does not exist yet is
 * no error). NULL: for nobody; they leave under pressure alone. An engine has a
 * kv for each agent: they cost little. FAILED_PRECONDITION: the device has no
 * pool. */
AGENTMEM_API agentmem_code agentmem_kv_keep(agentmem_kv* kv, const char* agent,
                                            agentmem_error* error);

typedef struct agentmem_hbm_state {
  uint32_t size;            /* sizeof(agentmem_hbm_state) */
  uint32_t reserved;        /* 0 */
  uint64_t budget_bytes;    /* as memd says now */
  uint64_t allocated_bytes; /* of the device */
  uint64_t used_bytes;      /* of that, by blocks */
  uint64_t blocks;
  uint64_t hits;         /* blocks that loads found in it */
  uint64_t misses;       /* that they did not */
  uint64_t filled;       /* blocks that came in by stores and loads */
  uint64_t dropped;      /* left, and were below already */
  uint64_t demoted;      /* left, and were written to DRAM for it */
  uint64_t forgotten;    /* left; of class cache, and DRAM had no room */
  uint64_t brought_back; /* came in because their agent reasons again */
  uint64_t emptied;      /* times that an agent left */
  uint64_t emptied_late; /* of them, after memd's deadline */
} agentmem_hbm_state;

/* FAILED_PRECONDITION: the device has no pool. */
AGENTMEM_API agentmem_code agentmem_hbm_describe(agentmem_device* device,
                                                 agentmem_hbm_state* state,
                                                 agentmem_error* error);

typedef enum agentmem_hbm_wish {
  AGENTMEM_HBM_NO_WISH = 0,
  AGENTMEM_HBM_EMPTY = 1,     /* no block of the agent stays */
  AGENTMEM_HBM_BRING_BACK = 2 /* what left comes back, as far as it fits */
} agentmem_hbm_wish;

/* A process's pool, or what it has there of one agent; as it told memd. */
typedef struct agentmem_hbm_info {
  const char* agent;  /* "": the process as a whole */
  const char* client; /* the process's client's name */
  const char* device; /* its name */
  int32_t pid;
  uint32_t wish;     /* agentmem_hbm_wish: memd's last for the agent */
  uint32_t phase;    /* agentmem_phase (agents.h) that asked for it */
  uint8_t wish_open; /* 1: not answered yet */
  uint8_t wish_late; /* 1: not answered by its deadline */
  uint8_t reserved[2];
  uint64_t bytes; /* of blocks */
  uint64_t blocks;
  uint64_t wish_ns; /* from the phase to the answer; 0: none yet */
  /* Of the process as a whole alone. */
  uint64_t budget_bytes;
  uint64_t allocated_bytes; /* of the device */
  uint64_t wanted_bytes;
  uint64_t hits; /* of its loads; 0: none, or memd does not count them */
  uint64_t hit_bytes;
} agentmem_hbm_info; /* may grow at its end */

typedef void (*agentmem_hbm_callback)(void* context,
                                      const agentmem_hbm_info* info);

/* The pools of all processes of the client's tenant on this node, each followed
 * by its agents, by name. Long answers come in parts, and what changes between
 * them may be missed, or come twice. UNIMPLEMENTED: memd knows of none. */
AGENTMEM_API agentmem_code agentmem_hbm_list(agentmem_client* client,
                                             uint64_t timeout_ns,
                                             agentmem_hbm_callback callback,
                                             void* context,
                                             agentmem_error* error);

/* ---- compression --------------------------------------------------------- */

/* From here on `kv` stores blocks as FP8 (E4M3, a scale for each head of each
 * plane and layer of a block) and loads such: half the bytes of 16-bit types,
 * with an error that docs/kv.md bounds. Their keys must differ from those of
 * plain blocks: a block of another length, or of FP8 of another shape, is
 * DATA_LOSS when it is loaded. NaN and infinities come back as NaN. Transfers
 * that were begun before stay as they are; a second call changes nothing.
 * agentmem_kv_block_bytes answers the compressed size from here on.
 * INVALID_ARGUMENT: the layout's type is not float16, bfloat16 or float32, or a
 * block has more pages than a kernel takes (named); FAILED_PRECONDITION: the
 * device runs no kernels of this process. */
AGENTMEM_API agentmem_code agentmem_kv_compress(agentmem_kv* kv,
                                                agentmem_error* error);

#ifdef __cplusplus
}
#endif

#endif /* AGENTMEM_KV_H_ */
