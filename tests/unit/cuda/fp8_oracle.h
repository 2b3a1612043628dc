// What FP8 of KV must give, from the definitions of its formats and in other
// words than the product's: tables of all values, searched for the nearest, and
// doubles.
//
// Ownership: values. Threads: thread-compatible. Errors: none. Cost: a search
// in a table an element.
#ifndef AGENTMEM_TESTS_UNIT_CUDA_FP8_ORACLE_H_
#define AGENTMEM_TESTS_UNIT_CUDA_FP8_ORACLE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cuda/kv_layout.h"

namespace agentmem {

// A binary format: sign, exponent, mantissa; its positive values by pattern.
class FormatTable {
 public:
  // `finite`: how many patterns without a sign are finite.
  FormatTable(int exponent_bits, int mantissa_bits, std::uint32_t finite)
      : mantissa_bits_(mantissa_bits),
        bias_((1 << (exponent_bits - 1)) - 1),
        sign_(1u << (exponent_bits + mantissa_bits)) {
    // One more, from the middle to which on it is beyond the largest.
    for (std::uint32_t i = 0; i <= finite; ++i) values_.push_back(Magnitude(i));
  }

  std::uint32_t sign() const { return sign_; }
  std::uint32_t finite() const {
    return static_cast<std::uint32_t>(values_.size() - 1);
  }
  // NaN stands for infinity, too.
  double ValueOf(std::uint32_t pattern) const {
    const std::uint32_t magnitude = pattern & (sign_ - 1);
    const double value = magnitude < finite()
                             ? values_[magnitude]
                             : std::numeric_limits<double>::quiet_NaN();
    return (pattern & sign_) != 0 ? -value : value;
  }
  // The nearest, of two the even one; finite(): beyond the largest.
  std::uint32_t NearestMagnitude(double magnitude) const {
    const auto above =
        std::lower_bound(values_.begin(), values_.end(), magnitude);
    if (above == values_.end()) return finite();
    const auto at = static_cast<std::uint32_t>(above - values_.begin());
    if (at == 0) return 0;
    const double up = values_[at] - magnitude;
    const double down = magnitude - values_[at - 1];
    if (up == down) return at % 2 == 0 ? at : at - 1;
    return up < down ? at : at - 1;
  }

 private:
  double Magnitude(std::uint32_t pattern) const {
    const int exponent = static_cast<int>(pattern >> mantissa_bits_);
    const double fraction =
        std::ldexp(static_cast<double>(pattern & ((1u << mantissa_bits_) - 1)),
                   -mantissa_bits_);
    return exponent == 0 ? std::ldexp(fraction, 1 - bias_)
                         : std::ldexp(1 + fraction, exponent - bias_);
  }

  int mantissa_bits_;
  int bias_;
  std::uint32_t sign_;
  std::vector<double> values_;
};

// E4M3: 0x7e is 448, the largest; 0x7f NaN.
inline const FormatTable& CodeTable() {
  static const FormatTable table(4, 3, 0x7f);
  return table;
}

class ElementOracle {
 public:
  explicit ElementOracle(KvType type)
      : type_(type),
        table_(type == KvType::kFloat16 ? FormatTable(5, 10, 0x7c00)
                                        : FormatTable(8, 7, 0x7f80)) {}

  double ValueOf(std::uint32_t bits) const {
    if (type_ != KvType::kFloat32) return table_.ValueOf(bits);
    const std::uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x7f800000) return std::nan("");
    const int exponent = static_cast<int>(magnitude >> 23);
    const double fraction =
        std::ldexp(static_cast<double>(magnitude & 0x7fffff), -23);
    const double value = exponent == 0
                             ? std::ldexp(fraction, -126)
                             : std::ldexp(1 + fraction, exponent - 127);
    return bits >> 31 != 0 ? -value : value;
  }
  bool IsNegative(std::uint32_t bits) const { return (bits & SignBit()) != 0; }

  // (A double holds the product of two floats, and the quotient closely enough
  // that rounding it again changes nothing.)
  float ScaleOf(const std::vector<std::uint32_t>& head) const {
    double largest = 0;
    for (const std::uint32_t bits : head) {
      const double value = std::fabs(ValueOf(bits));
      if (value > largest) largest = value;  // not if it is NaN
    }
    return std::max(static_cast<float>(largest / 448), 0x1p-120F);
  }
  std::uint8_t CodeOf(std::uint32_t bits, float scale) const {
    const double value = ValueOf(bits);
    const std::uint32_t sign = IsNegative(bits) ? 0x80 : 0;
    if (std::isnan(value)) return static_cast<std::uint8_t>(sign | 0x7f);
    const auto inverse = static_cast<double>(static_cast<float>(1.0 / scale));
    const double y = static_cast<float>(std::fabs(value) * inverse);
    const std::uint32_t code =
        std::min<std::uint32_t>(CodeTable().NearestMagnitude(y), 0x7e);
    return static_cast<std::uint8_t>(sign | code);
  }
  std::uint32_t ElementOf(std::uint8_t code, float scale) const {
    const std::uint32_t sign = (code & 0x80) != 0 ? SignBit() : 0;
    const double value = CodeTable().ValueOf(code & 0x7fu);
    if (std::isnan(value)) return sign | NanBits();
    return sign | Nearest(static_cast<float>(value * scale));
  }

 private:
  std::uint32_t SignBit() const {
    return type_ == KvType::kFloat32 ? 1u << 31 : 1u << 15;
  }
  std::uint32_t NanBits() const {
    if (type_ == KvType::kFloat32) return 0x7fc00000;
    return type_ == KvType::kFloat16 ? 0x7e00 : 0x7fc0;
  }
  // The pattern of a float without a sign.
  std::uint32_t Nearest(float magnitude) const {
    if (type_ != KvType::kFloat32) return table_.NearestMagnitude(magnitude);
    if (magnitude == 0) return 0;
    int exponent = 0;
    const double fraction =
        std::frexp(static_cast<double>(magnitude), &exponent);
    if (exponent < -125) {
      return static_cast<std::uint32_t>(
          std::ldexp(static_cast<double>(magnitude), 149));
    }
    return static_cast<std::uint32_t>(exponent + 126) << 23 |
           static_cast<std::uint32_t>(std::ldexp(2 * fraction - 1, 23));
  }

  KvType type_;
  FormatTable table_;  // of the types of 16 bits
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_CUDA_FP8_ORACLE_H_
