// What the durable store writes: keys, records and locations. Version 2.
//
// The database's format is kStoreFormatVersion, in decimal, under
// kStoreFormatName in the column family "default". A store of version 1, which
// has no segments, becomes one of version 2 when it is opened; one of any other
// version is refused, and both are named. Integers are little-endian unless
// said. Segment files: segment_layout.h.
//
// Store key (20 B): of "blocks" and of "locations". Big-endian tenant, so that
// a tenant's blocks lie together.
//
//    0        4                                   20
//   +--------+-----------------------------------+
//   | tenant | key (as in proto/types.h)         |
//   +--------+-----------------------------------+
//
// Record, the value in "blocks": RecordHeader (64 B), then `length` bytes.
//
//    0                8        12      13        16        20       24
//   +----------------+--------+-------+---------+---------+--------+
//   | magic          | version| class | 0 (3 B) | length  | tenant |
//   +----------------+--------+-------+---------+---------+--------+
//   24                                40                  48
//   +---------------------------------+-------------------+
//   | key (16 B)                      | bytes_checksum    |
//   +---------------------------------+-------------------+
//   48       52       56                 64
//   +--------+--------+------------------+----------------- - - -
//   | key_id | 0      | header_checksum  | the block's bytes
//   +--------+--------+------------------+----------------- - - -
//
//   bytes_checksum    XXH3-64, seed 0, of the block's bytes
//   header_checksum   XXH3-64, seed 0, of the header's first 56 bytes
//   key_id            of the key that encrypts the bytes; 0: not encrypted
//
// Location, the value in "locations": a block without its bytes. Version 1
// (16 B): the bytes are in "blocks". Version 2 (48 B): they are in a segment.
//
//    0        4        8       9              16
//   +--------+--------+-------+--------------+
//   | version| length | class | 0 (7 B)      |
//   +--------+--------+-------+--------------+
//   16                24                32               40       44
//   +-----------------+-----------------+----------------+--------+------+
//   | segment         | offset          | bytes_checksum | key_id | 0    |
//   +-----------------+-----------------+----------------+--------+------+
//
// Ref, the value in "refs" (its key is the ref's name): RefHeader (24 B), then
// `value_bytes` bytes. version 0: a fence was taken, no value was ever set.
//
//    0        4             8         16        24
//   +--------+-------------+---------+---------+------------- - - -
//   | format | value_bytes | version | fence   | the value
//   +--------+-------------+---------+---------+------------- - - -
//
// Threads: plain data. Errors: none here; memd/store/record_codec.h checks what
// it reads.
#ifndef AGENTMEM_PROTO_RECORD_LAYOUT_H_
#define AGENTMEM_PROTO_RECORD_LAYOUT_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "proto/types.h"

namespace agentmem {

static_assert(std::endian::native == std::endian::little,
              "the formats are written as they lie in memory");

inline constexpr char kStoreFormatName[] = "agentmem/format";
inline constexpr std::uint32_t kStoreFormatVersion = 2;
// The oldest one that is opened, and made a store of the present version.
inline constexpr std::uint32_t kStoreFormatVersionOldest = 1;

inline constexpr std::size_t kStoreKeyBytes = 4 + sizeof(Key);
static_assert(kStoreKeyBytes == 20);

inline constexpr std::uint64_t kRecordMagic =
    0x31434552'4d454741ULL;  // AGEMREC1
inline constexpr std::uint32_t kRecordVersion = 1;

struct RecordHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint8_t block_class;  // BlockClass
  std::uint8_t reserved0[3];
  std::uint32_t length;
  std::uint32_t tenant;
  Key key;
  std::uint64_t bytes_checksum;
  std::uint32_t key_id;
  std::uint32_t reserved1;
  std::uint64_t header_checksum;
};
static_assert(sizeof(RecordHeader) == 64);
static_assert(std::is_trivially_copyable_v<RecordHeader>);
static_assert(offsetof(RecordHeader, block_class) == 12);
static_assert(offsetof(RecordHeader, length) == 16);
static_assert(offsetof(RecordHeader, key) == 24);
static_assert(offsetof(RecordHeader, bytes_checksum) == 40);
static_assert(offsetof(RecordHeader, header_checksum) == 56);

inline constexpr std::uint32_t kLocationInBlocks = 1;
inline constexpr std::uint32_t kLocationInSegment = 2;

struct LocationRecord {
  std::uint32_t version;
  std::uint32_t length;
  std::uint8_t block_class;  // BlockClass
  std::uint8_t reserved[7];
};
static_assert(sizeof(LocationRecord) == 16);
static_assert(std::is_trivially_copyable_v<LocationRecord>);
static_assert(offsetof(LocationRecord, block_class) == 8);

struct SegmentLocationRecord {
  LocationRecord block;
  std::uint64_t segment;
  std::uint64_t offset;
  std::uint64_t bytes_checksum;
  std::uint32_t key_id;
  std::uint32_t reserved;
};
static_assert(sizeof(SegmentLocationRecord) == 48);
static_assert(std::is_trivially_copyable_v<SegmentLocationRecord>);
static_assert(offsetof(SegmentLocationRecord, segment) == 16);
static_assert(offsetof(SegmentLocationRecord, bytes_checksum) == 32);

inline constexpr std::uint32_t kRefFormat = 1;

struct RefHeader {
  std::uint32_t format;
  std::uint32_t value_bytes;
  std::uint64_t version;
  std::uint64_t fence;
};
static_assert(sizeof(RefHeader) == 24);
static_assert(std::is_trivially_copyable_v<RefHeader>);
static_assert(offsetof(RefHeader, version) == 8);
static_assert(offsetof(RefHeader, fence) == 16);

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_RECORD_LAYOUT_H_
