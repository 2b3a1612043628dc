// A member as its key in etcd holds it (memd/cluster/cluster_keys.h):
//
//   4 B  "AMND"
//   varint  format: 1
//   8 B  instance
//   varint  weight
//   varint and bytes  peer address; rack
//
// Its name is in the key.
#ifndef AGENTMEM_MEMD_CLUSTER_MEMBER_RECORD_H_
#define AGENTMEM_MEMD_CLUSTER_MEMBER_RECORD_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "memd/cluster/membership.h"

namespace agentmem {

inline constexpr std::size_t kPeerAddressBytesMax = 512;
inline constexpr std::size_t kRackBytesMax = 255;

// INVALID_ARGUMENT: the field, its value, and what is allowed.
absl::Status CheckMember(const MemberInfo& member);

std::string EncodeMember(const MemberInfo& member);

// DATA_LOSS: torn, or of a format that is not known.
absl::StatusOr<MemberInfo> DecodeMember(const std::string& node,
                                        std::string_view record);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_MEMBER_RECORD_H_
