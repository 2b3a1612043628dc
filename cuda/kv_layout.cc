#include "cuda/kv_layout.h"

#include <algorithm>
#include <string>

namespace agentmem {
namespace {

// Joins pieces that follow one another in the engine. In the block they do: it
// is gone through in its order.
class Runs {
 public:
  explicit Runs(std::vector<Fragment>* out) : out_(out), begin_(out->size()) {}

  void Add(DeviceAddress device, char* host, std::uint64_t bytes) {
    if (out_->size() > begin_) {
      Fragment& last = out_->back();
      if (last.device + last.bytes == device) {
        const std::uint64_t more =
            std::min<std::uint64_t>(bytes, kFragmentBytesMax - last.bytes);
        last.bytes += static_cast<std::uint32_t>(more);
        device = device + more;
        host += more;
        bytes -= more;
      }
    }
    while (bytes > 0) {
      const auto taken = static_cast<std::uint32_t>(
          std::min<std::uint64_t>(bytes, kFragmentBytesMax));
      out_->push_back({device, host, taken});
      device = device + taken;
      host += taken;
      bytes -= taken;
    }
  }

 private:
  std::vector<Fragment>* const out_;
  const std::size_t begin_;  // what others put there is theirs
};

// A page's part of a plane, from `device` to `host`, in pieces as large as the
// strides allow.
void AddPage(const KvLayout& layout, DeviceAddress device, char* host,
             Runs* runs) {
  const std::uint64_t row =
      std::uint64_t{layout.head_size} * BytesOf(layout.type);
  const std::uint64_t token = layout.token_bytes();
  const bool whole_tokens = layout.heads == 1 || layout.head_stride == row;
  if (whole_tokens &&
      (layout.page_tokens == 1 || layout.token_stride == token)) {
    runs->Add(device, host, token * layout.page_tokens);
    return;
  }
  for (std::uint64_t t = 0; t < layout.page_tokens; ++t) {
    const DeviceAddress from = device + t * layout.token_stride;
    char* const to = host + t * token;
    if (whole_tokens) {
      runs->Add(from, to, token);
      continue;
    }
    for (std::uint64_t head = 0; head < layout.heads; ++head) {
      runs->Add(from + head * layout.head_stride, to + head * row, row);
    }
  }
}

// Of a page of one plane that is in one piece, in this order.
void SetInnerStrides(KvOrder order, std::uint64_t row_stride,
                     KvLayout* layout) {
  if (order == KvOrder::kTokensFirst) {
    layout->head_stride = row_stride;
    layout->token_stride = row_stride * layout->heads;
  } else {
    layout->token_stride = row_stride;
    layout->head_stride = row_stride * layout->page_tokens;
  }
}

std::uint64_t PageBytes(const KvLayout& layout) {
  return layout.token_bytes() * layout.page_tokens;
}

KvLayout Pages(std::uint32_t layers, std::uint32_t page_tokens,
               std::uint32_t heads, std::uint32_t head_size, KvType type,
               KvOrder order) {
  KvLayout layout{.layers = layers,
                  .page_tokens = page_tokens,
                  .heads = heads,
                  .head_size = head_size,
                  .type = type};
  SetInnerStrides(order, std::uint64_t{head_size} * BytesOf(type), &layout);
  layout.page_stride = PageBytes(layout);
  return layout;
}

}  // namespace

std::uint32_t BytesOf(KvType type) {
  switch (type) {
    case KvType::kFloat16:
    case KvType::kBfloat16:
      return 2;
    case KvType::kFloat32:
      return 4;
    case KvType::kFp8:
    case KvType::kInt8:
      return 1;
  }
  return 0;
}

KvLayout KvLayout::VllmFlash(std::uint32_t layers, std::uint64_t pages,
                             std::uint32_t page_tokens, std::uint32_t heads,
                             std::uint32_t head_size, KvType type,
                             KvOrder order) {
  KvLayout layout = Pages(layers, page_tokens, heads, head_size, type, order);
  layout.plane_stride = pages * layout.page_stride;
  return layout;
}

KvLayout KvLayout::VllmFlashInfer(std::uint32_t layers,
                                  std::uint32_t page_tokens,
                                  std::uint32_t heads, std::uint32_t head_size,
                                  KvType type, KvOrder order) {
  KvLayout layout = Pages(layers, page_tokens, heads, head_size, type, order);
  layout.plane_stride = layout.page_stride;
  layout.page_stride *= 2;
  return layout;
}

KvLayout KvLayout::VllmAllLayers(std::uint32_t layers,
                                 std::uint32_t page_tokens, std::uint32_t heads,
                                 std::uint32_t head_size, KvType type) {
  KvLayout layout = VllmFlashInfer(layers, page_tokens, heads, head_size, type);
  layout.page_stride *= layers;
  return layout;
}

KvLayout KvLayout::VllmPacked(std::uint32_t layers, std::uint32_t page_tokens,
                              std::uint32_t heads, std::uint32_t head_size,
                              KvType type, KvOrder order) {
  KvLayout layout = Pages(layers, page_tokens, heads, head_size, type, order);
  layout.plane_stride = std::uint64_t{head_size} * BytesOf(type);
  SetInnerStrides(order, 2 * layout.plane_stride, &layout);
  layout.page_stride *= 2;
  return layout;
}

KvLayout KvLayout::SglangMha(std::uint32_t layers, std::uint32_t page_tokens,
                             std::uint32_t heads, std::uint32_t head_size,
                             KvType type) {
  return Pages(layers, page_tokens, heads, head_size, type,
               KvOrder::kTokensFirst);
}

KvLayout KvLayout::Mla(std::uint32_t layers, std::uint32_t page_tokens,
                       std::uint32_t latent_size, KvType type) {
  KvLayout layout =
      Pages(layers, page_tokens, 1, latent_size, type, KvOrder::kTokensFirst);
  layout.planes = 1;
  return layout;
}

std::uint64_t KvLayout::token_bytes() const {
  return std::uint64_t{heads} * head_size * BytesOf(type);
}

std::uint64_t KvLayout::BlockBytes(std::uint64_t tokens) const {
  std::uint64_t bytes = 0;
  const std::uint64_t planes_all = std::uint64_t{layers} * planes;
  const bool over = __builtin_mul_overflow(planes_all, token_bytes(), &bytes) ||
                    __builtin_mul_overflow(bytes, tokens, &bytes);
  return over ? UINT64_MAX : bytes;
}

Outcome AppendFragments(const KvView& view, std::uint32_t layer,
                        std::span<const std::uint32_t> pages, char* block,
                        std::vector<Fragment>* out) {
  const KvLayout& layout = view.layout;
  if (layer >= layout.layers) {
    return Fail(Code::kOutOfRange, "layer " + std::to_string(layer) + " of " +
                                       std::to_string(layout.layers));
  }
  for (std::size_t i = 0; i < pages.size(); ++i) {
    if (pages[i] < view.pages) continue;
    return Fail(Code::kOutOfRange, "pages[" + std::to_string(i) + "] is " +
                                       std::to_string(pages[i]) +
                                       ": the engine has " +
                                       std::to_string(view.pages) + " pages");
  }
  const std::uint64_t page_bytes = PageBytes(layout);
  Runs runs(out);
  for (std::uint32_t plane = 0; plane < layout.planes; ++plane) {
    const DeviceAddress begin = PlaneAt(view, layer, plane);
    char* host = block + (std::uint64_t{layer} * layout.planes + plane) *
                             pages.size() * page_bytes;
    for (const std::uint32_t page : pages) {
      AddPage(layout, begin + page * layout.page_stride, host, &runs);
      host += page_bytes;
    }
  }
  return {};
}

}  // namespace agentmem
