// The C ABI: layouts that engines are known to have.
#include <cstdint>
#include <string>
#include <utility>

#include "agentmem/kv.h"
#include "client/c_api.h"
#include "cuda/kv_layout.h"

namespace {

using agentmem::Code;
using agentmem::Fail;
using agentmem::KvLayout;
using agentmem::KvOrder;
using agentmem::KvType;
using agentmem::Outcome;
using agentmem::client::Answer;

Outcome Invalid(std::string message) {
  return Fail(Code::kInvalidArgument, std::move(message));
}

// Of K, of one layer: with it no stride overflows, nor the largest times the
// pages (2^30 x 2 x 2^32).
constexpr std::uint64_t kPageBytesMax = 1ULL << 30;

Outcome CheckShape(const agentmem_kv_layout& layout, std::uint64_t pages) {
  struct {
    const char* field;
    std::uint64_t value;
    std::uint64_t max;
  } const ranges[] = {
      {"layers", layout.layers, agentmem::kKvLayersMax},
      {"page_tokens", layout.page_tokens, agentmem::kKvPageTokensMax},
      {"heads", layout.heads, agentmem::kKvHeadsMax},
      {"head_size", layout.head_size, agentmem::kKvHeadSizeMax},
      {"pages", pages, UINT32_MAX},
  };
  for (const auto& range : ranges) {
    if (range.value >= 1 && range.value <= range.max) continue;
    return Invalid(std::string(range.field) + " is " +
                   std::to_string(range.value) + "; 1 to " +
                   std::to_string(range.max) + " are allowed");
  }
  const std::uint32_t element =
      agentmem::BytesOf(static_cast<KvType>(layout.type));
  if (layout.type > AGENTMEM_KV_INT8 || element == 0) {
    return Invalid("type is " + std::to_string(layout.type) +
                   "; 0 to 4 exist (agentmem_kv_type)");
  }
  const std::uint64_t page_bytes = std::uint64_t{layout.page_tokens} *
                                   layout.heads * layout.head_size * element;
  if (page_bytes > kPageBytesMax) {
    return Invalid("a page of K would have " + std::to_string(page_bytes) +
                   " bytes by page_tokens, heads and head_size; at most " +
                   std::to_string(kPageBytesMax) + " are allowed");
  }
  return {};
}

Outcome LayoutOf(agentmem_kv_engine engine, KvOrder order, std::uint64_t pages,
                 const agentmem_kv_layout& shape, KvLayout* layout) {
  const std::uint32_t layers = shape.layers;
  const std::uint32_t tokens = shape.page_tokens;
  const std::uint32_t heads = shape.heads;
  const std::uint32_t size = shape.head_size;
  const auto type = static_cast<KvType>(shape.type);
  switch (engine) {
    case AGENTMEM_KV_VLLM_FLASH:
      *layout =
          KvLayout::VllmFlash(layers, pages, tokens, heads, size, type, order);
      return {};
    case AGENTMEM_KV_VLLM_FLASHINFER:
      *layout =
          KvLayout::VllmFlashInfer(layers, tokens, heads, size, type, order);
      return {};
    case AGENTMEM_KV_VLLM_PACKED:
      *layout = KvLayout::VllmPacked(layers, tokens, heads, size, type, order);
      return {};
    case AGENTMEM_KV_VLLM_ALL_LAYERS:
    case AGENTMEM_KV_SGLANG_MHA:
    case AGENTMEM_KV_MLA:
      break;
    default:
      return Invalid("engine is " + std::to_string(engine) +
                     "; 1 to 6 exist (agentmem_kv_engine)");
  }
  if (order == KvOrder::kHeadsFirst) {
    return Invalid("heads_first: engine " + std::to_string(engine) +
                   " has tokens first alone");
  }
  if (engine == AGENTMEM_KV_VLLM_ALL_LAYERS) {
    *layout = KvLayout::VllmAllLayers(layers, tokens, heads, size, type);
  } else if (engine == AGENTMEM_KV_SGLANG_MHA) {
    *layout = KvLayout::SglangMha(layers, tokens, heads, size, type);
  } else if (heads != 1) {
    return Invalid("heads is " + std::to_string(heads) +
                   "; a latent (AGENTMEM_KV_MLA) has 1");
  } else {
    *layout = KvLayout::Mla(layers, tokens, size, type);
  }
  return {};
}

}  // namespace

extern "C" {

agentmem_code agentmem_kv_layout_of(agentmem_kv_engine engine, int heads_first,
                                    uint64_t pages, agentmem_kv_layout* layout,
                                    agentmem_error* error) {
  AGENTMEM_REQUIRE(layout != nullptr, "layout is NULL", error);
  AGENTMEM_REQUIRE(layout->size >= sizeof(agentmem_kv_layout),
                   "agentmem_kv_layout: set size to its sizeof", error);
  KvLayout made;
  Outcome outcome = CheckShape(*layout, pages);
  if (outcome.ok()) {
    outcome = LayoutOf(
        engine, heads_first ? KvOrder::kHeadsFirst : KvOrder::kTokensFirst,
        pages, *layout, &made);
  }
  if (!outcome.ok()) return Answer(outcome, error);
  layout->planes = made.planes;
  layout->plane_stride = made.plane_stride;
  layout->page_stride = made.page_stride;
  layout->token_stride = made.token_stride;
  layout->head_stride = made.head_stride;
  return AGENTMEM_OK;
}

}  // extern "C"
