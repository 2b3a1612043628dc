// The formats of proto/record_layout.h, made and checked.
//
// Ownership: views only; nothing is kept. Threads: pure functions.
// Errors: what comes from a disk is never trusted: a record that is not exactly
// what was asked for is DATA_LOSS, and the message says what is wrong with it.
// Cost: MakeRecordHeader and CheckRecord read all bytes once (XXH3-64).
#ifndef AGENTMEM_MEMD_STORE_RECORD_CODEC_H_
#define AGENTMEM_MEMD_STORE_RECORD_CODEC_H_

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memd/store/block_store.h"
#include "memd/store/ref_store.h"
#include "proto/record_layout.h"

namespace agentmem {

using StoreKey = std::array<char, kStoreKeyBytes>;

// Where a block's bytes lie in the segment files.
struct SegmentPlace {
  std::uint64_t segment = 0;  // 0: in no segment, but in "blocks"
  std::uint64_t offset = 0;
  std::uint64_t checksum = 0;  // of the bytes

  bool in_segment() const { return segment != 0; }
  friend bool operator==(const SegmentPlace&, const SegmentPlace&) = default;
};

struct BlockLocation {
  StoredBlock block;
  SegmentPlace place;
};

StoreKey EncodeStoreKey(TenantId tenant, const Key& key);

// "block 0000002a:00112233445566778899aabb of tenant 3", for people.
std::string BlockName(TenantId tenant, const Key& key);

RecordHeader MakeRecordHeader(TenantId tenant, const Key& key,
                              BlockClass block_class,
                              std::span<const char> bytes);

// The block's bytes in `record`, once header and both checksums were verified.
absl::StatusOr<std::span<const char>> CheckRecord(TenantId tenant,
                                                  const Key& key,
                                                  std::span<const char> record);

std::uint64_t BytesChecksum(const void* bytes, std::size_t length);

// Of a location for bytes in "blocks", or, with a place, in a segment.
std::string EncodeLocation(BlockClass block_class, std::uint32_t length,
                           const SegmentPlace& place);

absl::StatusOr<BlockLocation> DecodeLocation(std::string_view store_key,
                                             std::string_view value);

std::string EncodeRef(const Ref& ref);

absl::StatusOr<Ref> DecodeRef(const std::string& name, std::string_view value);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_RECORD_CODEC_H_
