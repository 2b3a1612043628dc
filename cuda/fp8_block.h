// A KV block as FP8: a format, version 1 (docs/formats.md). It says itself what
// it is, so that a reader of another shape refuses it.
//
//     header    128 bytes
//     layer 0   scales: float [plane][head]; zeros up to a multiple of 128
//               codes: E4M3 [plane][token][head][element]; zeros up to it
//     layer 1   ...
//
// A layer's scales stand beside its codes: it can be loaded, and used, before
// the next. All begins are multiples of 128 from the block's, so that copies of
// 16 bytes are whole ones, and those of a head of 128 are a line of the bus.
//
// Ownership: values; a block's memory is the caller's. Threads: pure. Errors:
// Check: DATA_LOSS naming the field, what it is and what it should be. Cost:
// Begin writes the header and the zeros: 128 bytes and less than 256 a layer.
#ifndef AGENTMEM_CUDA_FP8_BLOCK_H_
#define AGENTMEM_CUDA_FP8_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/fp8_batch.h"
#include "cuda/kv_layout.h"
#include "proto/outcome.h"

namespace agentmem {

inline constexpr std::uint64_t kFp8BlockMagic =
    0x3146564b'4d454741ULL;  // AGEMKVF1
inline constexpr std::uint32_t kFp8BlockVersion = 1;
inline constexpr std::uint64_t kFp8BlockUnit = 128;

struct Fp8BlockHeader {
  std::uint64_t magic = kFp8BlockMagic;
  std::uint32_t version = kFp8BlockVersion;
  std::uint32_t type = 0;  // of the elements: KvType
  std::uint32_t layers = 0;
  std::uint32_t planes = 0;
  std::uint32_t tokens = 0;
  std::uint32_t heads = 0;
  std::uint32_t head_size = 0;
  std::uint32_t reserved = 0;
  std::uint64_t bytes = 0;  // of the block
  std::uint8_t zeros[80] = {};
};
static_assert(sizeof(Fp8BlockHeader) == kFp8BlockUnit);
static_assert(offsetof(Fp8BlockHeader, bytes) == 40);

// Of all that Check compares, in one word: blocks of one tag are of one shape.
// 0: what is no FP8 block, plain or shorter than a header.
std::uint64_t Fp8TagOf(const char* block, std::uint64_t bytes);

// What is where in the blocks of a layout.
class Fp8Block {
 public:
  Fp8Block() = default;
  // Of a layout that CheckView let pass.
  Fp8Block(const KvLayout& layout, std::uint64_t tokens);

  // UINT64_MAX: more than that.
  std::uint64_t bytes() const { return bytes_; }
  // The pieces of a layer, one a plane, whose codes and scales are in `block`.
  // The view is one of this layout; the block's pages are `pages` of a batch's,
  // from `first_page` on.
  void AppendPieces(const KvView& view, std::uint32_t layer,
                    std::uint32_t first_page, std::uint32_t pages, char* block,
                    std::vector<Fp8Piece>* out) const;
  // Where in a block a layer's bytes are; with the first one's, the header.
  struct Range {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
  };
  Range LayerRange(std::uint32_t layer) const {
    if (layer == 0) return {0, LayerAt(1)};
    return {LayerAt(layer), layer_bytes_};
  }
  // All that is neither codes nor scales: they are the device's to write.
  void Begin(char* block) const;
  // Copies of it between `block` and `device`: whole units, with the scales and
  // codes that share some. Appended to `out`.
  void AppendBegun(DeviceAddress device, char* block,
                   std::vector<Fragment>* out) const;
  // Of a block of bytes() bytes.
  Outcome Check(const char* block) const;
  // Fp8TagOf the blocks that Check lets pass.
  std::uint64_t tag() const { return tag_; }

 private:
  Fp8BlockHeader Header() const;
  std::uint64_t LayerAt(std::uint32_t layer) const {
    return kFp8BlockUnit + layer * layer_bytes_;
  }

  KvLayout layout_;
  std::uint64_t tokens_ = 0;
  std::uint64_t scales_bytes_ = 0;  // of a layer, without zeros
  std::uint64_t codes_at_ = 0;      // in a layer
  std::uint64_t plane_bytes_ = 0;   // codes
  std::uint64_t layer_bytes_ = 0;
  std::uint64_t bytes_ = UINT64_MAX;
  std::uint64_t tag_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_FP8_BLOCK_H_
