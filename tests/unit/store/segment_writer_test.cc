#include "memd/store/segment_writer.h"

#include <gtest/gtest.h>

#include "base/status.h"
#include "memd/store/segment_codec.h"
#include "tests/unit/store/scripted_segment_io.h"
#include "tests/unit/store/store_harness.h"

namespace agentmem {
namespace {

class SegmentWriterTest : public testing::Test {
 protected:
  SegmentPlace Append(const StoreOp& put) {
    const StoreOp* const puts[] = {&put};
    std::vector<SegmentPlace> places;
    const absl::Status status = writer_->Append(puts, false, &places);
    EXPECT_TRUE(status.ok()) << status.ToString();
    EXPECT_EQ(places.size(), status.ok() ? 1u : 0u);
    return places.empty() ? SegmentPlace() : places[0];
  }
  std::uint64_t FileBytes(std::uint64_t segment) {
    return std::filesystem::file_size(directory_.path() + "/" +
                                      SegmentFileName(segment));
  }

  const TempDirectory directory_;
  ScriptedSegmentIo io_;
  std::unique_ptr<SegmentSet> set_ =
      std::move(SegmentSet::Open(directory_.path(), &io_)).value();
  std::unique_ptr<SegmentWriter> writer_ =
      std::make_unique<SegmentWriter>(set_.get());
};

TEST_F(SegmentWriterTest, AFullSegmentIsFollowedByANewOneAndNoneIsTooLong) {
  io_.discard_writes = true;
  const std::string bytes = BytesOf(4 << 20, 1);
  constexpr std::uint64_t kGroupBytes = (4 << 20) + 4096;
  constexpr std::uint64_t kGroups = kSegmentBytes / kGroupBytes;
  for (std::uint64_t i = 0; i < kGroups; ++i) {
    const SegmentPlace place = Append(PutOp(i, bytes));
    EXPECT_EQ(place.segment, 1u);
    EXPECT_EQ(place.offset, i * kGroupBytes + 4096);
    EXPECT_LE(FileBytes(1), kSegmentBytes);
  }
  const SegmentPlace next = Append(PutOp(99, bytes));
  EXPECT_EQ(next.segment, 2u);
  EXPECT_EQ(next.offset, 4096u);
  EXPECT_EQ(FileBytes(1), kGroups * kGroupBytes) << "its rest was given back";
}

TEST_F(SegmentWriterTest, SpaceIsTakenAheadInStepsAndGivenBackAtTheEnd) {
  const std::string bytes = BytesOf(64 << 10, 1);
  Append(PutOp(1, bytes));
  EXPECT_EQ(FileBytes(1), SegmentWriter::kAllocateBytes);
  EXPECT_GE(set_->disk_bytes(), SegmentWriter::kAllocateBytes);
  writer_.reset();
  EXPECT_EQ(FileBytes(1), 4096u + (64 << 10));
  EXPECT_LT(set_->disk_bytes(), 1u << 20);
}

TEST_F(SegmentWriterTest, PaddingIsZerosAndNotWhatSomebodyElseWrote) {
  Append(PutOp(1, std::string((64 << 10) + 4000, 'x')));
  const SegmentPlace place = Append(PutOp(2, std::string((64 << 10) + 1, 'y')));
  const auto file = set_->Get(place.segment);
  ASSERT_TRUE(file.ok());
  const AlignedBuffer sector(kSegmentAlign);
  iovec part = {sector.data(), kSegmentAlign};
  ASSERT_TRUE(
      io_.Read((*file)->fd.get(), {&part, 1}, place.offset + (64 << 10)).ok());
  EXPECT_EQ(sector.data()[0], 'y');
  EXPECT_EQ(std::string(sector.data() + 1, kSegmentAlign - 1),
            std::string(kSegmentAlign - 1, '\0'));
}

TEST_F(SegmentWriterTest, AFailureEndsTheSegmentBehindWhatWasWritten) {
  const std::string bytes = BytesOf(64 << 10, 1);
  Append(PutOp(1, bytes));
  io_.FailWrite(Unavailable("broken"));
  const StoreOp put = PutOp(2, bytes);
  const StoreOp* const puts[] = {&put};
  std::vector<SegmentPlace> places;
  EXPECT_EQ(writer_->Append(puts, false, &places).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_TRUE(places.empty());
  EXPECT_EQ(FileBytes(1), 4096u + (64 << 10)) << "the half group is cut off";
  io_.FailWrite(absl::OkStatus());
  EXPECT_EQ(Append(put).segment, 2u);
}

}  // namespace
}  // namespace agentmem
