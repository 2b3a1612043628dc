// A region's working set: the pages that were touched after a resume, in the
// order of their first touches, kept as a block and read ahead after the next.
//
// What is read ahead causes no fault, so it is not seen whether it is used
// again: a set grows by what else is touched. One that outgrows kPagesMax is
// given up, and recorded anew.
//
// Ownership: values. Threads: pure functions. Errors: Decode: DATA_LOSS, with
// the key and what is wrong; an unknown format is named with the known one.
// Cost: 1 to 5 bytes a page.
#ifndef AGENTMEM_MEMD_AGENTS_WORKING_SET_H_
#define AGENTMEM_MEMD_AGENTS_WORKING_SET_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/types.h"

namespace agentmem {

using WorkingSet = std::vector<std::uint32_t>;  // pages, each once

inline constexpr std::size_t kWorkingSetPagesMax = 1 << 15;  // 2 GiB

std::string EncodeWorkingSet(std::span<const std::uint32_t> pages);

// `page_count`: of the region.
absl::StatusOr<WorkingSet> DecodeWorkingSet(const Key& key,
                                            std::string_view bytes,
                                            std::uint64_t page_count);

// `before`, then what of `touched` is not in it; nothing: too many.
WorkingSet MergeWorkingSets(const WorkingSet& before,
                            const std::vector<std::uint32_t>& touched);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_WORKING_SET_H_
