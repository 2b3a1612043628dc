// Integers in as few bytes as they need (LEB128: seven bits a byte, the lowest
// first, the high bit set on all but the last byte), and a reader that cannot
// leave its bytes.
//
// An encoding is the shortest one or it is not accepted: equal values have
// equal bytes.
//
// Ownership: ByteReader views its bytes. Threads: thread-compatible.
// Errors: ByteReader's are sticky: once something was not there, every read
// gives 0 or nothing and ok() is false; so a decoder reads on and asks once an
// element, before it believes or allocates anything. Cost: no allocation.
#ifndef AGENTMEM_PROTO_VARINT_H_
#define AGENTMEM_PROTO_VARINT_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace agentmem {

inline constexpr std::size_t kVarintBytesMax = 10;

inline void AppendVarint(std::uint64_t value, std::string* to) {
  while (value >= 0x80) {
    to->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  to->push_back(static_cast<char>(value));
}

// As it lies in memory (little-endian).
template <typename T>
void AppendFixed(const T& value, std::string* to) {
  static_assert(std::is_trivially_copyable_v<T>);
  to->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// A varint of its length, then the bytes.
inline void AppendString(std::string_view bytes, std::string* to) {
  AppendVarint(bytes.size(), to);
  to->append(bytes);
}

class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  // Everything was read, and nothing was missing.
  bool AtEnd() const { return ok_ && bytes_.empty(); }
  std::size_t remaining() const { return bytes_.size(); }

  std::uint64_t Varint() {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes_.size() && i < kVarintBytesMax; ++i) {
      const auto byte = static_cast<unsigned char>(bytes_[i]);
      // The tenth byte holds bit 63 alone; a last byte of 0 says nothing.
      if ((i == kVarintBytesMax - 1 && byte > 1) || (i > 0 && byte == 0)) break;
      value |= static_cast<std::uint64_t>(byte & 0x7f) << (7 * i);
      if (byte < 0x80) {
        bytes_.remove_prefix(i + 1);
        return value;
      }
    }
    return Fail();
  }

  // As Varint, and fails above `max`.
  std::uint64_t VarintAtMost(std::uint64_t max) {
    const std::uint64_t value = Varint();
    return value <= max ? value : Fail();
  }

  template <typename T>
  T Fixed() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value = {};
    const std::string_view bytes = Bytes(sizeof(T));
    if (ok_) std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }

  std::string_view Bytes(std::uint64_t count) {
    if (count > bytes_.size()) {
      Fail();
      return {};
    }
    const std::string_view bytes = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return bytes;
  }

  // What AppendString wrote, if it is no longer than `bytes_max`.
  std::string_view String(std::uint64_t bytes_max) {
    return Bytes(VarintAtMost(bytes_max));
  }

 private:
  std::uint64_t Fail() {
    ok_ = false;
    bytes_ = {};
    return 0;
  }

  std::string_view bytes_;
  bool ok_ = true;
};

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_VARINT_H_
