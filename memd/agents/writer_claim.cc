#include "memd/agents/writer_claim.h"

#include "base/status.h"
#include "proto/varint.h"

namespace agentmem {
namespace {

constexpr std::uint32_t kMagic = 0x52545257;  // WRTR
constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kStringBytesMax = 1024;

}  // namespace

std::string EncodeWriterClaim(const WriterClaim& claim) {
  std::string value;
  AppendFixed(kMagic, &value);
  AppendFixed(kVersion, &value);
  AppendVarint(claim.instance, &value);
  AppendVarint(static_cast<std::uint32_t>(claim.pid), &value);
  AppendString(claim.node, &value);
  AppendString(claim.name, &value);
  return value;
}

absl::StatusOr<WriterClaim> DecodeWriterClaim(const std::string& ref,
                                              const std::string& value) {
  ByteReader reader(value);
  const auto magic = reader.Fixed<std::uint32_t>();
  const auto version = reader.Fixed<std::uint8_t>();
  if (reader.ok() && magic == kMagic && version != kVersion) {
    return FailedPrecondition("ref " + ref + " is of version " +
                              std::to_string(version) + ", this memd knows " +
                              std::to_string(kVersion) +
                              ": update the older one");
  }
  WriterClaim claim;
  claim.instance = reader.Varint();
  claim.pid = static_cast<std::int32_t>(reader.Varint());
  claim.node = std::string(reader.String(kStringBytesMax));
  claim.name = std::string(reader.String(kStringBytesMax));
  if (magic != kMagic || !reader.AtEnd()) {
    return DataLoss("ref " + ref + " holds no writer's claim");
  }
  return claim;
}

}  // namespace agentmem
