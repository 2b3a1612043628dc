// The page cache's part of a directory's files.
//
// Threads: thread-safe. Errors: what cannot be opened is left as it is.
// Cost: a sync of each file, so that its pages are clean and can go.
#ifndef AGENTMEM_BENCHMARKS_PAGE_CACHE_H_
#define AGENTMEM_BENCHMARKS_PAGE_CACHE_H_

#include <string>

namespace agentmem::bench {

// Reads of these files go to the disk again.
void DropPageCache(const std::string& directory);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_PAGE_CACHE_H_
