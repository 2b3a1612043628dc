// A file that appears whole or not at all.
//
// It is written beside its place under a name of its own, PATH.XXXXXX, readable
// by its owner alone, and moved there when it is complete and on the disk. What
// is not written reads as zeros and takes no space.
//
// Ownership: owns the unfinished file, and removes it unless it was finished
//   (a process that is killed leaves it). Move only.
// Threads: thread-compatible.
// Errors: ALREADY_EXISTS: something has the name and was not to be replaced;
//   else those of the file system (file_error.h); all name the path.
// Cost: a write each; Finish waits for the disk.
#ifndef AGENTMEM_CLIENT_MEMCTL_NEW_FILE_H_
#define AGENTMEM_CLIENT_MEMCTL_NEW_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace agentmem::memctl {

class NewFile {
 public:
  enum class Existing { kRefuse, kReplace };

  static absl::StatusOr<NewFile> Create(const std::string& path,
                                        Existing existing);
  ~NewFile();
  NewFile(NewFile&& other) noexcept;
  NewFile& operator=(NewFile&&) = delete;

  absl::Status WriteAt(std::uint64_t offset, const char* from,
                       std::uint64_t bytes);
  // The file has `bytes` bytes then. Ends the writing, also when it fails.
  absl::Status Finish(std::uint64_t bytes);

 private:
  NewFile(std::string path, Existing existing);

  absl::Status Move();

  std::string path_;
  std::string unfinished_;  // empty: there is none any more
  Existing existing_;
  UniqueFd fd_;
};

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_NEW_FILE_H_
