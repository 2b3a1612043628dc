// What an operator is told to change.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "memd/transport/rdma_devices.h"
#include "tests/unit/transport/rdma_machine.h"

namespace agentmem {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint64_t kMiB = 1 << 20;

class RdmaProblemsTest : public ::testing::Test {
 protected:
  RdmaProblemsTest() {
    machine_.Nic("mlx5_0", "pci0000:00/0000:00:01.0/0000:03:00.0", 0);
  }
  static auto Problem(const std::string& found, const std::string& remedy) {
    return AllOf(Field(&RdmaProblem::found, HasSubstr(found)),
                 Field(&RdmaProblem::remedy, HasSubstr(remedy)));
  }
  GpuReach Reach() const { return machine_.Survey().devices[0].gpu; }

  RdmaMachine machine_;
};

TEST_F(RdmaProblemsTest, ALowMemlockLimitIsAProblemIfMoreIsRegistered) {
  machine_.system.memlock_bytes = 8 * kMiB;
  EXPECT_THAT(machine_.Survey({"", -1, 64 * kMiB}).problems,
              ElementsAre(Problem("8 MiB of memory", "LimitMEMLOCK=infinity")));
  EXPECT_THAT(machine_.Survey({"", -1, 64 * kMiB}).problems[0].remedy,
              HasSubstr("ulimit -l"));
  EXPECT_THAT(machine_.Survey({"", -1, 8 * kMiB}).problems, IsEmpty());
  EXPECT_EQ(machine_.Survey().memlock_bytes, 8 * kMiB);
  EXPECT_EQ(machine_.Survey().problems.size(), 1u);  // of what is not known
}

TEST_F(RdmaProblemsTest, WhoMayLockAnythingHasNoLimit) {
  machine_.system.memlock_bytes = 8 * kMiB;
  machine_.Process("0", "0", "0000000000004000");
  EXPECT_THAT(machine_.Survey().problems, IsEmpty());
  // The root of a container's user namespace has not.
  machine_.File("/proc/self/uid_map", "0 100000 65536\n");
  EXPECT_EQ(machine_.Survey().problems.size(), 1u);
}

TEST_F(RdmaProblemsTest, MissingDeviceFilesNameTheUnitsOption) {
  machine_.Remove("/dev/infiniband");
  machine_.verbs.clear();
  EXPECT_THAT(machine_.Survey().problems,
              ElementsAre(Problem("/dev/infiniband", "PrivateDevices=")));
  EXPECT_EQ(machine_.Survey().devices[0].reason, "no program can open it");
}

TEST_F(RdmaProblemsTest, AModuleThatIsNotLoadedIsNamed) {
  machine_.Remove("/dev/infiniband/rdma_cm");
  EXPECT_THAT(machine_.Survey().problems,
              ElementsAre(Problem("rdma_cm", "modprobe rdma_ucm")));
  machine_.Remove("/sys/class/infiniband_verbs");
  EXPECT_THAT(machine_.Survey().problems,
              ElementsAre(Problem("ib_uverbs", "modprobe ib_uverbs")));
}

TEST_F(RdmaProblemsTest, ANicWithoutItsDriverIsNamed) {
  RdmaMachine machine;
  machine.Pci("pci0000:00/0000:04:00.0", "0x15b3", "0x020000", 0);
  machine.Pci("pci0000:00/0000:05:00.0", "0x8086", "0x020000", 0);
  EXPECT_THAT(machine.Survey().problems,
              ElementsAre(Problem("0000:04:00.0", "modprobe mlx5_ib")));
}

TEST_F(RdmaProblemsTest, ADeviceWithoutItsProviderLibraryIsPassedOver) {
  machine_.verbs.clear();
  const RdmaSurvey survey = machine_.Survey();
  EXPECT_THAT(survey.problems, ElementsAre(Problem("ibverbs does not list it",
                                                   "ibverbs-providers")));
  EXPECT_EQ(survey.devices[0].reason, "ibverbs does not list it");
  EXPECT_EQ(survey.devices[0].ports.size(), 1u);  // by sysfs
  EXPECT_EQ(survey.taken, "");
}

TEST_F(RdmaProblemsTest, ADeviceThatMayNotBeOpenedIsPassedOver) {
  machine_.verbs[0].error = EACCES;
  const RdmaSurvey survey = machine_.Survey();
  EXPECT_THAT(survey.problems,
              ElementsAre(Problem("Permission denied", "DeviceAllow=")));
  EXPECT_THAT(survey.devices[0].reason, HasSubstr("Permission denied"));
  EXPECT_EQ(survey.taken, "");
}

TEST_F(RdmaProblemsTest, WithoutAGpuNothingIsReached) {
  machine_.system.hmem = [] {
    ADD_FAILURE() << "asked libfabric in vain";
    return std::string();
  };
  EXPECT_FALSE(Reach().reaches);
  EXPECT_THAT(Reach().reason, HasSubstr("no NVIDIA GPU"));
}

TEST_F(RdmaProblemsTest, AGpuIsReachedByDmabufOrByThePeerModule) {
  machine_.Gpu("pci0000:00/0000:00:01.0/0000:04:00.0", 0);
  EXPECT_FALSE(Reach().reaches);
  EXPECT_THAT(Reach().reason, HasSubstr("not NVIDIA's open one"));
  EXPECT_THAT(Reach().reason, HasSubstr("modprobe nvidia_peermem"));
  machine_.File("/proc/driver/nvidia/version",
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64\n");
  EXPECT_TRUE(Reach().reaches);
  EXPECT_EQ(Reach().reason, "by dma-buf");
  machine_.system.kernel_release = "5.10.0-28";
  EXPECT_THAT(Reach().reason, HasSubstr("5.10.0-28 is older than 5.12"));
  machine_.system.kernel_release = "5.12.1";
  EXPECT_TRUE(Reach().reaches);
  machine_.verbs[0].dmabuf = false;
  EXPECT_THAT(Reach().reason, HasSubstr("the NIC's driver takes none"));
  EXPECT_FALSE(Reach().reaches);
  machine_.File("/sys/module/nvidia_peermem/refcnt", "0\n");
  EXPECT_EQ(Reach().reason, "by nvidia_peermem");
  EXPECT_TRUE(Reach().reaches);
}

TEST_F(RdmaProblemsTest, WhatTheKernelCanIsInVainWithoutLibfabric) {
  machine_.Gpu("pci0000:00/0000:00:01.0/0000:04:00.0", 0);
  machine_.File("/sys/module/nvidia_peermem/refcnt", "0\n");
  machine_.system.hmem = [] { return std::string("libfabric has no FI_HMEM"); };
  EXPECT_FALSE(Reach().reaches);
  EXPECT_EQ(Reach().reason,
            "the kernel can, by nvidia_peermem, but libfabric has no FI_HMEM");
}

}  // namespace
}  // namespace agentmem
