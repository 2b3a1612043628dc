#include "cuda/crossover_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "tests/unit/cuda/scripted_device.h"

namespace agentmem {
namespace {

class CrossoverFileTest : public ::testing::Test {
 protected:
  CrossoverFileTest() {
    directory_ = ::testing::TempDir() + "crossovers.XXXXXX";
    EXPECT_NE(::mkdtemp(directory_.data()), nullptr);
    path_ = directory_ + "/crossovers";
    bounds_.bytes = kMeasureBytesMin;
    for (const Direction direction :
         {Direction::kToHost, Direction::kToDevice}) {
      device_.cost(direction, CopyMethod::kCopyEngine) = {300, 0.02};
      device_.cost(direction, CopyMethod::kKernel) = {0, 0.05};
    }
  }
  ~CrossoverFileTest() override { std::filesystem::remove_all(directory_); }

  std::string Text() const {
    std::ostringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }
  void Write(const std::string& text) const {
    std::ofstream(path_, std::ios::trunc) << text;
  }
  std::size_t FilesThere() const {
    std::size_t files = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator(directory_)) {
      ++files;
    }
    return files;
  }
  Outcome Find() {
    return FindCrossovers(&device_, clock_, bounds_, path_, &found_, &note_);
  }
  // A file of the next version, as a later program might write it.
  std::string Later() const {
    return "agentmem-crossovers 3\nsomething else\n";
  }

  std::string directory_;
  std::string path_;
  ManualClock clock_;
  ScriptedDevice device_{&clock_};
  MeasureBounds bounds_;
  Crossovers found_;
  std::string note_;
};

std::vector<DeviceCrossovers> Samples() {
  DeviceCrossovers large{"NVIDIA H100 80GB HBM3", 132, true, {}};
  large.crossovers.to_host.rule = {16 << 10, CopyMethod::kStaged};
  large.crossovers.to_device.rule.below = kKernelAlways;
  for (std::size_t step = 0; step < kCrossoverLadder.size(); ++step) {
    large.crossovers.to_host.rates[step] = {step * 1'000'000'007,
                                            UINT64_MAX - step, step + 3};
    large.crossovers.to_device.rates[step] = {1, step};
  }
  DeviceCrossovers host{"host", 0, false, {}};
  host.crossovers.to_host.rule.below = kKernelNever;
  return {large, host};
}

TEST_F(CrossoverFileTest, WhatWasSavedIsLoaded) {
  for (const auto& saved : {Samples(), std::vector<DeviceCrossovers>()}) {
    const Outcome outcome = SaveCrossovers(path_, saved);
    ASSERT_TRUE(outcome.ok()) << outcome.message;
    std::vector<DeviceCrossovers> loaded = {{"other", 1, true, {}}};
    ASSERT_TRUE(LoadCrossovers(path_, &loaded).ok());
    EXPECT_EQ(loaded, saved);
    EXPECT_EQ(FilesThere(), 1u);
  }
}

TEST_F(CrossoverFileTest, ItsLinesAreThoseOfTheFormat) {
  ASSERT_TRUE(SaveCrossovers(path_, Samples()).ok());
  EXPECT_EQ(Text().find("agentmem-crossovers 2\n"
                        "device 132 1 NVIDIA H100 80GB HBM3\n"
                        "to_host 16384 staged\n"
                        "rates 1024 0 18446744073709551615 3\n"
                        "rates 2048 1000000007 18446744073709551614 4\n"),
            0u)
      << Text();
  EXPECT_NE(Text().find("\nto_device always kernel\n"), std::string::npos);
  EXPECT_NE(Text().find("\ndevice 0 0 host\nto_host never kernel\n"),
            std::string::npos);
}

TEST_F(CrossoverFileTest, NoFileIsNotFoundAndNamesIt) {
  std::vector<DeviceCrossovers> loaded = Samples();
  const Outcome outcome = LoadCrossovers(path_, &loaded);
  EXPECT_EQ(outcome.code, Code::kNotFound);
  EXPECT_NE(outcome.message.find(path_), std::string::npos);
  EXPECT_EQ(loaded, Samples());
}

TEST_F(CrossoverFileTest, AnUnknownVersionIsRefusedNamingBoth) {
  Write(Later());
  std::vector<DeviceCrossovers> loaded = Samples();
  const Outcome outcome = LoadCrossovers(path_, &loaded);
  EXPECT_EQ(outcome.code, Code::kFailedPrecondition);
  EXPECT_NE(outcome.message.find("is 3, this program reads 2"),
            std::string::npos)
      << outcome.message;
  EXPECT_NE(outcome.message.find(path_), std::string::npos);
  EXPECT_EQ(loaded, Samples());
}

// The head, the end, and each seventh byte between.
TEST_F(CrossoverFileTest, ACutOrAChangedByteIsDamage) {
  ASSERT_TRUE(SaveCrossovers(path_, Samples()).ok());
  const std::string whole = Text();
  std::vector<DeviceCrossovers> loaded;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    if (i > 64 && i + 30 < whole.size() && i % 7 != 0) continue;
    Write(whole.substr(0, i));
    ASSERT_EQ(LoadCrossovers(path_, &loaded).code, Code::kDataLoss) << i;
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    Write(changed);
    const Code code = LoadCrossovers(path_, &loaded).code;
    ASSERT_TRUE(code == Code::kDataLoss || code == Code::kFailedPrecondition)
        << i << " " << changed;
    ASSERT_EQ(code == Code::kFailedPrecondition, i == 20) << i;
  }
  Write(whole + "x");
  EXPECT_EQ(LoadCrossovers(path_, &loaded).code, Code::kDataLoss);
  EXPECT_TRUE(loaded.empty());
}

TEST_F(CrossoverFileTest, DamageIsToldByItsLine) {
  ASSERT_TRUE(SaveCrossovers(path_, Samples()).ok());
  std::string text = Text();
  text.replace(text.find("rates 2048"), 10, "rates 2047");
  Write(text);
  std::vector<DeviceCrossovers> loaded;
  const Outcome outcome = LoadCrossovers(path_, &loaded);
  EXPECT_NE(outcome.message.find("damaged at line 5"), std::string::npos)
      << outcome.message;
}

TEST_F(CrossoverFileTest, AFileWithoutAnEndIsNotReadToIt) {
  Write(std::string((1 << 20) + 1, 'a'));
  std::vector<DeviceCrossovers> loaded;
  const Outcome outcome = LoadCrossovers(path_, &loaded);
  EXPECT_EQ(outcome.code, Code::kDataLoss);
  EXPECT_NE(outcome.message.find("larger than"), std::string::npos);
}

TEST_F(CrossoverFileTest, ANameThatIsNoLineIsRefusedAndTheFileStays) {
  ASSERT_TRUE(SaveCrossovers(path_, Samples()).ok());
  const std::string before = Text();
  for (const std::string& name :
       {std::string(), std::string("a\nb"), std::string(257, 'x')}) {
    EXPECT_EQ(SaveCrossovers(path_, {{name, 1, false, {}}}).code,
              Code::kInvalidArgument);
  }
  EXPECT_EQ(Text(), before);
  EXPECT_EQ(FilesThere(), 1u);
}

TEST_F(CrossoverFileTest, AFileThatCannotBePutThereLeavesNothingBeside) {
  std::filesystem::create_directory(path_);
  const Outcome outcome = SaveCrossovers(path_, Samples());
  EXPECT_FALSE(outcome.ok());
  EXPECT_NE(outcome.message.find(path_), std::string::npos);
  EXPECT_EQ(FilesThere(), 1u);
}

TEST_F(CrossoverFileTest, ADeviceIsMeasuredOnceAndThenKnown) {
  ASSERT_TRUE(Find().ok());
  EXPECT_EQ(note_, "");
  EXPECT_EQ(found_.to_host.rule.below, 16u << 10);
  const Crossovers measured = found_;
  found_ = {};
  device_.calls = 0;
  ASSERT_TRUE(Find().ok());
  EXPECT_EQ(found_, measured);
  EXPECT_EQ(device_.calls, 0);
}

TEST_F(CrossoverFileTest, AnotherDeviceIsMeasuredAndKeptBesideIt) {
  ASSERT_TRUE(Find().ok());
  for (int other = 0; other < 3; ++other) {
    if (other == 0) device_.shown.name = "other";
    if (other == 1) device_.shown.multiprocessors = 1;
    if (other == 2) device_.shown.copies_batches = true;
    device_.calls = 0;
    ASSERT_TRUE(Find().ok());
    EXPECT_GT(device_.calls, 0) << other;
  }
  std::vector<DeviceCrossovers> loaded;
  ASSERT_TRUE(LoadCrossovers(path_, &loaded).ok());
  EXPECT_EQ(loaded.size(), 4u);
}

TEST_F(CrossoverFileTest, ADamagedFileIsMeasuredAnewReplacedAndToldOf) {
  ASSERT_TRUE(Find().ok());
  const std::string whole = Text();
  const Crossovers measured = found_;
  Write(whole.substr(0, whole.size() / 2));
  ASSERT_TRUE(Find().ok());
  EXPECT_EQ(found_, measured);
  EXPECT_NE(note_.find("damaged at line"), std::string::npos) << note_;
  EXPECT_NE(note_.find("measured anew"), std::string::npos) << note_;
  EXPECT_EQ(Text(), whole);
}

// It lacks what was found out since.
TEST_F(CrossoverFileTest, AnEarlierProgramsFileIsMeasuredAnewAndReplaced) {
  Write("agentmem-crossovers 1\ndevice 7 0 scripted\n");
  std::vector<DeviceCrossovers> loaded;
  const Outcome outcome = LoadCrossovers(path_, &loaded);
  EXPECT_EQ(outcome.code, Code::kNotFound);
  EXPECT_NE(outcome.message.find("is 1, this program reads 2"),
            std::string::npos)
      << outcome.message;
  ASSERT_TRUE(Find().ok());
  EXPECT_EQ(note_, "");
  ASSERT_TRUE(LoadCrossovers(path_, &loaded).ok());
  EXPECT_EQ(loaded.at(0).crossovers, found_);
}

// They would measure each other.
TEST_F(CrossoverFileTest, WhoFindsAnotherMeasuringWaitsForWhatItFinds) {
  ASSERT_TRUE(Find().ok());
  const std::string whole = Text();
  ::unlink(path_.c_str());
  const UniqueFd other(::open(directory_.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC));
  ASSERT_GE(::inotify_add_watch(watch.get(), directory_.c_str(), IN_OPEN), 0);
  device_.copies = 0;
  std::thread finds([&] { EXPECT_TRUE(Find().ok()); });
  // It has found nothing, and opens the directory to lock it.
  char events[4096];
  EXPECT_GT(::read(watch.get(), events, sizeof(events)), 0);
  Write(whole);
  EXPECT_EQ(::flock(other.get(), LOCK_UN), 0);
  finds.join();
  EXPECT_EQ(device_.copies, 0);
}

// A holder that is stopped.
TEST_F(CrossoverFileTest, WhoWaitsForAnotherDoesNotForEver) {
  const UniqueFd other(::open(directory_.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  bounds_.time_max = 0;
  EXPECT_EQ(Find().code, Code::kDeadlineExceeded);  // of the measurement
  EXPECT_EQ(FilesThere(), 0u);
}

TEST_F(CrossoverFileTest, ADeviceThatHasNoRoomForItsRingIsNotToldOfStaging) {
  device_.shown.stages = true;
  device_.cost(Direction::kToHost, CopyMethod::kStaged) = {0, 0.01};
  device_.cost(Direction::kToDevice, CopyMethod::kStaged) = {0, 0.01};
  ASSERT_TRUE(Find().ok());
  EXPECT_EQ(found_.to_host.rule.small, CopyMethod::kStaged);
  const std::string with_staging = Text();
  device_.copies = 0;
  device_.shown.stages = false;
  ASSERT_TRUE(Find().ok());
  EXPECT_EQ(device_.copies, 0);
  EXPECT_EQ(found_.to_host.rule, (SplitRule{16 << 10, CopyMethod::kKernel}));
  EXPECT_EQ(Text(), with_staging);
  // The other way about it is measured, and takes the place.
  ::unlink(path_.c_str());
  ASSERT_TRUE(Find().ok());
  device_.shown.stages = true;
  ASSERT_TRUE(Find().ok());
  EXPECT_EQ(found_.to_host.rule.small, CopyMethod::kStaged);
  std::vector<DeviceCrossovers> loaded;
  ASSERT_TRUE(LoadCrossovers(path_, &loaded).ok());
  EXPECT_EQ(loaded.size(), 1u);
}

TEST_F(CrossoverFileTest, ALaterProgramsFileIsNotWrittenOver) {
  Write(Later());
  ASSERT_TRUE(Find().ok());
  EXPECT_EQ(found_.to_host.rule.below, 16u << 10);
  EXPECT_NE(note_.find("its version is 3"), std::string::npos) << note_;
  EXPECT_EQ(Text(), Later());
}

TEST_F(CrossoverFileTest, WhatCannotBeKeptIsUsedAndToldOf) {
  path_ = directory_ + "/missing/crossovers";
  ASSERT_TRUE(Find().ok());
  EXPECT_EQ(found_.to_host.rule.below, 16u << 10);
  EXPECT_NE(note_.find("not kept"), std::string::npos) << note_;
}

TEST_F(CrossoverFileTest, WithoutAPathNothingIsKept) {
  path_.clear();
  ASSERT_TRUE(Find().ok());
  EXPECT_EQ(note_, "");
  EXPECT_EQ(FilesThere(), 0u);
}

TEST_F(CrossoverFileTest, AMeasurementThatFailsWritesNothing) {
  device_.fail_call = 20;
  EXPECT_EQ(Find().code, Code::kUnavailable);
  EXPECT_EQ(found_, Crossovers());
  EXPECT_EQ(FilesThere(), 0u);
}

}  // namespace
}  // namespace agentmem
