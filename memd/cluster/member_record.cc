#include "memd/cluster/member_record.h"

#include "base/status.h"
#include "memd/cluster/cluster_keys.h"
#include "proto/varint.h"

namespace agentmem {
namespace {

constexpr std::string_view kMagic = "AMND";
constexpr std::uint64_t kFormat = 1;

}  // namespace

absl::Status CheckMember(const MemberInfo& member) {
  AGENTMEM_RETURN_IF_ERROR(CheckClusterName("the node's name", member.node));
  const auto check = [&member](const char* what, const std::string& value,
                               std::size_t least, std::size_t most) {
    if (value.size() >= least && value.size() <= most) return absl::OkStatus();
    return InvalidArgument("node \"" + member.node + "\": its " + what +
                           " has " + std::to_string(value.size()) +
                           " bytes: allowed are " + std::to_string(least) +
                           " to " + std::to_string(most));
  };
  AGENTMEM_RETURN_IF_ERROR(
      check("peer address", member.peer_address, 1, kPeerAddressBytesMax));
  return check("rack", member.rack, 0, kRackBytesMax);
}

std::string EncodeMember(const MemberInfo& member) {
  std::string record(kMagic);
  AppendVarint(kFormat, &record);
  AppendFixed(member.instance, &record);
  AppendVarint(member.weight, &record);
  AppendString(member.peer_address, &record);
  AppendString(member.rack, &record);
  return record;
}

absl::StatusOr<MemberInfo> DecodeMember(const std::string& node,
                                        std::string_view record) {
  ByteReader reader(record);
  if (reader.Bytes(kMagic.size()) != kMagic) {
    return DataLoss("node \"" + node + "\": " + std::to_string(record.size()) +
                    " bytes that are no member's record");
  }
  const std::uint64_t format = reader.Varint();
  if (reader.ok() && format != kFormat) {
    return DataLoss("node \"" + node + "\": its record has format " +
                    std::to_string(format) + ", this memd knows format " +
                    std::to_string(kFormat));
  }
  MemberInfo member;
  member.node = node;
  member.instance = reader.Fixed<std::uint64_t>();
  member.weight = reader.Varint();
  member.peer_address = reader.String(kPeerAddressBytesMax);
  member.rack = reader.String(kRackBytesMax);
  if (!reader.AtEnd()) {
    return DataLoss("node \"" + node + "\": its record of " +
                    std::to_string(record.size()) + " bytes is torn");
  }
  return member;
}

}  // namespace agentmem
