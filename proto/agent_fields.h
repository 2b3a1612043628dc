// Fields behind a message of the agent socket: each is its length (u32) and its
// bytes; no padding. Both sides read with the same bounds.
//
// Ownership: FieldReader looks into the caller's bytes. Threads: values.
// Errors: Next answers false when there is no whole field left; ok() then says
// whether all was read. Cost: O(bytes).
#ifndef AGENTMEM_PROTO_AGENT_FIELDS_H_
#define AGENTMEM_PROTO_AGENT_FIELDS_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace agentmem {

class FieldWriter {
 public:
  void Add(std::string_view bytes) {
    const auto length = static_cast<std::uint32_t>(bytes.size());
    bytes_.append(reinterpret_cast<const char*>(&length), sizeof(length));
    bytes_.append(bytes);
  }
  template <typename T>
  void AddStruct(const T& value) {
    Add({reinterpret_cast<const char*>(&value), sizeof(value)});
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : rest_(bytes) {}

  bool Next(std::string_view* field) {
    std::uint32_t length;
    if (rest_.size() < sizeof(length)) return false;
    std::memcpy(&length, rest_.data(), sizeof(length));
    if (length > rest_.size() - sizeof(length)) return false;
    *field = rest_.substr(sizeof(length), length);
    rest_.remove_prefix(sizeof(length) + length);
    return true;
  }
  // A field of another size stays: ok() says then that not all was read.
  template <typename T>
  bool NextStruct(T* value) {
    FieldReader ahead = *this;
    std::string_view field;
    if (!ahead.Next(&field) || field.size() != sizeof(T)) return false;
    std::memcpy(value, field.data(), sizeof(T));
    *this = ahead;
    return true;
  }
  bool ok() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_AGENT_FIELDS_H_
