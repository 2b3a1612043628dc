// Whether a view can be what an engine has: CheckView.
#include <algorithm>
#include <array>
#include <string>

#include "cuda/kv_layout.h"

namespace agentmem {
namespace {

// Pages, tokens or heads: `count` of them, a `stride` apart.
struct Axis {
  const char* field = "";
  std::uint64_t stride = 0;
  std::uint64_t count = 0;
  std::uint64_t inner_bytes = 0;  // from first to last byte of one of them
};

// What one plane of one layer takes, from its beginning: rows (the elements of
// one head of one token) at sums of multiples of the strides, smallest first.
struct Footprint {
  std::uint64_t row_bytes = 0;
  std::array<Axis, 3> axes;
  std::size_t axis_count = 0;
  std::uint64_t bytes = 0;  // from first to last
};

// Where a plane of a layer begins.
struct Plane {
  std::uint64_t address = 0;
  std::uint32_t layer = 0;
  bool is_value = false;
};

Outcome Invalid(const std::string& field, std::uint64_t value,
                const std::string& expected) {
  return Fail(Code::kInvalidArgument,
              field + " is " + std::to_string(value) + ": " + expected);
}

Outcome CheckRange(const char* field, std::uint64_t value, std::uint64_t max) {
  if (value >= 1 && value <= max) return {};
  return Invalid(field, value, "1 to " + std::to_string(max));
}

Outcome CheckFields(const KvView& view) {
  const KvLayout& layout = view.layout;
  if (BytesOf(layout.type) == 0) {
    return Invalid("type", static_cast<std::uint64_t>(layout.type),
                   "no type of elements has this number");
  }
  struct {
    const char* field;
    std::uint64_t value;
    std::uint64_t max;
  } const ranges[] = {
      {"layers", layout.layers, kKvLayersMax},
      {"planes", layout.planes, 2},
      {"page_tokens", layout.page_tokens, kKvPageTokensMax},
      {"heads", layout.heads, kKvHeadsMax},
      {"head_size", layout.head_size, kKvHeadSizeMax},
      {"pages", view.pages, UINT32_MAX},
  };
  for (const auto& range : ranges) {
    Outcome checked = CheckRange(range.field, range.value, range.max);
    if (!checked.ok()) return checked;
  }
  if (view.layers.size() != layout.layers) {
    return Invalid(
        "layers", layout.layers,
        std::to_string(view.layers.size()) + " addresses of layers were given");
  }
  const bool values = !view.values.empty();
  if (values && (layout.planes != 2 || view.values.size() != layout.layers)) {
    return Fail(Code::kInvalidArgument,
                "values has " + std::to_string(view.values.size()) +
                    " addresses: one a layer where planes is 2, or none");
  }
  return {};
}

// The axes of which there is more than one place, the smallest stride first.
Outcome MakeFootprint(const KvView& view, Footprint* footprint) {
  const KvLayout& layout = view.layout;
  const std::uint64_t element = BytesOf(layout.type);
  footprint->row_bytes = layout.head_size * element;
  const Axis all[] = {{"head_stride", layout.head_stride, layout.heads},
                      {"token_stride", layout.token_stride, layout.page_tokens},
                      {"page_stride", layout.page_stride, view.pages}};
  for (const Axis& axis : all) {
    if (axis.count == 1) continue;
    if (axis.stride % element != 0) {
      return Invalid(
          axis.field, axis.stride,
          "a multiple of an element's " + std::to_string(element) + " bytes");
    }
    footprint->axes[footprint->axis_count++] = axis;
  }
  const auto end = footprint->axes.begin() + footprint->axis_count;
  std::stable_sort(
      footprint->axes.begin(), end,
      [](const Axis& a, const Axis& b) { return a.stride < b.stride; });

  footprint->bytes = footprint->row_bytes;
  for (auto axis = footprint->axes.begin(); axis != end; ++axis) {
    axis->inner_bytes = footprint->bytes;
    if (axis->stride < axis->inner_bytes) {
      return Invalid(axis->field, axis->stride,
                     "elements would share a place; at least " +
                         std::to_string(axis->inner_bytes) +
                         ", what lies within it");
    }
    std::uint64_t last = 0;
    if (__builtin_mul_overflow(axis->stride, axis->count - 1, &last) ||
        __builtin_add_overflow(axis->inner_bytes, last, &footprint->bytes)) {
      return Invalid(axis->field, axis->stride,
                     std::to_string(axis->count) +
                         " of them reach beyond 64 bits of address");
    }
  }
  return {};
}

std::string NameOf(const KvView& view, const Plane& plane) {
  const bool own = plane.is_value && !view.values.empty();
  std::string name = own ? "values[" : "layers[";
  name += std::to_string(plane.layer) + "]";
  if (plane.is_value && !own) name += "'s V";
  return name;
}

// Where all planes begin, in the order of their addresses.
Outcome MakePlanes(const KvView& view, const Footprint& footprint,
                   std::vector<Plane>* planes) {
  const KvLayout& layout = view.layout;
  const std::uint64_t element = BytesOf(layout.type);
  const bool strided = layout.planes == 2 && view.values.empty();
  if (strided && layout.plane_stride % element != 0) {
    return Invalid(
        "plane_stride", layout.plane_stride,
        "a multiple of an element's " + std::to_string(element) + " bytes");
  }
  for (std::uint32_t layer = 0; layer < layout.layers; ++layer) {
    planes->push_back({view.layers[layer].value(), layer, false});
    if (layout.planes == 1) continue;
    std::uint64_t value = 0;
    if (!strided) {
      value = view.values[layer].value();
    } else if (__builtin_add_overflow(view.layers[layer].value(),
                                      layout.plane_stride, &value)) {
      return Invalid("plane_stride", layout.plane_stride,
                     "beyond 64 bits of address from " +
                         NameOf(view, planes->back()) + ", " +
                         std::to_string(view.layers[layer].value()));
    }
    planes->push_back({value, layer, true});
  }
  for (const Plane& plane : *planes) {
    if (plane.address == 0 || plane.address % element != 0) {
      return Invalid(NameOf(view, plane), plane.address,
                     "an address in device memory, a multiple of " +
                         std::to_string(element));
    }
    std::uint64_t end = 0;
    if (__builtin_add_overflow(plane.address, footprint.bytes, &end)) {
      return Invalid(NameOf(view, plane), plane.address,
                     "its " + std::to_string(footprint.bytes) +
                         " bytes reach beyond 64 bits of address");
    }
  }
  // Of two at one address the V is the second: it is what is told of.
  std::stable_sort(planes->begin(), planes->end(),
                   [](const Plane& a, const Plane& b) {
                     return a.address != b.address ? a.address < b.address
                                                   : a.is_value < b.is_value;
                   });
  return {};
}

// Whether two footprints of `axes` axes of which one begins `apart` bytes after
// the other, less than a footprint, share a byte: whether `apart` is, but for
// less than a row, a difference of two sums of the strides' multiples. A stride
// steps over all that is within it, so of its multiples only the two nearest
// come into question, and so on inwards.
bool Meet(const Footprint& footprint, std::size_t axes, std::uint64_t apart) {
  if (axes == 0) return true;
  const Axis& axis = footprint.axes[axes - 1];
  const std::uint64_t below = apart / axis.stride;
  const std::uint64_t rest = apart % axis.stride;
  if (rest < axis.inner_bytes && Meet(footprint, axes - 1, rest)) return true;
  if (below == axis.count - 1) return false;
  const std::uint64_t lacking = axis.stride - rest;
  return lacking < axis.inner_bytes && Meet(footprint, axes - 1, lacking);
}

Outcome CheckApart(const KvView& view, const Footprint& footprint,
                   const std::vector<Plane>& planes) {
  for (std::size_t i = 0; i < planes.size(); ++i) {
    for (std::size_t j = i + 1; j < planes.size(); ++j) {
      const std::uint64_t apart = planes[j].address - planes[i].address;
      if (apart >= footprint.bytes) break;
      if (!Meet(footprint, footprint.axis_count, apart)) continue;
      const bool by_stride =
          view.values.empty() && planes[i].layer == planes[j].layer;
      if (by_stride) {
        return Invalid("plane_stride", view.layout.plane_stride,
                       "K and V of a layer would share a place");
      }
      return Invalid(NameOf(view, planes[j]), planes[j].address,
                     "it overlaps " + NameOf(view, planes[i]) + ", which is " +
                         std::to_string(planes[i].address));
    }
  }
  return {};
}

}  // namespace

Outcome CheckView(const KvView& view) {
  Outcome checked = CheckFields(view);
  if (!checked.ok()) return checked;
  Footprint footprint;
  checked = MakeFootprint(view, &footprint);
  if (!checked.ok()) return checked;
  std::vector<Plane> planes;
  checked = MakePlanes(view, footprint, &planes);
  if (!checked.ok()) return checked;
  return CheckApart(view, footprint, planes);
}

}  // namespace agentmem
