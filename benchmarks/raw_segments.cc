#include "benchmarks/raw_segments.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "base/clock.h"
#include "base/status.h"

namespace agentmem::bench {

absl::StatusOr<RawSegments> RawSegments::Open(const std::string& directory) {
  std::vector<std::string> paths;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator entry(directory, error),
       end;
       entry != end; entry.increment(error)) {
    if (entry->path().parent_path().filename() == "segments") {
      paths.push_back(entry->path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  RawSegments segments;
  for (const std::string& path : paths) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (!fd.valid()) return ErrnoStatus("opening " + path);
    const std::uint64_t bytes = std::filesystem::file_size(path, error);
    if (error || bytes < kReadBytes) continue;
    segments.files_.emplace_back(std::move(fd), bytes);
    segments.bytes_ += bytes;
  }
  if (segments.files_.empty()) {
    return NotFound("no segment file below " + directory);
  }
  return segments;
}

absl::Status RawSegments::Read(std::uint64_t place, std::uint64_t bytes,
                               char* into) const {
  place = place % bytes_ & ~std::uint64_t{4095};
  for (const auto& [fd, size] : files_) {
    if (place < size) {
      const std::uint64_t at =
          std::min(place, (size - bytes) & ~std::uint64_t{4095});
      if (::pread(fd.get(), into, bytes, static_cast<off_t>(at)) <= 0) {
        return ErrnoStatus("reading a segment");
      }
      return absl::OkStatus();
    }
    place -= size;
  }
  return Internal("a place outside the segments");
}

absl::StatusOr<double> RawSegments::TimeSequential(std::uint64_t bytes) const {
  constexpr std::uint64_t kThreads = 2;
  AlignedBuffer memory(kThreads * kReadBytes);
  std::vector<absl::Status> outcomes(kThreads);
  const TimeNs start = MonotonicNowNs();
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t at = t * kReadBytes; at < bytes && outcomes[t].ok();
           at += kThreads * kReadBytes) {
        outcomes[t] = Read(at, kReadBytes, memory.data() + t * kReadBytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double ns = static_cast<double>(MonotonicNowNs() - start);
  for (const absl::Status& outcome : outcomes) {
    AGENTMEM_RETURN_IF_ERROR(outcome);
  }
  return ns;
}

}  // namespace agentmem::bench
