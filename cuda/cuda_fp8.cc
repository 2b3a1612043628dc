// How CudaDevice makes FP8 of KV: by kernels, out of the ring of descriptors.
#include <algorithm>

#include "cuda/cuda_device.h"
#include "cuda/fp8_kernels.h"

namespace agentmem {
namespace {

static_assert(sizeof(KernelPiece) == sizeof(KernelCopy), "one ring has both");

// The widest piece's pages; batches mostly have one number of them.
std::uint32_t PagesMax(const Fp8Batch& batch) {
  std::uint32_t pages = 0;
  for (const Fp8Piece& piece : batch.pieces) {
    pages = std::max(pages, piece.pages);
  }
  return pages;
}

// Can all of it be copied 16 bytes, and 16 codes, at a time?
bool IsWide(const Fp8Batch& batch) {
  const Fp8Shape& shape = batch.shape;
  std::uint64_t places = shape.head_size | shape.page_stride;
  if (shape.page_tokens > 1) places |= shape.token_stride;
  if (shape.heads > 1) places |= shape.head_stride;
  for (const Fp8Piece& piece : batch.pieces) {
    places |=
        piece.device.value() | reinterpret_cast<std::uint64_t>(piece.codes);
  }
  return places % kFp8WideUnit == 0;
}

// But for where the descriptors are.
KernelFp8 KernelFp8Of(const Fp8Batch& batch, bool is_wide) {
  const Fp8Shape& shape = batch.shape;
  KernelFp8 fp8;
  fp8.count = static_cast<std::uint32_t>(batch.pieces.size());
  fp8.page_tokens = shape.page_tokens;
  fp8.heads = shape.heads;
  fp8.head_size = shape.head_size;
  fp8.row_units = is_wide ? shape.head_size / kFp8WideUnit : shape.head_size;
  fp8.page_stride = shape.page_stride;
  fp8.token_stride = shape.token_stride;
  fp8.head_stride = shape.head_stride;
  const std::uint64_t units = std::uint64_t{PagesMax(batch)} *
                              shape.page_tokens * shape.heads * fp8.row_units;
  fp8.chunks =
      static_cast<std::uint32_t>((units + kFp8ChunkUnits - 1) / kFp8ChunkUnits);
  fp8.by_heads = FastDivisor(fp8.heads);
  fp8.by_chunks = FastDivisor(fp8.chunks);
  fp8.by_row = FastDivisor(fp8.row_units);
  fp8.by_page = FastDivisor(fp8.page_tokens);
  return fp8;
}

}  // namespace

Outcome CudaDevice::CheckPieces(const Fp8Batch& batch) {
  MutexLock lock(&memory_mutex_);
  ReachableRange range;
  for (std::size_t i = 0; i < batch.pieces.size(); ++i) {
    const Fp8Piece& piece = batch.pieces[i];
    if (IsReachable(reinterpret_cast<std::uint64_t>(piece.codes),
                    CodeBytesOf(batch.shape, piece.pages), &range) &&
        IsReachable(reinterpret_cast<std::uint64_t>(piece.scales),
                    ScaleBytesOf(batch.shape), &range)) {
      continue;
    }
    return Fail(Code::kInvalidArgument,
                "Copy of FP8 on GPU " + std::to_string(gpu_) + ": piece " +
                    std::to_string(i) +
                    ": codes or scales lie outside of the host memory that "
                    "was registered, and of the device's");
  }
  return {};
}

Outcome CudaDevice::CopyFp8(const CopyBatch& copy, cudaStream_t stream) {
  const Fp8Batch& batch = *copy.fp8;
  Outcome checked = CheckFp8(copy, properties_.kernel_fragments_max,
                             "GPU " + std::to_string(gpu_));
  if (checked.ok()) checked = CheckPieces(batch);
  if (!checked.ok() || batch.pieces.empty()) return checked;
  const bool is_wide = IsWide(batch);
  KernelFp8 launch = KernelFp8Of(batch, is_wide);
  MutexLock lock(&kernel_mutex_);
  KernelCopy* taken = nullptr;
  Outcome room = TakeDescriptors(static_cast<std::uint32_t>(DescriptorsOf(
                                     batch.pieces.size(), batch.pages.size())),
                                 &taken);
  if (!room.ok()) return room;
  // The pieces, and behind them the list of pages.
  auto* const pieces = reinterpret_cast<KernelPiece*>(taken);
  auto* const pages =
      reinterpret_cast<std::uint32_t*>(taken + batch.pieces.size());
  for (std::size_t i = 0; i < batch.pieces.size(); ++i) {
    const Fp8Piece& piece = batch.pieces[i];
    pieces[i] = {piece.device.value(),
                 reinterpret_cast<std::uint64_t>(piece.codes),
                 reinterpret_cast<std::uint64_t>(piece.scales),
                 piece.first_page, piece.pages};
  }
  std::copy(batch.pages.begin(), batch.pages.end(), pages);
  launch.pieces = pieces;
  launch.pages = pages;
  const cudaError_t error = LaunchFp8(launch, copy.direction, batch.shape.type,
                                      is_wide, kernel_blocks_, stream);
  return SealDescriptors(error, "a kernel of FP8", stream);
}

}  // namespace agentmem
