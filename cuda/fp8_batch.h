// What a Device::Copy of FP8 is: KV that becomes FP8 on its way out of the
// device, and what it was on its way in, in one pass (cuda/fp8_codec.h has the
// arithmetic and its bound).
//
// A piece is one plane of one layer of a block: on the device some of the
// engine's pages, at strides; on the host, or elsewhere on the device, its
// codes,
//
//     [token][head][element], a byte each
//
// and its scales, a float a head. What a batch has in common is said once: its
// strides, and the list of pages, which all layers and planes of a block share.
//
// Ownership: a batch borrows its arrays, which are read in the call of Copy;
// the memory that pieces name is the caller's, as with other copies
// (cuda/device.h). Threads: values. Errors: CheckFp8: INVALID_ARGUMENT naming
// the piece, the field, its value and its range. Cost: CheckFp8 is linear in
// pieces and pages.
#ifndef AGENTMEM_CUDA_FP8_BATCH_H_
#define AGENTMEM_CUDA_FP8_BATCH_H_

#include <cstdint>
#include <span>
#include <string>

#include "cuda/device.h"
#include "cuda/kv_layout.h"
#include "proto/outcome.h"

namespace agentmem {

// As in KvLayout: strides in bytes; that of what there is one of is not looked
// at.
struct Fp8Shape {
  KvType type = KvType::kBfloat16;  // or kFloat16, kFloat32
  std::uint32_t page_tokens = 0;
  std::uint32_t heads = 0;
  std::uint32_t head_size = 0;
  std::uint64_t page_stride = 0;
  std::uint64_t token_stride = 0;
  std::uint64_t head_stride = 0;

  static Fp8Shape Of(const KvLayout& layout);
};

// `codes` and `scales` lie in registered memory, each in one range of Register,
// or in memory of this device, each in one range of Allocate. Out of the pages
// (kToHost) they are written, into them read.
struct Fp8Piece {
  DeviceAddress device;  // of the engine's page 0, of this plane
  std::uint8_t* codes = nullptr;
  float* scales = nullptr;       // aligned to 4
  std::uint32_t first_page = 0;  // of the batch's `pages`, its own are
  std::uint32_t pages = 0;       // these
};

struct Fp8Batch {
  Fp8Shape shape;
  std::span<const Fp8Piece> pieces;
  std::span<const std::uint32_t> pages;  // the engine's numbers
};

inline bool IsFp8Source(KvType type) {
  return type == KvType::kFloat16 || type == KvType::kBfloat16 ||
         type == KvType::kFloat32;
}

inline std::uint64_t CodeBytesOf(const Fp8Shape& shape, std::uint32_t pages) {
  return std::uint64_t{pages} * shape.page_tokens * shape.heads *
         shape.head_size;
}
inline std::uint64_t ScaleBytesOf(const Fp8Shape& shape) {
  return std::uint64_t{shape.heads} * sizeof(float);
}

// Of a batch, in descriptors of a device's kernels (32 bytes):
// DeviceProperties::kernel_fragments_max is the limit of these, too.
inline std::uint64_t DescriptorsOf(std::uint64_t pieces, std::uint64_t pages) {
  return pieces + (pages + 7) / 8;
}

// All that can be said of a batch with `fp8` without the device: the type, the
// ranges of the shape (kv_layout.h), pages that are there, alignment. `device`
// names the device, for the message.
Outcome CheckFp8(const CopyBatch& batch, std::uint32_t descriptors_max,
                 const std::string& device);

}  // namespace agentmem

#endif  // AGENTMEM_CUDA_FP8_BATCH_H_
