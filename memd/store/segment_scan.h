// Reading segments by themselves: what is in them, without any location.
//
// Ownership: borrows everything. Threads: pure functions over files that may be
// read at any time; a segment that is being written shows a part.
// Errors: as SegmentIo. That a segment ends torn is none: it ends there.
// Cost: WalkSegment reads a sector a group; RebuildLocations reads all bytes.
#ifndef AGENTMEM_MEMD_STORE_SEGMENT_SCAN_H_
#define AGENTMEM_MEMD_STORE_SEGMENT_SCAN_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memd/store/record_codec.h"
#include "memd/store/segment_set.h"
#include "proto/segment_layout.h"

namespace agentmem {

// Calls `visit` for the header of each group of the segment, in their order, up
// to the first one that does not check; returns where that one begins.
absl::StatusOr<std::uint64_t> WalkSegment(
    SegmentIo* io, const SegmentFile& file,
    const std::function<void(const SegmentHeaderSector&)>& visit);

// Calls `visit` for each record in `directory` whose bytes check. Of two of a
// key the one that was written later is visited later, and replaces the other.
// Records that were deleted come back until their space was given back.
absl::Status RebuildLocations(
    SegmentIo* io, const std::string& directory,
    const std::function<void(const BlockLocation&)>& visit);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_STORE_SEGMENT_SCAN_H_
