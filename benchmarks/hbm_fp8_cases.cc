// FP8 out of the device and back into it, beside plain copies of the same
// elements; every element that came back is within the bound.
#include <cstring>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "benchmarks/hbm_bench.h"
#include "benchmarks/hbm_bytes.h"
#include "cuda/fp8_batch.h"

namespace agentmem::bench {
namespace {

// A plane of a page of a layer: 16 tokens of 16 heads of 128 bfloat16, 64 KiB.
constexpr std::uint32_t kPageBytes = 64 << 10;
constexpr std::uint32_t kCodeBytes = kPageBytes / 2;
constexpr double kOffloadBar = 1.8;

Fp8Shape Shape() {
  Fp8Shape shape;
  shape.type = KvType::kBfloat16;
  shape.page_tokens = 16;
  shape.heads = 16;
  shape.head_size = 128;
  shape.page_stride = kPageBytes;
  shape.token_stride = kPageBytes / 16;
  shape.head_stride = 256;
  return shape;
}

// Page i, codes and scales, at the place on the host that a plain copy's
// fragment has.
std::vector<Fp8Piece> ScatteredPieces(DeviceAddress device,
                                      std::span<char> host) {
  const std::uint64_t count = host.size() / kPageBytes;
  std::vector<Fp8Piece> pieces(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    char* const place = host.data() + PlaceOf(i, count) * kPageBytes;
    Fp8Piece& piece = pieces[i];
    const std::uint64_t of_batch = i % HbmPost::kFp8BatchPieces;
    piece.device = device + (i - of_batch) * kPageBytes;
    piece.first_page = static_cast<std::uint32_t>(of_batch);
    piece.pages = 1;
    piece.codes = reinterpret_cast<std::uint8_t*>(place);
    piece.scales = reinterpret_cast<float*>(place + kCodeBytes);
  }
  return pieces;
}

// Nothing was written behind a page's codes but its scales, and nothing behind
// those.
absl::Status GapsArePoison(std::span<const Fp8Piece> pieces) {
  const std::string poison(kPageBytes, kPoison);
  const std::uint64_t used = kCodeBytes + Shape().heads * sizeof(float);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const char* const place = reinterpret_cast<const char*>(pieces[i].codes);
    if (std::memcmp(place + used, poison.data(), kPageBytes - used) == 0) {
      continue;
    }
    return DataLoss("fp8: page " + std::to_string(i) +
                    ": something was written behind its codes and scales");
  }
  return absl::OkStatus();
}

absl::Status ElementsArrived(std::span<const char> came, std::uint64_t seed,
                             std::span<const Fp8Piece> pieces) {
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto wrong =
        WrongElements(came.subspan(i * kPageBytes, kPageBytes), seed,
                      i * kPageBytes, Shape(), pieces[i].scales);
    if (!wrong.has_value()) continue;
    return DataLoss("fp8: page " + std::to_string(i) + ": " + *wrong);
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<Bar> HbmBench::Fp8Bars() {
  return {{"fp8_offload/64KiB", kOffloadBar}};
}

// There and back: nanoseconds of each.
absl::Status HbmBench::Fp8RoundTrip(Samples* out, Samples* in) {
  const std::uint64_t seed = seed_++;
  const std::span<char> source = memory_.source();
  const std::span<char> output = memory_.output();
  const std::vector<Fp8Piece> pieces =
      ScatteredPieces(memory_.device(), output);
  FillElements(source, seed);
  AGENTMEM_RETURN_IF_ERROR(Move(memory_, Direction::kToDevice, source));
  std::memset(output.data(), kPoison, output.size());
  AGENTMEM_ASSIGN_OR_RETURN(const double out_ns, Timed([&](HbmPost* post) {
                              return post->CopyFp8(Direction::kToHost, Shape(),
                                                   pieces);
                            }));
  AGENTMEM_RETURN_IF_ERROR(GapsArePoison(pieces));
  std::memset(source.data(), kPoison, source.size());
  AGENTMEM_RETURN_IF_ERROR(Move(memory_, Direction::kToDevice, source));
  AGENTMEM_ASSIGN_OR_RETURN(const double in_ns, Timed([&](HbmPost* post) {
                              return post->CopyFp8(Direction::kToDevice,
                                                   Shape(), pieces);
                            }));
  AGENTMEM_RETURN_IF_ERROR(Move(memory_, Direction::kToHost, source));
  AGENTMEM_RETURN_IF_ERROR(ElementsArrived(source, seed, pieces));
  out->Add(out_ns);
  in->Add(in_ns);
  return absl::OkStatus();
}

absl::Status HbmBench::AddFp8() {
  Samples out;
  Samples in;
  Samples plain_out;
  Samples plain_in;
  // Made before, as the pieces of FP8 are.
  std::vector<Fragment> out_fragments =
      ScatteredFragments(memory_.device(), memory_.output(), kPageBytes);
  std::vector<Fragment> in_fragments =
      ScatteredFragments(memory_.device(), memory_.source(), kPageBytes);
  const auto plain = [this](Direction direction,
                            std::span<Fragment> fragments) -> Way {
    return [this, direction, fragments](HbmPost* post) {
      return post->CopySplit(direction, fragments,
                             crossovers_.of(direction).rule);
    };
  };
  for (int round = 0; Another(round); ++round) {
    AGENTMEM_RETURN_IF_ERROR(Fp8RoundTrip(&out, &in));
    AGENTMEM_ASSIGN_OR_RETURN(
        const double out_ns,
        Offload(kPageBytes, plain(Direction::kToHost, out_fragments)));
    plain_out.Add(out_ns);
    AGENTMEM_ASSIGN_OR_RETURN(
        const double in_ns,
        Onload(kPageBytes, plain(Direction::kToDevice, in_fragments)));
    plain_in.Add(in_ns);
  }
  const CaseResult* const row =
      AddRow("fp8_offload/64KiB", &out, "offload/64KiB, bytes of elements",
             &plain_out, scale_.bytes);
  MeasureBar(row->name, row->Ratio());
  AddRow("fp8_onload/64KiB", &in, "onload/64KiB, bytes of elements", &plain_in,
         scale_.bytes);
  return absl::OkStatus();
}

}  // namespace agentmem::bench
