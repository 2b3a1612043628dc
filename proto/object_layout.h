// The root block of an object. Version 1.
//
//   ObjectHeader (64 B), then with kObjectInline the object's bytes
//
// The root's key comes from the object's name; chunk i (chunk_bytes long, the
// last one shorter) has a key from the nonce and i (client/naming.h). Chunks
// are put first and the root last, so that a root that can be read promises all
// of its chunks. The nonce is random: of two writers of one name, the one whose
// nonce stands in the stored root has won.
#ifndef AGENTMEM_PROTO_OBJECT_LAYOUT_H_
#define AGENTMEM_PROTO_OBJECT_LAYOUT_H_

#include <cstddef>
#include <cstdint>

namespace agentmem {

inline constexpr std::uint64_t kObjectMagic =
    0x314a424f'4d454741ULL;  // AGEMOBJ1
inline constexpr std::uint32_t kObjectVersion = 1;
inline constexpr std::uint32_t kObjectInline = 1;  // flags
inline constexpr std::uint32_t kObjectChunkBytes = 1 << 20;
inline constexpr std::size_t kObjectNonceBytes = 16;

struct ObjectHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_bytes;  // sizeof(ObjectHeader)
  std::uint64_t length;        // of the object
  std::uint32_t chunk_bytes;
  std::uint32_t flags;
  std::uint8_t nonce[kObjectNonceBytes];
  std::uint64_t reserved[2];  // 0
};
static_assert(sizeof(ObjectHeader) == 64);
static_assert(offsetof(ObjectHeader, length) == 16);
static_assert(offsetof(ObjectHeader, nonce) == 32);

// The longest object whose bytes stand in its root.
inline constexpr std::uint64_t kObjectInlineBytesMax =
    (1 << 20) - sizeof(ObjectHeader);

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_OBJECT_LAYOUT_H_
