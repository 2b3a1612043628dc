// How an inference engine lays its paged KV cache out in device memory, and
// which pieces of it lie together: what StoreBlocks and LoadBlocks copy.
//
// The engine has, for each layer, a tensor of pages; a page has `page_tokens`
// tokens, each `heads` heads of `head_size` elements, of K and of V (or of one
// latent: planes = 1). Engines differ in the order of these; strides say it.
// An agentmem block has the same elements in one fixed order, whatever engine
// they come from, so that engines of different layouts share them:
//
//     [layer][plane: K, V][token][head][element]
//
// Layers are outermost: a layer's part of a block is one range, so that it can
// be loaded, and used, before the next.
//
// A fragment is the longest run that is in one piece on both sides. Where the
// engine keeps a token's heads together and tokens behind one another, that is
// a plane of a page, and pages that follow one another are one; where it has
// heads outside of tokens, or K and V beside each other, one token's head.
//
// CheckView answers exactly whether two layers (or a K and a V) share a byte,
// interleaved or not. Of the three strides within a plane it asks for more than
// that: in the order of their size, each must step over all that the smaller
// ones span. Strides that mesh like the teeth of two combs are refused, though
// no element of theirs need share a place: no engine has such.
//
// Ownership: values; a view borrows the engine's memory and the arrays it
// points at. Threads: pure. Errors: INVALID_ARGUMENT naming the field, its
// value and its range. Cost: CheckView sorts the layers and compares each with
// those that begin within its reach (all pairs where layers interleave: once,
// when an engine tells of its cache; 6 ms for 1024); AppendFragments is linear
// in its output and in `pages`.
#ifndef AGENTMEM_CUDA_KV_LAYOUT_H_
#define AGENTMEM_CUDA_KV_LAYOUT_H_

#include <cstdint>
#include <span>
#include <vector>

#include "cuda/device.h"
#include "proto/outcome.h"

namespace agentmem {

enum class KvType : std::uint8_t { kFloat16, kBfloat16, kFloat32, kFp8, kInt8 };

// Bytes of an element; 0: no such type.
std::uint32_t BytesOf(KvType type);

inline constexpr std::uint32_t kKvLayersMax = 1024;
inline constexpr std::uint32_t kKvPageTokensMax = 65536;
inline constexpr std::uint32_t kKvHeadsMax = 4096;
inline constexpr std::uint32_t kKvHeadSizeMax = 65536;

// A longer run is cut here. Not at 2^32 - 1: what follows stays aligned.
inline constexpr std::uint32_t kFragmentBytesMax = 0xFFFF'0000u;

// What is outside of what in a page: vLLM's NHD (the usual) and HND.
enum class KvOrder : std::uint8_t { kTokensFirst, kHeadsFirst };

// Strides in bytes, from one of them to the next. That of what there is one of
// is not looked at.
struct KvLayout {
  std::uint32_t layers = 0;
  std::uint32_t planes = 2;  // K and V; 1: a latent (MLA)
  std::uint32_t page_tokens = 0;
  std::uint32_t heads = 0;      // of K and V, of this rank
  std::uint32_t head_size = 0;  // elements; they lie together
  KvType type = KvType::kBfloat16;
  std::uint64_t plane_stride = 0;  // where KvView::values is empty
  std::uint64_t page_stride = 0;
  std::uint64_t token_stride = 0;
  std::uint64_t head_stride = 0;

  // The shapes that engines allocate, with where they say so. vLLM changes
  // them between versions: its tensors' own strides are what to ask first.

  // vLLM, FlashAttention, of 2025 (vllm/v1/attention/backends/flash_attn.py,
  // get_kv_cache_shape and get_kv_cache_stride_order), a tensor a layer:
  // [2, pages, page_tokens, heads, head_size]; heads first:
  // [2, pages, heads, page_tokens, head_size].
  static KvLayout VllmFlash(std::uint32_t layers, std::uint64_t pages,
                            std::uint32_t page_tokens, std::uint32_t heads,
                            std::uint32_t head_size, KvType type,
                            KvOrder order = KvOrder::kTokensFirst);
  // vLLM, FlashInfer (vllm/v1/attention/backends/flashinfer.py):
  // [pages, 2, page_tokens, heads, head_size]; heads first:
  // [pages, 2, heads, page_tokens, head_size].
  static KvLayout VllmFlashInfer(std::uint32_t layers,
                                 std::uint32_t page_tokens, std::uint32_t heads,
                                 std::uint32_t head_size, KvType type,
                                 KvOrder order = KvOrder::kTokensFirst);
  // The same with all layers in one tensor, of either backend (tokens first,
  // include_num_layers_dimension):
  // [pages, layers, 2, page_tokens, heads, head_size].
  static KvLayout VllmAllLayers(std::uint32_t layers, std::uint32_t page_tokens,
                                std::uint32_t heads, std::uint32_t head_size,
                                KvType type);
  // vLLM, FlashAttention, 0.27: a head's K and its V are beside each other:
  // [pages, page_tokens, heads, 2 x head_size]; heads first:
  // [pages, heads, page_tokens, 2 x head_size]. Its fragments are the smallest
  // of all: one token's head.
  static KvLayout VllmPacked(std::uint32_t layers, std::uint32_t page_tokens,
                             std::uint32_t heads, std::uint32_t head_size,
                             KvType type,
                             KvOrder order = KvOrder::kTokensFirst);
  // SGLang's MHATokenToKVPool (python/sglang/srt/mem_cache/memory_pool.py): a
  // slot a token, [slots, heads, head_size]; slots = size + page_size, the
  // first page is padding. K and V are tensors of their own, allocated one by
  // one: KvView::layers is k_buffer, KvView::values v_buffer.
  static KvLayout SglangMha(std::uint32_t layers, std::uint32_t page_tokens,
                            std::uint32_t heads, std::uint32_t head_size,
                            KvType type);
  // A latent: SGLang's MLATokenToKVPool, [slots, 1, latent_size], and vLLM's
  // MLA backends (vllm/v1/attention/backends/mla/common.py),
  // [pages, page_tokens, latent_size]. latent_size = kv_lora_rank +
  // qk_rope_head_dim.
  static KvLayout Mla(std::uint32_t layers, std::uint32_t page_tokens,
                      std::uint32_t latent_size, KvType type);

  std::uint64_t token_bytes() const;  // of a plane of a layer
  // Of a block of `tokens` tokens, all layers. UINT64_MAX: more than that.
  std::uint64_t BlockBytes(std::uint64_t tokens) const;
};

// An engine's KV cache in device memory.
struct KvView {
  KvLayout layout;
  std::span<const DeviceAddress> layers;  // where each layer's tensor begins
  std::uint64_t pages = 0;                // in each; at most 2^32 - 1
  // Where each layer's V begins, if it is a tensor of its own (it may lie
  // before its K). Empty: plane_stride says it.
  std::span<const DeviceAddress> values = {};
};

// Where K (plane 0) or V of a layer begins.
inline DeviceAddress PlaneAt(const KvView& view, std::uint32_t layer,
                             std::uint32_t plane) {
  if (plane == 0) return view.layers[layer];
  return view.values.empty() ? view.layers[layer] + view.layout.plane_stride
                             : view.values[layer];
}

// INVALID_ARGUMENT: a field out of its range, strides by which two elements
// would share a place, layers that overlap. OK is to be had before the rest is
// used.
Outcome CheckView(const KvView& view);

// The fragments of layer `layer` of a block whose tokens are in the engine's
// `pages`, in their order; `block` is where its bytes are (BlockBytes of all
// these tokens). Appended to `out`, in the order of the block; what was there
// before is not made longer. OUT_OF_RANGE: a layer or page that is not there
// (`out` is as before). A page that is named twice is copied twice.
Outcome AppendFragments(const KvView& view, std::uint32_t layer,
                        std::span<const std::uint32_t> pages, char* block,
                        std::vector<Fragment>* out);

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_KV_LAYOUT_H_
