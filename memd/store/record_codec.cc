#include "memd/store/record_codec.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"
#include "proto/key_text.h"
#include "proto/segment_layout.h"

// Inlined here and nowhere else, so that no other version of it is linked.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace agentmem {
namespace {

std::uint64_t HeaderChecksum(const RecordHeader& header) {
  return XXH3_64bits(&header, offsetof(RecordHeader, header_checksum));
}

absl::Status BadRecord(TenantId tenant, const Key& key,
                       const std::string& what) {
  return DataLoss("record of " + BlockName(tenant, key) + ": " + what);
}

std::size_t LocationBytes(std::uint32_t version) {
  return version == kLocationInSegment ? sizeof(SegmentLocationRecord)
                                       : sizeof(LocationRecord);
}

std::string ReadAndExpected(std::uint64_t read, std::uint64_t expected) {
  return std::to_string(read) + ", expected " + std::to_string(expected);
}

}  // namespace

StoreKey EncodeStoreKey(TenantId tenant, const Key& key) {
  StoreKey encoded;
  for (int i = 0; i < 4; ++i) {
    encoded[i] = static_cast<char>(tenant.value() >> (24 - 8 * i));
  }
  std::memcpy(encoded.data() + 4, &key, sizeof(key));
  return encoded;
}

std::string BlockName(TenantId tenant, const Key& key) {
  return "block " + KeyText(key) + " of tenant " +
         std::to_string(tenant.value());
}

RecordHeader MakeRecordHeader(TenantId tenant, const Key& key,
                              BlockClass block_class,
                              std::span<const char> bytes) {
  RecordHeader header = {};
  header.magic = kRecordMagic;
  header.version = kRecordVersion;
  header.block_class = static_cast<std::uint8_t>(block_class);
  header.length = static_cast<std::uint32_t>(bytes.size());
  header.tenant = tenant.value();
  header.key = key;
  header.bytes_checksum = XXH3_64bits(bytes.data(), bytes.size());
  header.header_checksum = HeaderChecksum(header);
  return header;
}

absl::StatusOr<std::span<const char>> CheckRecord(
    TenantId tenant, const Key& key, std::span<const char> record) {
  RecordHeader header;
  if (record.size() < sizeof(header)) {
    return BadRecord(tenant, key,
                     std::to_string(record.size()) +
                         " bytes, less than a header of " +
                         std::to_string(sizeof(header)));
  }
  std::memcpy(&header, record.data(), sizeof(header));
  if (header.magic != kRecordMagic) {
    return BadRecord(tenant, key, "does not begin with a record's magic");
  }
  if (header.version != kRecordVersion) {
    return BadRecord(
        tenant, key,
        "version " + ReadAndExpected(header.version, kRecordVersion));
  }
  if (header.header_checksum != HeaderChecksum(header)) {
    return BadRecord(tenant, key, "its header's checksum does not match");
  }
  const TenantId tenant_read(header.tenant);
  if (tenant_read != tenant || header.key != key) {
    return BadRecord(tenant, key,
                     "is the record of " + BlockName(tenant_read, header.key));
  }
  const std::span<const char> bytes = record.subspan(sizeof(header));
  if (bytes.size() != header.length) {
    return BadRecord(tenant, key,
                     "bytes " + ReadAndExpected(bytes.size(), header.length));
  }
  if (!IsValid(static_cast<BlockClass>(header.block_class)) ||
      header.key_id != 0) {
    return BadRecord(tenant, key,
                     "class " + std::to_string(header.block_class) +
                         ", key id " + std::to_string(header.key_id) +
                         ", which this version does not read");
  }
  if (XXH3_64bits(bytes.data(), bytes.size()) != header.bytes_checksum) {
    return BadRecord(tenant, key, "the checksum of its bytes does not match");
  }
  return bytes;
}

std::uint64_t BytesChecksum(const void* bytes, std::size_t length) {
  return XXH3_64bits(bytes, length);
}

std::string EncodeLocation(BlockClass block_class, std::uint32_t length,
                           const SegmentPlace& place) {
  SegmentLocationRecord location = {};
  location.block.version =
      place.in_segment() ? kLocationInSegment : kLocationInBlocks;
  location.block.length = length;
  location.block.block_class = static_cast<std::uint8_t>(block_class);
  location.segment = place.segment;
  location.offset = place.offset;
  location.bytes_checksum = place.checksum;
  return std::string(reinterpret_cast<const char*>(&location),
                     LocationBytes(location.block.version));
}

absl::StatusOr<BlockLocation> DecodeLocation(std::string_view store_key,
                                             std::string_view value) {
  if (store_key.size() != kStoreKeyBytes) {
    return DataLoss("location: bytes of its key " +
                    ReadAndExpected(store_key.size(), kStoreKeyBytes));
  }
  BlockLocation found;
  StoredBlock& block = found.block;
  std::uint32_t tenant = 0;
  for (int i = 0; i < 4; ++i) {
    tenant = tenant << 8 | static_cast<unsigned char>(store_key[i]);
  }
  block.tenant = TenantId(tenant);
  std::memcpy(&block.key, store_key.data() + 4, sizeof(block.key));
  const std::string name =
      "location of " + BlockName(block.tenant, block.key) + ": ";
  SegmentLocationRecord location = {};
  std::memcpy(&location, value.data(),
              std::min(value.size(), sizeof(location)));
  const std::uint32_t version = location.block.version;
  if (value.size() >= sizeof(version) && version != kLocationInBlocks &&
      version != kLocationInSegment) {
    return DataLoss(name + "version " +
                    ReadAndExpected(version, kLocationInSegment));
  }
  if (value.size() != LocationBytes(version)) {
    return DataLoss(name + "bytes " +
                    ReadAndExpected(value.size(), LocationBytes(version)));
  }
  block.block_class = static_cast<BlockClass>(location.block.block_class);
  block.length = location.block.length;
  if (!IsValid(block.block_class) || block.length == 0 ||
      block.length > kMaxBlockBytes) {
    return DataLoss(name + "class " +
                    std::to_string(location.block.block_class) + ", length " +
                    std::to_string(block.length) +
                    ": allowed are classes 1 and 2, lengths 1 to " +
                    std::to_string(kMaxBlockBytes));
  }
  if (version == kLocationInBlocks) return found;
  found.place = {location.segment, location.offset, location.bytes_checksum};
  if (location.segment == 0 || location.offset % kSegmentAlign != 0 ||
      location.offset > kSegmentBytes - block.length || location.key_id != 0) {
    return DataLoss(name + "segment " + std::to_string(location.segment) +
                    ", offset " + std::to_string(location.offset) +
                    ", key id " + std::to_string(location.key_id) +
                    ", which is no place in a segment");
  }
  return found;
}

std::string EncodeRef(const Ref& ref) {
  RefHeader header = {};
  header.format = kRefFormat;
  header.value_bytes = static_cast<std::uint32_t>(ref.value.size());
  header.version = ref.version;
  header.fence = ref.fence.value();
  std::string encoded(sizeof(header), '\0');
  std::memcpy(encoded.data(), &header, sizeof(header));
  return encoded + ref.value;
}

absl::StatusOr<Ref> DecodeRef(const std::string& name, std::string_view value) {
  RefHeader header;
  if (value.size() < sizeof(header)) {
    return DataLoss("ref '" + name + "': " + std::to_string(value.size()) +
                    " bytes, less than a header of " +
                    std::to_string(sizeof(header)));
  }
  std::memcpy(&header, value.data(), sizeof(header));
  if (header.format != kRefFormat) {
    return DataLoss("ref '" + name + "': format " +
                    ReadAndExpected(header.format, kRefFormat));
  }
  const std::string_view bytes = value.substr(sizeof(header));
  if (bytes.size() != header.value_bytes) {
    return DataLoss("ref '" + name + "': bytes of its value " +
                    ReadAndExpected(bytes.size(), header.value_bytes));
  }
  return Ref{std::string(bytes), header.version, Fence(header.fence)};
}

}  // namespace agentmem
