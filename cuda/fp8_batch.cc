#include "cuda/fp8_batch.h"

#include <algorithm>

namespace agentmem {
namespace {

struct Axis {
  const char* field;
  std::uint64_t stride;
  std::uint32_t count;
};

std::string Number(std::uint64_t value) { return std::to_string(value); }

// The widths that follow, and the kernels' indices, rest on these.
Outcome CheckShape(const Fp8Shape& shape, const std::string& text) {
  if (!IsFp8Source(shape.type)) {
    return Fail(Code::kInvalidArgument,
                text + "type is " + Number(static_cast<int>(shape.type)) +
                    "; float16, bfloat16 and float32 become FP8");
  }
  struct {
    const char* field;
    std::uint32_t value;
    std::uint32_t max;
  } const ranges[] = {{"page_tokens", shape.page_tokens, kKvPageTokensMax},
                      {"heads", shape.heads, kKvHeadsMax},
                      {"head_size", shape.head_size, kKvHeadSizeMax}};
  for (const auto& range : ranges) {
    if (range.value >= 1 && range.value <= range.max) continue;
    return Fail(Code::kInvalidArgument, text + range.field + " is " +
                                            Number(range.value) + "; 1 to " +
                                            Number(range.max));
  }
  const Axis axes[] = {{"page_stride", shape.page_stride, 2},
                       {"token_stride", shape.token_stride, shape.page_tokens},
                       {"head_stride", shape.head_stride, shape.heads}};
  for (const Axis& axis : axes) {
    if (axis.count == 1 || axis.stride % BytesOf(shape.type) == 0) continue;
    return Fail(Code::kInvalidArgument,
                text + axis.field + " is " + Number(axis.stride) +
                    "; a multiple of an element's " +
                    Number(BytesOf(shape.type)) + " bytes");
  }
  return {};
}

// Indices of a piece are of 32 bits.
constexpr std::uint64_t kPieceElementsMax = 1u << 30;
// And those of all the pieces, were they as large as the largest: chunks of
// them are counted in 32 bits.
constexpr std::uint64_t kBatchElementsMax = 1ULL << 36;

bool IsTooLarge(const Fp8Shape& shape, const Fp8Piece& piece) {
  const std::uint64_t page = CodeBytesOf(shape, 1);
  return piece.pages > kPieceElementsMax / page;
}

}  // namespace

Fp8Shape Fp8Shape::Of(const KvLayout& layout) {
  return {layout.type,       layout.page_tokens, layout.heads,
          layout.head_size,  layout.page_stride, layout.token_stride,
          layout.head_stride};
}

Outcome CheckFp8(const CopyBatch& copy, std::uint32_t descriptors_max,
                 const std::string& device) {
  const std::string text = "Copy of FP8 on " + device + ": ";
  if (descriptors_max == 0) {
    return Fail(Code::kFailedPrecondition,
                text + "it runs no kernels, which this needs");
  }
  if (!copy.fragments.empty()) {
    return Fail(Code::kInvalidArgument,
                text + Number(copy.fragments.size()) +
                    " fragments are in the same batch; post them in another");
  }
  const Fp8Batch& batch = *copy.fp8;
  Outcome checked = CheckShape(batch.shape, text);
  if (!checked.ok()) return checked;
  const std::uint64_t descriptors =
      DescriptorsOf(batch.pieces.size(), batch.pages.size());
  if (descriptors > descriptors_max) {
    return Fail(Code::kInvalidArgument,
                text + Number(batch.pieces.size()) + " pieces with " +
                    Number(batch.pages.size()) + " pages are " +
                    Number(descriptors) + " descriptors, at most " +
                    Number(descriptors_max));
  }
  std::uint64_t largest = 0;
  for (std::size_t i = 0; i < batch.pieces.size(); ++i) {
    const Fp8Piece& piece = batch.pieces[i];
    const char* wrong = nullptr;
    if (piece.pages == 0) {
      wrong = " has no pages";
    } else if (piece.first_page > batch.pages.size() ||
               piece.pages > batch.pages.size() - piece.first_page) {
      wrong = " has pages that are not in the batch's list";
    } else if (IsTooLarge(batch.shape, piece)) {
      wrong = " has more than 2^30 elements";
    } else if (reinterpret_cast<std::uint64_t>(piece.scales) % sizeof(float) !=
               0) {
      wrong = " has scales that are not aligned to 4 bytes";
    } else if (piece.device.value() % BytesOf(batch.shape.type) != 0) {
      wrong = " has elements that are not aligned to their size";
    } else {
      largest = std::max(largest, CodeBytesOf(batch.shape, piece.pages));
      continue;
    }
    return Fail(Code::kInvalidArgument,
                text + "piece " + Number(i) + " (pages " +
                    Number(piece.first_page) + " to " +
                    Number(std::uint64_t{piece.first_page} + piece.pages) +
                    " of " + Number(batch.pages.size()) + ")" + wrong);
  }
  if (largest * batch.pieces.size() > kBatchElementsMax) {
    return Fail(Code::kInvalidArgument,
                text + Number(batch.pieces.size()) + " pieces of up to " +
                    Number(largest) + " elements; at most 2^36 together");
  }
  return {};
}

}  // namespace agentmem
