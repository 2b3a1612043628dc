#include "memd/store/segment_set.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/status.h"
#include "memd/store/aligned_buffer.h"
#include "tests/unit/store/scripted_segment_io.h"
#include "tests/unit/store/store_harness.h"

namespace agentmem {
namespace {

TEST(SegmentSet, DescriptorsAreBoundedAndThoseUsedLastAreKept) {
  constexpr std::uint64_t kSegments = SegmentSet::kOpenFilesMax + 10;
  const TempDirectory directory;
  ScriptedSegmentIo io;
  auto set = SegmentSet::Open(directory.path(), &io);
  ASSERT_TRUE(set.ok());
  for (std::uint64_t i = 1; i <= kSegments; ++i) {
    const auto file = (*set)->Create();
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    ASSERT_EQ((*file)->segment, i);
    (*set)->NoteWritten(i, 1);
  }
  EXPECT_EQ(io.opens, 0);
  // The last ones are open, the first ones are opened again: once.
  ASSERT_TRUE((*set)->Get(kSegments).ok());
  EXPECT_EQ(io.opens, 0);
  const auto held = (*set)->Get(1);
  ASSERT_TRUE(held.ok());
  ASSERT_TRUE((*set)->Get(1).ok());
  EXPECT_EQ(io.opens, 1);
  // Each Get of another pushes out the one that was used least lately, and who
  // holds a file keeps it.
  for (std::uint64_t i = 2; i <= kSegments; ++i) {
    ASSERT_TRUE((*set)->Get(i).ok());
  }
  const int before = io.opens;
  ASSERT_TRUE((*set)->Get(1).ok());
  EXPECT_EQ(io.opens, before + 1);
  const AlignedBuffer buffer(kSegmentAlign);
  iovec part = {buffer.data(), kSegmentAlign};
  EXPECT_EQ(io.Read((*held)->fd.get(), {&part, 1}, 0).code(),
            absl::StatusCode::kDataLoss)
      << "an open file that is empty";
  // Those of the set alone.
  std::size_t open = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const auto target = std::filesystem::read_symlink(entry.path(), error);
    open += target.string().starts_with(directory.path());
  }
  EXPECT_LE(open, SegmentSet::kOpenFilesMax + 1);
}

TEST(SegmentSet, ASegmentThatIsGoneIsReadableForWhoHoldsIt) {
  const TempDirectory directory;
  ScriptedSegmentIo io;
  auto set = SegmentSet::Open(directory.path(), &io);
  ASSERT_TRUE(set.ok());
  const auto file = (*set)->Create();
  ASSERT_TRUE(file.ok());
  const AlignedBuffer buffer(kSegmentAlign);
  iovec part = {buffer.data(), kSegmentAlign};
  ASSERT_TRUE(io.Write((*file)->fd.get(), {&part, 1}, 0).ok());
  (*set)->NoteWritten(1, 1);
  ASSERT_TRUE((*set)->Seal(*file, kSegmentAlign).ok());
  EXPECT_EQ(ListSegments(directory.path())->size(), 1u);
  const SegmentRange all = {1, 0, kSegmentAlign, 1};
  ASSERT_TRUE((*set)->Free({&all, 1}).ok());
  EXPECT_EQ(ListSegments(directory.path())->size(), 0u);
  EXPECT_EQ((*set)->Get(1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ((*set)->disk_bytes(), 0u);
  part = {buffer.data(), kSegmentAlign};
  EXPECT_TRUE(io.Read((*file)->fd.get(), {&part, 1}, 0).ok());
}

TEST(DirectSegmentIo, AFileSizeLimitIsAFullDisk) {
  const TempDirectory directory;
  DirectSegmentIo io;
  const auto fd = io.Open(directory.path() + "/file", /*create=*/true);
  ASSERT_TRUE(fd.ok()) << fd.status().ToString();
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 8192;
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const AlignedBuffer buffer(16384);
  iovec parts[] = {{buffer.data(), 4096}, {buffer.data() + 4096, 12288}};
  const absl::Status written = io.Write(fd->get(), parts, 0);
  const absl::Status taken = io.Allocate(fd->get(), 0, 16384);
  EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, handler);
  EXPECT_EQ(written.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(taken.code(), absl::StatusCode::kResourceExhausted);
}

TEST(DirectSegmentIo, WhatIsWrittenInPartsIsReadInOthers) {
  const TempDirectory directory;
  DirectSegmentIo io;
  const auto fd = io.Open(directory.path() + "/file", /*create=*/true);
  ASSERT_TRUE(fd.ok());
  const std::string bytes = BytesOf(12288, 1);
  const AlignedBuffer buffer(12288);
  bytes.copy(buffer.data(), bytes.size());
  iovec parts[] = {{buffer.data(), 4096}, {buffer.data() + 4096, 8192}};
  ASSERT_TRUE(io.Write(fd->get(), parts, 4096).ok());
  const AlignedBuffer room(12288);
  iovec others[] = {{room.data() + 4096, 8192}, {room.data(), 4096}};
  ASSERT_TRUE(io.Read(fd->get(), others, 4096).ok());
  EXPECT_EQ(std::string(room.data() + 4096, 8192), bytes.substr(0, 8192));
  EXPECT_EQ(std::string(room.data(), 4096), bytes.substr(8192));
  iovec beyond[] = {{room.data(), 8192}};
  EXPECT_EQ(io.Read(fd->get(), beyond, 12288).code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(io.Open(directory.path() + "/other", false).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace agentmem
