#include "benchmarks/page_cache.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "base/unique_fd.h"

namespace agentmem::bench {

void DropPageCache(const std::string& directory) {
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator it(directory, error), end;
       !error && it != end; it.increment(error)) {
    const UniqueFd file(::open(it->path().c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) continue;
    ::fdatasync(file.get());
    ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
}

}  // namespace agentmem::bench
