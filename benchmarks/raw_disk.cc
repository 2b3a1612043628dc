#include "benchmarks/raw_disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <random>
#include <thread>

#include "base/clock.h"
#include "base/status.h"
#include "memd/store/aligned_buffer.h"

namespace agentmem::bench {
namespace {

constexpr std::uint64_t kReadBytes = 1 << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<RawDisk>> RawDisk::Make(
    const std::string& directory, std::uint64_t bytes) {
  const std::string path = directory + "/raw";
  UniqueFd fd(::open(path.c_str(),
                     O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoStatus("opening " + path + " for direct I/O");
  ::unlink(path.c_str());
  const AlignedBuffer buffer(kReadBytes);
  std::mt19937_64 random(6);
  auto* const words = reinterpret_cast<std::uint64_t*>(buffer.data());
  for (std::uint64_t at = 0; at < bytes; at += kReadBytes) {
    for (std::uint64_t i = 0; i < kReadBytes / sizeof(*words); ++i) {
      words[i] = random();
    }
    if (::pwrite(fd.get(), buffer.data(), kReadBytes, static_cast<off_t>(at)) !=
        kReadBytes) {
      return ErrnoStatus("writing " + path);
    }
  }
  if (::fdatasync(fd.get()) != 0) return ErrnoStatus("writing " + path);
  return std::unique_ptr<RawDisk>(new RawDisk(std::move(fd), bytes));
}

absl::Status RawDisk::ReadHalf(std::uint64_t first) const {
  const AlignedBuffer buffer(kReadBytes);
  for (std::uint64_t at = first * kReadBytes; at < bytes_;
       at += 2 * kReadBytes) {
    if (::pread(fd_.get(), buffer.data(), kReadBytes, static_cast<off_t>(at)) !=
        kReadBytes) {
      return ErrnoStatus("reading the bare disk");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<double> RawDisk::Read() const {
  const TimeNs start = MonotonicNowNs();
  absl::Status theirs;
  std::thread other([&] { theirs = ReadHalf(1); });
  const absl::Status ours = ReadHalf(0);
  other.join();
  const auto ns = static_cast<double>(MonotonicNowNs() - start);
  AGENTMEM_RETURN_IF_ERROR(ours);
  AGENTMEM_RETURN_IF_ERROR(theirs);
  return ns;
}

}  // namespace agentmem::bench
