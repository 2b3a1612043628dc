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
// a plane of a page; where it has heads outside of tokens, one token's head.
//
// Ownership: values; a view borrows the engine's memory and the arrays it
// points at. Threads: pure. Errors: INVALID_ARGUMENT naming the field, its
// value and its range. Cost: Check sorts the layers once; Fragments is linear
// in its output.
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

// Strides in bytes, from one of them to the next.
struct KvLayout {
  std::uint32_t layers = 0;
  std::uint32_t planes = 2;  // K and V; 1: a latent (MLA)
  std::uint32_t page_tokens = 0;
  std::uint32_t heads = 0;      // of K and V, of this rank
  std::uint32_t head_size = 0;  // elements; they lie together
  KvType type = KvType::kBfloat16;
  std::uint64_t plane_stride = 0;
  std::uint64_t page_stride = 0;
  std::uint64_t token_stride = 0;
  std::uint64_t head_stride = 0;

  // vLLM's FlashAttention backend, a tensor a layer:
  // [2, pages, page_tokens, heads, head_size].
  static KvLayout VllmFlash(std::uint32_t layers, std::uint64_t pages,
                            std::uint32_t page_tokens, std::uint32_t heads,
                            std::uint32_t head_size, KvType type);
  // vLLM's FlashInfer backend (NHD):
  // [pages, 2, page_tokens, heads, head_size].
  static KvLayout VllmFlashInfer(std::uint32_t layers,
                                 std::uint32_t page_tokens, std::uint32_t heads,
                                 std::uint32_t head_size, KvType type);
  // SGLang's MHA pool: K and V are tensors of their own, a slot a token:
  // [slots, heads, head_size]. `plane_stride`: from a layer's K to its V.
  static KvLayout SglangMha(std::uint32_t layers, std::uint32_t page_tokens,
                            std::uint32_t heads, std::uint32_t head_size,
                            KvType type, std::uint64_t plane_stride);

  std::uint64_t token_bytes() const;  // of a plane of a layer
  // Of a block of `tokens` tokens, all layers.
  std::uint64_t BlockBytes(std::uint64_t tokens) const;
};

// An engine's KV cache in device memory.
struct KvView {
  KvLayout layout;
  std::span<const DeviceAddress> layers;  // where each layer's tensor begins
  std::uint64_t pages = 0;                // in each
};

// INVALID_ARGUMENT: a field out of its range, strides by which two elements
// would share a place, layers that overlap. OK is to be had before the rest is
// used.
Outcome CheckView(const KvView& view);

// The fragments of layer `layer` of a block whose tokens are in the engine's
// `pages`, in their order; `block` is where its bytes are (BlockBytes of all
// these tokens). Appended to `out`. OUT_OF_RANGE: a page that is not there
// (`out` is as before).
Outcome AppendFragments(const KvView& view, std::uint32_t layer,
                        std::span<const std::uint32_t> pages, char* block,
                        std::vector<Fragment>* out);

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_KV_LAYOUT_H_
