#include "memd/store/segment_set.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"
#include "memd/store/segment_codec.h"
#include "memd/store/segment_scan.h"

namespace agentmem {
namespace {

// What the filesystem itself takes for a file's map, and then some.
constexpr std::uint64_t kMapBytesMax = 64 << 10;
// Headers of groups that are dead while their segment lives: one for each
// smallest record that goes into a segment (36 KiB with its padding).
constexpr std::uint64_t kDeadHeaderBytesMax =
    kSegmentBytes / (40 << 10) * kSegmentAlign;
// Threads that may have been appending when a crash came; of more of them, only
// what exceeds kDeadHeaderBytesMax is found.
constexpr std::size_t kLastSegments = 4;

absl::Status MakeDirectory(const std::string& directory) {
  const std::string what =
      "the segments' directory " + directory + " cannot be made";
  if (::mkdir(directory.c_str(), 0700) != 0) {
    return errno == EEXIST ? absl::OkStatus() : ErrnoStatus(what);
  }
  const std::string parent = directory.substr(0, directory.rfind('/'));
  const UniqueFd fd(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) return ErrnoStatus(what);
  return absl::OkStatus();
}

std::uint64_t AllocatedBytes(int fd) {
  struct stat info;
  if (::fstat(fd, &info) != 0) return 0;
  return static_cast<std::uint64_t>(info.st_blocks) * 512;
}

}  // namespace

absl::StatusOr<std::set<std::uint64_t>> ListSegments(
    const std::string& directory) {
  std::set<std::uint64_t> segments;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end;
       !error && it != end; it.increment(error)) {
    const auto segment = ParseSegmentFileName(it->path().filename().string());
    if (segment.has_value()) segments.insert(*segment);
  }
  if (error) return ErrnoStatus("listing " + directory, error.value());
  return segments;
}

absl::StatusOr<std::unique_ptr<SegmentSet>> SegmentSet::Open(
    const std::string& directory, SegmentIo* io) {
  AGENTMEM_RETURN_IF_ERROR(MakeDirectory(directory));
  std::unique_ptr<SegmentSet> set(new SegmentSet(directory, io));
  AGENTMEM_RETURN_IF_ERROR(set->List());
  return set;
}

absl::Status SegmentSet::List() {
  AGENTMEM_ASSIGN_OR_RETURN(const std::set<std::uint64_t> found,
                            ListSegments(directory_));
  MutexLock lock(&mutex_);
  for (const std::uint64_t number : found) {
    Segment& segment = segments_[number];
    struct stat info;
    if (::stat(PathOf(number).c_str(), &info) == 0) {
      SetDiskBytes(&segment, static_cast<std::uint64_t>(info.st_blocks) * 512);
    }
    next_segment_ = number + 1;
  }
  return absl::OkStatus();
}

std::string SegmentSet::PathOf(std::uint64_t segment) const {
  return directory_ + "/" + SegmentFileName(segment);
}

void SegmentSet::AddLive(const BlockLocation& location) {
  const SegmentPlace& place = location.place;
  if (!place.in_segment()) return;
  MutexLock lock(&mutex_);
  // A number that a location names is never given again.
  next_segment_ = std::max(next_segment_, place.segment + 1);
  const auto found = segments_.find(place.segment);
  if (found == segments_.end()) {
    losses_.segments += missing_.insert(place.segment).second ? 1 : 0;
    ++losses_.blocks;
    if (location.block.block_class == BlockClass::kState) {
      ++losses_.state_blocks;
    }
    return;
  }
  ++found->second.live_records;
  found->second.live_bytes += SegmentAlignUp(location.block.length);
}

std::set<std::uint64_t> SegmentSet::Suspects() {
  MutexLock lock(&mutex_);
  std::set<std::uint64_t> suspects;
  std::size_t from_end = segments_.size();
  for (const auto& [number, segment] : segments_) {
    const bool last = from_end-- <= kLastSegments;
    const std::uint64_t explained =
        segment.live_bytes + kMapBytesMax +
        (last ? segment.live_records * kSegmentAlign : kDeadHeaderBytesMax);
    if (segment.disk_bytes > explained) suspects.insert(number);
  }
  return suspects;
}

absl::Status SegmentSet::SweepOrphans(const VisitLive& visit_live) {
  std::vector<std::uint64_t> numbers;
  {
    MutexLock lock(&mutex_);
    for (const auto& [number, segment] : segments_) numbers.push_back(number);
  }
  for (const std::uint64_t number : numbers) {
    AGENTMEM_RETURN_IF_ERROR(RemoveIfEmpty(number));
  }
  const std::set<std::uint64_t> suspects = Suspects();
  if (suspects.empty()) return absl::OkStatus();
  std::map<std::uint64_t, std::map<std::uint64_t, std::uint64_t>> live;
  AGENTMEM_RETURN_IF_ERROR(visit_live([&](const BlockLocation& location) {
    const SegmentPlace& place = location.place;
    if (suspects.count(place.segment) == 0) return;
    live[place.segment][place.offset] =
        place.offset + SegmentAlignUp(location.block.length);
  }));
  for (const std::uint64_t number : suspects) {
    AGENTMEM_RETURN_IF_ERROR(SweepSegment(number, live[number]));
  }
  return absl::OkStatus();
}

absl::Status SegmentSet::SweepSegment(
    std::uint64_t segment, const std::map<std::uint64_t, std::uint64_t>& live) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<SegmentFile> file,
                            Get(segment));
  std::vector<SegmentRange> dead;
  AGENTMEM_ASSIGN_OR_RETURN(
      std::uint64_t end,
      WalkSegment(io_, *file, [&](const SegmentHeaderSector& sector) {
        for (std::uint32_t i = 0; i < sector.group.records; ++i) {
          const SegmentRecord& record = sector.records[i];
          if (live.count(record.offset) != 0) continue;
          dead.push_back(
              {segment, record.offset, SegmentAlignUp(record.length), 0});
        }
      }));
  // A header may be lost where its records are not (the power failed): behind
  // the last one of those nothing is.
  if (!live.empty()) end = std::max(end, live.rbegin()->second);
  struct stat info;
  if (::fstat(file->fd.get(), &info) == 0 &&
      static_cast<std::uint64_t>(info.st_size) > end) {
    AGENTMEM_RETURN_IF_ERROR(io_->Truncate(file->fd.get(), end));
  }
  return Free(dead);
}

absl::StatusOr<std::shared_ptr<SegmentFile>> SegmentSet::Create() {
  std::uint64_t number = 0;
  {
    MutexLock lock(&mutex_);
    number = next_segment_++;
  }
  auto file = std::make_shared<SegmentFile>();
  file->segment = number;
  AGENTMEM_ASSIGN_OR_RETURN(file->fd,
                            io_->Open(PathOf(number), /*create=*/true));
  MutexLock lock(&mutex_);
  segments_[number].appending = true;
  KeepOpen(number, file);
  return file;
}

absl::StatusOr<std::shared_ptr<SegmentFile>> SegmentSet::Get(
    std::uint64_t number) {
  MutexLock lock(&mutex_);
  const auto found = segments_.find(number);
  if (found == segments_.end()) {
    return NotFound("segment " + PathOf(number) + " is not there");
  }
  Segment& segment = found->second;
  if (segment.file == nullptr) {
    auto file = std::make_shared<SegmentFile>();
    file->segment = number;
    AGENTMEM_ASSIGN_OR_RETURN(file->fd,
                              io_->Open(PathOf(number), /*create=*/false));
    KeepOpen(number, file);
    return file;
  }
  open_.splice(open_.end(), open_, segment.used);
  return segment.file;
}

void SegmentSet::KeepOpen(std::uint64_t number,
                          std::shared_ptr<SegmentFile> file) {
  if (open_.size() >= kOpenFilesMax) {
    Segment& oldest = segments_[open_.front()];
    oldest.file.reset();
    open_.pop_front();
  }
  Segment& segment = segments_[number];
  segment.file = std::move(file);
  segment.used = open_.insert(open_.end(), number);
}

void SegmentSet::NoteWritten(std::uint64_t number, std::uint32_t records) {
  MutexLock lock(&mutex_);
  Segment& segment = segments_[number];
  segment.live_records += records;
  segment.written = true;
}

void SegmentSet::NoteAllocation(const SegmentFile& file) {
  const std::uint64_t bytes = AllocatedBytes(file.fd.get());
  MutexLock lock(&mutex_);
  const auto found = segments_.find(file.segment);
  if (found != segments_.end()) SetDiskBytes(&found->second, bytes);
}

void SegmentSet::SetDiskBytes(Segment* segment, std::uint64_t bytes) {
  disk_bytes_.fetch_add(bytes - segment->disk_bytes, std::memory_order_relaxed);
  segment->disk_bytes = bytes;
}

absl::Status SegmentSet::Seal(const std::shared_ptr<SegmentFile>& file,
                              std::uint64_t end) {
  const absl::Status cut = io_->Truncate(file->fd.get(), end);
  NoteAllocation(*file);
  {
    MutexLock lock(&mutex_);
    const auto found = segments_.find(file->segment);
    AGENTMEM_CHECK(found != segments_.end() && found->second.appending);
    found->second.appending = false;
  }
  AGENTMEM_RETURN_IF_ERROR(RemoveIfEmpty(file->segment));
  return cut;
}

absl::Status SegmentSet::SyncWritten() {
  std::vector<std::uint64_t> numbers;
  {
    MutexLock lock(&mutex_);
    for (auto& [number, segment] : segments_) {
      if (!segment.written) continue;
      segment.written = false;
      numbers.push_back(number);
    }
  }
  absl::Status failed = absl::OkStatus();
  for (const std::uint64_t number : numbers) {
    const absl::StatusOr<std::shared_ptr<SegmentFile>> file = Get(number);
    // Removed meanwhile: nothing in it is wanted any more.
    if (file.status().code() == absl::StatusCode::kNotFound) continue;
    const absl::Status synced =
        file.ok() ? io_->Sync((*file)->fd.get()) : file.status();
    if (synced.ok()) continue;
    failed = synced;
    MutexLock lock(&mutex_);
    const auto found = segments_.find(number);
    if (found != segments_.end()) found->second.written = true;
  }
  return failed;
}

absl::Status SegmentSet::Free(std::span<const SegmentRange> ranges) {
  absl::Status failed = absl::OkStatus();
  std::set<std::uint64_t> touched;
  for (const SegmentRange& range : ranges) {
    MutexLock lock(&mutex_);
    const auto found = segments_.find(range.segment);
    if (found == segments_.end()) continue;
    AGENTMEM_CHECK(found->second.live_records >= range.records);
    found->second.live_records -= range.records;
    touched.insert(range.segment);
  }
  // First those that go as a whole: their ranges need no punching.
  for (const std::uint64_t number : touched) {
    const absl::Status removed = RemoveIfEmpty(number);
    if (!removed.ok()) failed = removed;
  }
  for (const SegmentRange& range : ranges) {
    const absl::StatusOr<std::shared_ptr<SegmentFile>> file =
        Get(range.segment);
    if (file.status().code() == absl::StatusCode::kNotFound) continue;
    const absl::Status punched =
        file.ok() ? io_->Punch((*file)->fd.get(), range.offset, range.bytes)
                  : file.status();
    if (!punched.ok()) failed = punched;
    if (file.ok()) NoteAllocation(**file);
  }
  return failed;
}

absl::Status SegmentSet::RemoveIfEmpty(std::uint64_t number) {
  {
    MutexLock lock(&mutex_);
    const auto found = segments_.find(number);
    if (found == segments_.end() || found->second.appending ||
        found->second.live_records > 0) {
      return absl::OkStatus();
    }
    if (found->second.file != nullptr) open_.erase(found->second.used);
    SetDiskBytes(&found->second, 0);
    segments_.erase(found);
  }
  return io_->Remove(PathOf(number));
}

}  // namespace agentmem
