#include "client/memctl/new_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "client/memctl/file_error.h"

namespace agentmem::memctl {
namespace {

absl::Status Exists(const std::string& path) {
  return MakeStatus(
      absl::StatusCode::kAlreadyExists,
      path + " exists: name another file, or replace it with --overwrite");
}

}  // namespace

NewFile::NewFile(std::string path, Existing existing)
    : path_(std::move(path)), existing_(existing) {}

NewFile::NewFile(NewFile&& other) noexcept
    : path_(std::move(other.path_)),
      unfinished_(std::exchange(other.unfinished_, "")),
      existing_(other.existing_),
      fd_(std::move(other.fd_)) {}

NewFile::~NewFile() {
  if (!unfinished_.empty()) ::unlink(unfinished_.c_str());
}

absl::StatusOr<NewFile> NewFile::Create(const std::string& path,
                                        Existing existing) {
  struct stat info = {};
  const bool exists = ::lstat(path.c_str(), &info) == 0;
  if (exists && existing == Existing::kRefuse) return Exists(path);
  if (exists && S_ISDIR(info.st_mode)) {
    return FileError("writing " + path, EISDIR);
  }
  NewFile file(path, existing);
  std::string name = path + ".XXXXXX";
  file.fd_ = UniqueFd(::mkostemp(name.data(), O_CLOEXEC));
  if (!file.fd_.valid()) return FileError("writing " + path);
  file.unfinished_ = name;
  return file;
}

absl::Status NewFile::WriteAt(std::uint64_t offset, const char* from,
                              std::uint64_t bytes) {
  while (bytes != 0) {
    const ssize_t put =
        ::pwrite(fd_.get(), from, bytes, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return FileError("writing " + path_);
    from += put;
    offset += static_cast<std::uint64_t>(put);
    bytes -= static_cast<std::uint64_t>(put);
  }
  return absl::OkStatus();
}

absl::Status NewFile::Finish(std::uint64_t bytes) {
  if (::ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0 ||
      ::fsync(fd_.get()) != 0) {
    return FileError("writing " + path_);
  }
  fd_.Reset();
  return Move();
}

// A link is refused when somebody made the file meanwhile; a rename is not.
absl::Status NewFile::Move() {
  if (existing_ == Existing::kReplace) {
    if (::rename(unfinished_.c_str(), path_.c_str()) != 0) {
      return FileError("replacing " + path_);
    }
    unfinished_.clear();
    return absl::OkStatus();
  }
  if (::link(unfinished_.c_str(), path_.c_str()) == 0) return absl::OkStatus();
  return errno == EEXIST ? Exists(path_) : FileError("writing " + path_);
}

}  // namespace agentmem::memctl
