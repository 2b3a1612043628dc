// What the durable store writes into segment files. Version 1.
//
// A segment is a file of at most kSegmentBytes, written from front to back in
// groups and never written twice at a place. Its number, from 1, is its name:
// 16 hexadecimal digits and ".seg". Everything is little-endian and begins at
// a multiple of kSegmentAlign, so that direct I/O can take it.
//
// Group: a header of one sector, then the records' bytes, each padded with
// zeros to the next sector.
//
//    0         4096
//   +---------+------------------+---+------------------+---+- - -
//   | header  | bytes, record 0  | 0 | bytes, record 1  | 0 |
//   +---------+------------------+---+------------------+---+- - -
//
// Header: SegmentGroupHeader (64 B), then `records` times SegmentRecord (48 B),
// then zeros.
//
//    0         8         12        16        24        32            40
//   +---------+---------+---------+---------+---------+-------------+
//   | magic   | version | records | segment | offset  | group_bytes |
//   +---------+---------+---------+---------+---------+-------------+
//   40                                       56                64
//   +----------------------------------------+-----------------+
//   | 0                                      | header_checksum |
//   +----------------------------------------+-----------------+
//
//   offset           of the group in its segment
//   group_bytes      header, bytes and padding: the next group begins there
//   header_checksum  XXH3-64, seed 0, of the sector with zeros in its place
//
// Record, in the header:
//
//    0        4        8                 24       32               40
//   +--------+--------+-----------------+--------+----------------+
//   | tenant | length | key (16 B)      | offset | bytes_checksum |
//   +--------+--------+-----------------+--------+----------------+
//   40      41     44       48
//   +-------+------+--------+
//   | class | 0    | key_id |
//   +-------+------+--------+
//
//   offset           of the bytes in the segment
//   bytes_checksum   XXH3-64, seed 0, of the block's bytes
//   key_id           of the key that encrypts the bytes; 0: not encrypted
//
// Space that came free is punched out: zeros, whose checksum does not match.
// The first group that does not check ends a segment: a crash tore it.
//
// Threads: plain data. Errors: none here; memd/store/segment_codec.h checks
// what it reads.
#ifndef AGENTMEM_PROTO_SEGMENT_LAYOUT_H_
#define AGENTMEM_PROTO_SEGMENT_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "proto/types.h"

namespace agentmem {

inline constexpr std::uint64_t kSegmentAlign = 4096;
inline constexpr std::uint64_t kSegmentBytes = 256ULL << 20;

inline constexpr std::uint64_t SegmentAlignUp(std::uint64_t bytes) {
  return (bytes + kSegmentAlign - 1) & ~(kSegmentAlign - 1);
}

inline constexpr std::uint64_t kSegmentGroupMagic =
    0x31474553'4d454741ULL;  // AGEMSEG1
inline constexpr std::uint32_t kSegmentVersion = 1;

struct SegmentGroupHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t records;
  std::uint64_t segment;
  std::uint64_t offset;
  std::uint64_t group_bytes;
  std::uint64_t reserved[2];
  std::uint64_t header_checksum;
};
static_assert(sizeof(SegmentGroupHeader) == 64);
static_assert(std::is_trivially_copyable_v<SegmentGroupHeader>);
static_assert(offsetof(SegmentGroupHeader, segment) == 16);
static_assert(offsetof(SegmentGroupHeader, group_bytes) == 32);
static_assert(offsetof(SegmentGroupHeader, header_checksum) == 56);

struct SegmentRecord {
  std::uint32_t tenant;
  std::uint32_t length;
  Key key;
  std::uint64_t offset;
  std::uint64_t bytes_checksum;
  std::uint8_t block_class;  // BlockClass
  std::uint8_t reserved[3];
  std::uint32_t key_id;
};
static_assert(sizeof(SegmentRecord) == 48);
static_assert(std::is_trivially_copyable_v<SegmentRecord>);
static_assert(offsetof(SegmentRecord, key) == 8);
static_assert(offsetof(SegmentRecord, bytes_checksum) == 32);
static_assert(offsetof(SegmentRecord, key_id) == 44);

inline constexpr std::size_t kSegmentGroupRecordsMax =
    (kSegmentAlign - sizeof(SegmentGroupHeader)) / sizeof(SegmentRecord);
static_assert(kSegmentGroupRecordsMax == 84);

struct SegmentHeaderSector {
  SegmentGroupHeader group;
  SegmentRecord records[kSegmentGroupRecordsMax];
};
static_assert(sizeof(SegmentHeaderSector) == kSegmentAlign);

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_SEGMENT_LAYOUT_H_
