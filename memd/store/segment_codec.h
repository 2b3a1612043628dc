// The formats of proto/segment_layout.h, made and checked.
//
// Ownership: values. Threads: pure functions. Errors: what comes from a disk is
// never trusted: DATA_LOSS, and the message says what is wrong with it.
// Cost: one pass over a header's sector.
#ifndef AGENTMEM_MEMD_STORE_SEGMENT_CODEC_H_
#define AGENTMEM_MEMD_STORE_SEGMENT_CODEC_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "proto/segment_layout.h"

namespace agentmem {

std::string SegmentFileName(std::uint64_t segment);

// The number in the name of a segment's file; nothing for other files.
std::optional<std::uint64_t> ParseSegmentFileName(const std::string& name);

// Fills in all of the group's header but `records`, and the checksum; the
// records are there.
void FinishGroupHeader(std::uint64_t segment, std::uint64_t offset,
                       std::uint64_t group_bytes, SegmentHeaderSector* sector);

// OK: it is the header of a group at `offset` of `segment`, and each of its
// records lies in that group.
absl::Status CheckGroupHeader(std::uint64_t segment, std::uint64_t offset,
                              const SegmentHeaderSector& sector);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_SEGMENT_CODEC_H_
