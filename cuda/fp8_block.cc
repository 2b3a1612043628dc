#include "cuda/fp8_block.h"

#include <cstring>
#include <string>

#include "proto/types.h"

namespace agentmem {
namespace {

std::uint64_t WholeUnits(std::uint64_t bytes) {
  return (bytes + kFp8BlockUnit - 1) & ~(kFp8BlockUnit - 1);
}

// Codes of all layers: beyond it nothing is a block, and no sum here overflows.
constexpr std::uint64_t kCodesMax = 1ULL << 48;

std::uint64_t TagOf(const Fp8BlockHeader& header) {
  std::uint64_t tag = header.magic;
  for (const std::uint64_t field :
       {std::uint64_t{header.version}, std::uint64_t{header.type},
        std::uint64_t{header.layers}, std::uint64_t{header.planes},
        std::uint64_t{header.tokens}, std::uint64_t{header.heads},
        std::uint64_t{header.head_size}, header.bytes}) {
    tag = HashKey(Key::FromWords(tag, field));
  }
  return tag | 1;  // never 0
}

}  // namespace

std::uint64_t Fp8TagOf(const char* block, std::uint64_t bytes) {
  Fp8BlockHeader header;
  if (bytes < sizeof(header)) return 0;
  std::memcpy(&header, block, sizeof(header));
  return header.magic == kFp8BlockMagic ? TagOf(header) : 0;
}

Fp8Block::Fp8Block(const KvLayout& layout, std::uint64_t tokens)
    : layout_(layout), tokens_(tokens) {
  KvLayout codes = layout;
  codes.type = KvType::kFp8;
  const std::uint64_t all = codes.BlockBytes(tokens);
  if (all > kCodesMax) return;
  scales_bytes_ = std::uint64_t{layout.planes} * layout.heads * sizeof(float);
  codes_at_ = WholeUnits(scales_bytes_);
  plane_bytes_ = all / layout.layers / layout.planes;
  layer_bytes_ = codes_at_ + WholeUnits(layout.planes * plane_bytes_);
  bytes_ = LayerAt(layout.layers);
  tag_ = TagOf(Header());
}

Fp8BlockHeader Fp8Block::Header() const {
  Fp8BlockHeader header;
  header.type = static_cast<std::uint32_t>(layout_.type);
  header.layers = layout_.layers;
  header.planes = layout_.planes;
  header.tokens = static_cast<std::uint32_t>(tokens_);
  header.heads = layout_.heads;
  header.head_size = layout_.head_size;
  header.bytes = bytes_;
  return header;
}

void Fp8Block::AppendPieces(const KvView& view, std::uint32_t layer,
                            std::uint32_t first_page, std::uint32_t pages,
                            char* block, std::vector<Fp8Piece>* out) const {
  char* const begin = block + LayerAt(layer);
  for (std::uint32_t plane = 0; plane < layout_.planes; ++plane) {
    Fp8Piece piece;
    piece.device = PlaneAt(view, layer, plane);
    piece.scales =
        reinterpret_cast<float*>(begin) + std::uint64_t{plane} * layout_.heads;
    piece.codes = reinterpret_cast<std::uint8_t*>(begin) + codes_at_ +
                  plane * plane_bytes_;
    piece.first_page = first_page;
    piece.pages = pages;
    out->push_back(piece);
  }
}

void Fp8Block::Begin(char* block) const {
  const Fp8BlockHeader header = Header();
  std::memcpy(block, &header, sizeof(header));
  for (std::uint32_t layer = 0; layer < layout_.layers; ++layer) {
    char* const begin = block + LayerAt(layer);
    std::memset(begin + scales_bytes_, 0, codes_at_ - scales_bytes_);
    const std::uint64_t end = codes_at_ + layout_.planes * plane_bytes_;
    std::memset(begin + end, 0, layer_bytes_ - end);
  }
}

void Fp8Block::AppendBegun(DeviceAddress device, char* block,
                           std::vector<Fragment>* out) const {
  const auto append = [&](std::uint64_t begin, std::uint64_t end) {
    if (begin == end) return;
    out->push_back({device + begin, block + begin,
                    static_cast<std::uint32_t>(end - begin)});
  };
  const bool ends_whole =
      layer_bytes_ == codes_at_ + layout_.planes * plane_bytes_;
  const std::uint64_t tail = ends_whole ? 0 : kFp8BlockUnit;
  const std::uint64_t scales = scales_bytes_ == codes_at_ ? 0 : codes_at_;
  append(0, LayerAt(0) + scales);
  for (std::uint32_t layer = 1; layer < layout_.layers; ++layer) {
    append(LayerAt(layer) - tail, LayerAt(layer) + scales);
  }
  append(bytes_ - tail, bytes_);
}

Outcome Fp8Block::Check(const char* block) const {
  Fp8BlockHeader header;
  std::memcpy(&header, block, sizeof(header));
  if (header.magic != kFp8BlockMagic) {
    return Fail(Code::kDataLoss,
                "it is no FP8 block: it has none's magic number, and was "
                "stored without compression, or is of another kind");
  }
  const struct {
    const char* field;
    std::uint64_t is;
    std::uint64_t wanted;
  } fields[] = {
      {"version", header.version, kFp8BlockVersion},
      {"type", header.type, static_cast<std::uint64_t>(layout_.type)},
      {"layers", header.layers, layout_.layers},
      {"planes", header.planes, layout_.planes},
      {"tokens", header.tokens, tokens_},
      {"heads", header.heads, layout_.heads},
      {"head_size", header.head_size, layout_.head_size},
      {"bytes", header.bytes, bytes_},
  };
  for (const auto& one : fields) {
    if (one.is == one.wanted) continue;
    return Fail(Code::kDataLoss, "the FP8 block's " + std::string(one.field) +
                                     " is " + std::to_string(one.is) +
                                     ", and " + std::to_string(one.wanted) +
                                     " is wanted: it is of another model, "
                                     "layout or version");
  }
  return {};
}

}  // namespace agentmem
