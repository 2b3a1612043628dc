// FP8 on the host device: the codec, on its thread, a piece a step.
#include <string>
#include <utility>

#include "cuda/fp8_codec.h"
#include "cuda/host_device.h"

namespace agentmem {
namespace {

// What a page takes of device memory, from its first byte to its last.
// UINT64_MAX: more than that.
std::uint64_t PageSpan(const Fp8Shape& shape) {
  std::uint64_t tokens = 0;
  std::uint64_t heads = 0;
  std::uint64_t bytes = std::uint64_t{shape.head_size} * BytesOf(shape.type);
  const bool over =
      (shape.page_tokens > 1 &&
       __builtin_mul_overflow(shape.token_stride,
                              std::uint64_t{shape.page_tokens} - 1, &tokens)) ||
      (shape.heads > 1 &&
       __builtin_mul_overflow(shape.head_stride, std::uint64_t{shape.heads} - 1,
                              &heads)) ||
      __builtin_add_overflow(bytes, tokens, &bytes) ||
      __builtin_add_overflow(bytes, heads, &bytes);
  return over ? UINT64_MAX : bytes;
}

// Where a page begins. False: beyond 64 bits.
bool PageAt(const Fp8Shape& shape, DeviceAddress plane, std::uint32_t page,
            std::uint64_t* at) {
  std::uint64_t offset = 0;
  return !__builtin_mul_overflow(shape.page_stride, std::uint64_t{page},
                                 &offset) &&
         !__builtin_add_overflow(plane.value(), offset, at);
}

}  // namespace

Outcome HostDevice::CheckPiece(const Fp8Batch& batch, std::size_t index) const {
  const Fp8Piece& piece = batch.pieces[index];
  const std::uint64_t span = PageSpan(batch.shape);
  const char* wrong = nullptr;
  for (const std::uint32_t page :
       batch.pages.subspan(piece.first_page, piece.pages)) {
    std::uint64_t at = 0;
    if (PageAt(batch.shape, piece.device, page, &at) &&
        Within(allocated_, at, span)) {
      continue;
    }
    wrong = ": a page lies outside of the device memory that was allocated";
  }
  const struct {
    const void* at;
    std::uint64_t bytes;
  } sides[] = {{piece.codes, CodeBytesOf(batch.shape, piece.pages)},
               {piece.scales, ScaleBytesOf(batch.shape)}};
  for (const auto& side : sides) {
    const auto at = reinterpret_cast<std::uint64_t>(side.at);
    if (Within(registered_, at, side.bytes) ||
        Within(allocated_, at, side.bytes)) {
      continue;
    }
    wrong =
        ": codes or scales lie outside of the host memory that was registered, "
        "and of the device's";
  }
  if (wrong == nullptr) return {};
  return Fail(Code::kInvalidArgument, "Copy of FP8 on the host device: piece " +
                                          std::to_string(index) + wrong);
}

Outcome HostDevice::PostFp8(const CopyBatch& copy, Stream stream) {
  Outcome checked =
      CheckFp8(copy, options_.kernel_fragments_max, "the host device");
  const Fp8Batch& batch = *copy.fp8;
  for (std::size_t i = 0; i < batch.pieces.size() && checked.ok(); ++i) {
    checked = CheckPiece(batch, i);
  }
  if (!checked.ok() || batch.pieces.empty()) return checked;
  Work& work = Post(stream, Work::Kind::kFp8);
  work.direction = copy.direction;
  work.shape = batch.shape;
  work.pieces.assign(batch.pieces.begin(), batch.pieces.end());
  work.pages.assign(batch.pages.begin(), batch.pages.end());
  counts_.fragments_pending += batch.pieces.size();
  ++counts_.fp8_batches;
  return {};
}

bool HostDevice::PieceTouches(const Work& work, const Fp8Piece& piece,
                              std::uint64_t begin, std::uint64_t bytes) {
  const std::uint64_t span = PageSpan(work.shape);
  for (std::uint32_t i = 0; i < piece.pages; ++i) {
    std::uint64_t at = 0;
    if (PageAt(work.shape, piece.device, work.pages[piece.first_page + i],
               &at) &&
        Overlap(begin, bytes, at, span)) {
      return true;
    }
  }
  return Overlap(begin, bytes, reinterpret_cast<std::uint64_t>(piece.codes),
                 CodeBytesOf(work.shape, piece.pages)) ||
         Overlap(begin, bytes, reinterpret_cast<std::uint64_t>(piece.scales),
                 ScaleBytesOf(work.shape));
}

void HostDevice::ConvertOne(Queue* queue) {
  Work& work = queue->work.front();
  const Fp8Piece piece = work.pieces[work.next];
  const bool to_host = work.direction == Direction::kToHost;
  const std::uint64_t bytes =
      CodeBytesOf(work.shape, piece.pages) + ScaleBytesOf(work.shape);
  const bool within =
      Within(allocated_, reinterpret_cast<std::uint64_t>(piece.codes), 1);
  if (queue->failed.ok()) queue->failed = Passes(Point::kCopy, "a copy");
  if (queue->failed.ok()) {
    // Without the mutex, as CopyOne does.
    mutex_.Unlock();
    char* const plane = Bytes(piece.device);
    const auto pages = std::span<const std::uint32_t>(work.pages)
                           .subspan(piece.first_page, piece.pages);
    if (to_host) {
      EncodeFp8(work.shape, plane, pages, piece.codes, piece.scales);
    } else {
      DecodeFp8(work.shape, piece.codes, piece.scales, pages, plane);
    }
    mutex_.Lock();
    ++counts_.fp8_pieces;
    if (within) {
      counts_.bytes_within += bytes;
    } else {
      (to_host ? counts_.bytes_to_host : counts_.bytes_to_device) += bytes;
    }
  }
  ++work.next;
  --counts_.fragments_pending;
}

}  // namespace agentmem
