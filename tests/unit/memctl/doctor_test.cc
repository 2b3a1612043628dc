#include "client/memctl/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/status.h"
#include "client/memctl/linux_system.h"
#include "tests/unit/memctl/fake_system.h"

namespace agentmem::memctl {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::uint64_t kMiB = 1 << 20;

TEST(DoctorTest, AHealthyMachineHasNothingToRemedy) {
  const FakeSystem system;
  for (const Finding& finding : CheckSystem(system, "/var/lib/agentmem")) {
    EXPECT_EQ(finding.level, Level::kOk) << finding.name << finding.value;
    EXPECT_THAT(finding.remedy, IsEmpty()) << finding.name;
    EXPECT_THAT(finding.value, Not(IsEmpty())) << finding.name;
  }
}

TEST(DoctorTest, OnTheRealMachineEachCheckAnswersOnceUnderItsOwnName) {
  const LinuxSystem system;
  std::set<std::string> names;
  for (const Finding& finding : CheckSystem(system, "/nonexistent/x")) {
    EXPECT_TRUE(names.insert(finding.name).second) << finding.name;
    EXPECT_THAT(finding.value, Not(IsEmpty())) << finding.name;
    EXPECT_EQ(finding.level == Level::kOk, finding.remedy.empty())
        << finding.name;
  }
  EXPECT_EQ(names.size(), 14u);
}

TEST(DoctorTest, ALowMemlockLimitIsAProblemOnlyWhereThereIsRdma) {
  FakeSystem system;
  system.memlock = {8 * kMiB, 8 * kMiB};
  EXPECT_EQ(CheckMemlock(system).level, Level::kNote);
  EXPECT_THAT(CheckMemlock(system).value, HasSubstr("8 MiB"));
  system.directories["/sys/class/infiniband"] = {"mlx5_0"};
  EXPECT_EQ(CheckMemlock(system).level, Level::kProblem);
  EXPECT_THAT(CheckMemlock(system).remedy, HasSubstr("LimitMEMLOCK=infinity"));
}

TEST(DoctorTest, BudgetsBeyondTheMachinesMemoryAreANote) {
  const FakeSystem system;  // of 64 GiB
  admin::v1::NodeSnapshot node;
  node.add_tenants()->mutable_dram()->set_budget_bytes(40ULL << 30);
  node.add_tenants()->mutable_dram()->set_budget_bytes(20ULL << 30);
  EXPECT_THAT(CheckBudgets(system, node, 4ULL << 30), IsEmpty());
  const auto findings = CheckBudgets(system, node, 8ULL << 30);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].level, Level::kNote);
  EXPECT_THAT(findings[0].value, HasSubstr("68 GiB"));
  EXPECT_THAT(findings[0].remedy, HasSubstr("lower `dram`"));
}

TEST(DoctorTest, FewOpenFilesAreAProblemOnlyIfTheHardLimitIsLowToo) {
  FakeSystem system;
  system.open_files = {1024, 524288};
  EXPECT_EQ(CheckOpenFiles(system).level, Level::kNote);
  system.open_files = {1024, 1024};
  EXPECT_EQ(CheckOpenFiles(system).level, Level::kProblem);
  EXPECT_THAT(CheckOpenFiles(system).remedy, HasSubstr("LimitNOFILE"));
}

TEST(DoctorTest, UserfaultfdIsWellThroughTheDeviceAlone) {
  FakeSystem system;
  system.errors[Feature::kUserfaultfd] = EPERM;
  EXPECT_EQ(CheckUserfaultfd(system).level, Level::kOk);
}

TEST(DoctorTest, UserModeUserfaultfdIsANoteThatTellsOfTheUdevRule) {
  FakeSystem system;
  system.errors[Feature::kUserfaultfd] = EPERM;
  system.errors[Feature::kUserfaultfdDevice] = EACCES;
  const Finding finding = CheckUserfaultfd(system);
  EXPECT_EQ(finding.level, Level::kNote);
  EXPECT_THAT(finding.value, HasSubstr("/dev/userfaultfd EACCES"));
  EXPECT_THAT(finding.remedy, HasSubstr("udev rule"));
  EXPECT_THAT(finding.remedy, HasSubstr("vm.unprivileged_userfaultfd=1"));
}

TEST(DoctorTest, NoUserfaultfdNamesWhatForbidsIt) {
  FakeSystem system;
  system.modes.clear();
  system.errors[Feature::kUserfaultfdDevice] = ENOENT;
  for (const Feature feature :
       {Feature::kUserfaultfd, Feature::kUserfaultfdUserMode}) {
    system.errors[feature] = ENOSYS;
  }
  EXPECT_EQ(CheckUserfaultfd(system).level, Level::kProblem);
  EXPECT_THAT(CheckUserfaultfd(system).remedy, HasSubstr("CONFIG_USERFAULTFD"));
  // A container's filter answers ENOSYS as well: the kernel is not to blame.
  system.files["/proc/self/status"] = "Seccomp:\t2\nSeccomp_filters:\t1\n";
  EXPECT_THAT(CheckUserfaultfd(system).remedy, HasSubstr("seccomp"));
  EXPECT_THAT(CheckUserfaultfd(system).remedy,
              Not(HasSubstr("CONFIG_USERFAULTFD")));
  EXPECT_EQ(CheckSeccomp(system).level, Level::kNote);
  EXPECT_THAT(CheckSeccomp(system).value, HasSubstr("1 filter"));
}

TEST(DoctorTest, IoUringNamesTheSysctlTheFilterOrTheKernel) {
  FakeSystem system;
  system.errors[Feature::kIoUring] = EPERM;
  system.files["/proc/sys/kernel/io_uring_disabled"] = "2\n";
  EXPECT_EQ(CheckIoUring(system).level, Level::kNote);
  EXPECT_THAT(CheckIoUring(system).remedy,
              HasSubstr("kernel.io_uring_disabled=0"));
  system.files["/proc/sys/kernel/io_uring_disabled"] = "0\n";
  system.files["/proc/self/status"] = "Seccomp:\t2\n";
  EXPECT_THAT(CheckIoUring(system).remedy, HasSubstr("seccomp"));
  system.files["/proc/self/status"] = "Seccomp:\t0\n";
  system.errors[Feature::kIoUring] = ENOSYS;
  EXPECT_THAT(CheckIoUring(system).remedy, HasSubstr("CONFIG_IO_URING"));
}

TEST(DoctorTest, WhatAgentmemCannotDoWithoutIsAProblem) {
  FakeSystem system;
  system.errors[Feature::kPidfd] = ENOSYS;
  system.errors[Feature::kMemfdSeals] = EINVAL;
  system.errors[Feature::kWipeOnFork] = EINVAL;
  EXPECT_EQ(CheckPidfd(system).level, Level::kProblem);
  EXPECT_THAT(CheckPidfd(system).remedy, HasSubstr("Linux 5.3"));
  EXPECT_EQ(CheckMemfdSeals(system).level, Level::kProblem);
  EXPECT_EQ(CheckWipeOnFork(system).level, Level::kProblem);
}

TEST(DoctorTest, TheTightestMemoryCgroupOnTheWayUpCounts) {
  FakeSystem system;
  system.files["/proc/self/cgroup"] = "0::/user/shell\n";
  system.files["/sys/fs/cgroup/user/shell/memory.max"] = "max\n";
  system.files["/sys/fs/cgroup/user/memory.max"] = "4294967296\n";
  system.files["/sys/fs/cgroup/user/memory.current"] = "1073741824\n";
  const Finding finding = CheckMemoryCgroup(system);
  EXPECT_EQ(finding.level, Level::kNote);
  EXPECT_EQ(finding.value, "1 GiB used of 4 GiB in /sys/fs/cgroup/user");
  system.files["/sys/fs/cgroup/user/memory.current"] = "4294000000\n";
  EXPECT_EQ(CheckMemoryCgroup(system).level, Level::kProblem);
}

TEST(DoctorTest, VersionOneCgroupsAreReadToo) {
  FakeSystem system;
  system.files["/proc/self/cgroup"] = "5:cpu,memory:/a\n0::/\n";
  const std::string group = "/sys/fs/cgroup/memory/a/memory.";
  system.files[group + "limit_in_bytes"] = "9223372036854771712\n";
  EXPECT_EQ(CheckMemoryCgroup(system).level, Level::kOk);
  system.files[group + "limit_in_bytes"] = "2147483648\n";
  system.files[group + "usage_in_bytes"] = "1048576\n";
  EXPECT_EQ(CheckMemoryCgroup(system).value,
            "1 MiB used of 2 GiB in /sys/fs/cgroup/memory/a");
}

TEST(DoctorTest, LittleMemoryIsANoteAndHardlyAnyAProblem) {
  FakeSystem system;
  system.files["/proc/meminfo"] =
      "MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\n";
  EXPECT_EQ(CheckMemory(system).level, Level::kNote);
  system.files["/proc/meminfo"] =
      "MemTotal: 4194304 kB\nMemAvailable: 102400 kB\n";
  EXPECT_EQ(CheckMemory(system).level, Level::kProblem);
  system.files.clear();
  EXPECT_EQ(CheckMemory(system).level, Level::kNote);
}

TEST(DoctorTest, SharedHugePagesOffIsANoteUnlessSomeAreReserved) {
  FakeSystem system;
  system.files["/sys/kernel/mm/transparent_hugepage/shmem_enabled"] =
      "always within_size advise [never] deny force\n";
  EXPECT_EQ(CheckHugePages(system).level, Level::kNote);
  EXPECT_THAT(CheckHugePages(system).value, HasSubstr("shmem never"));
  system.files["/proc/meminfo"] = "HugePages_Total: 512\n";
  EXPECT_EQ(CheckHugePages(system).level, Level::kOk);
}

TEST(DoctorTest, AStateDirectoryNeedsSpaceAndRights) {
  FakeSystem system;
  system.space = {"/var/lib", 5ULL << 30, 1000ULL << 30, true};
  Finding finding = CheckStateDirectory(system, "/var/lib/agentmem");
  EXPECT_EQ(finding.level, Level::kNote);
  EXPECT_THAT(finding.value, HasSubstr("not made yet"));
  system.space.free_bytes = 100 * kMiB;
  EXPECT_EQ(CheckStateDirectory(system, "/x").level, Level::kProblem);
  system.space = {"/var/lib", 500ULL << 30, 1000ULL << 30, false};
  finding = CheckStateDirectory(system, "/var/lib/agentmem");
  EXPECT_EQ(finding.level, Level::kProblem);
  EXPECT_THAT(finding.value, HasSubstr("/var/lib is not writable"));
}

TEST(DoctorTest, RdmaPortsAreShownWithStateAndLinkLayer) {
  FakeSystem system;
  const std::string device = "/sys/class/infiniband/mlx5_0";
  system.directories["/sys/class/infiniband"] = {"mlx5_0"};
  system.directories[device + "/ports"] = {"1"};
  system.directories["/dev/infiniband"] = {"rdma_cm", "uverbs0"};
  system.directories[device + "/ports/1/gids"] = {"0", "1"};
  system.files[device + "/ports/1/gids/0"] =
      "fe80:0000:0000:0000:0000:00ff:fe00:0001\n";
  system.files[device + "/ports/1/gids/1"] =
      "0000:0000:0000:0000:0000:ffff:0a00:0001\n";
  system.files[device + "/ports/1/state"] = "4: ACTIVE\n";
  system.files[device + "/ports/1/link_layer"] = "Ethernet\n";
  EXPECT_EQ(CheckRdma(system).level, Level::kOk);
  EXPECT_EQ(CheckRdma(system).value, "mlx5_0/1 ACTIVE Ethernet");
  system.files[device + "/ports/1/gids/1"] =
      "0000:0000:0000:0000:0000:0000:0000:0000\n";
  EXPECT_EQ(CheckRdma(system).level, Level::kNote);
  EXPECT_EQ(CheckRdma(system).value, "mlx5_0/1 ACTIVE Ethernet, no address");
  EXPECT_THAT(CheckRdma(system).remedy, HasSubstr("IP address"));
  system.directories["/dev/infiniband"] = {"uverbs0"};
  EXPECT_EQ(CheckRdma(system).level, Level::kProblem);
  EXPECT_THAT(CheckRdma(system).remedy, HasSubstr("modprobe rdma_ucm"));
  system.directories.erase("/dev/infiniband");
  EXPECT_EQ(CheckRdma(system).level, Level::kProblem);
  EXPECT_THAT(CheckRdma(system).remedy, HasSubstr("PrivateDevices="));
  system.files[device + "/ports/1/state"] = "1: DOWN\n";
  EXPECT_EQ(CheckRdma(system).level, Level::kNote);
}

TEST(DoctorTest, AGpuThatCannotBeOpenedOrHasNoLibraryIsAProblem) {
  FakeSystem system;
  system.modes["/proc/driver/nvidia"] = S_IFDIR | 0555;
  system.directories["/proc/driver/nvidia/gpus"] = {"0000:01:00.0"};
  EXPECT_EQ(CheckGpu(system).level, Level::kProblem);
  EXPECT_THAT(CheckGpu(system).remedy, HasSubstr("/dev/nvidia"));
  system.modes["/dev/nvidiactl"] = S_IFCHR | 0666;
  EXPECT_THAT(CheckGpu(system).remedy, HasSubstr("libcuda"));
  system.errors[Feature::kCudaLibrary] = 0;
  EXPECT_EQ(CheckGpu(system).level, Level::kOk);
  EXPECT_THAT(CheckGpu(system).value, HasSubstr("1 GPU"));
  system.access_error = EACCES;
  EXPECT_EQ(CheckGpu(system).level, Level::kProblem);
}

TEST(DoctorTest, AnAbsentMemdIsANoteButARefusalIsAProblem) {
  EXPECT_EQ(CheckMemd(Unavailable("nobody"))[0].level, Level::kNote);
  EXPECT_EQ(CheckMemd(PermissionDenied("not yours"))[0].level, Level::kProblem);
}

TEST(DoctorTest, FailedPutsHaveTheRemedyOfTheirReason) {
  admin::v1::NodeSnapshot node;
  node.set_state("serving");
  auto* tenant = node.add_tenants();
  tenant->set_name("chat");
  tenant->set_puts(417);
  tenant->set_puts_failed(269);
  tenant->set_puts_failed_store(269);
  Finding found = CheckMemd(node)[1];
  EXPECT_EQ(found.value,
            "tenant chat: 269 of 417 puts failed: 269 (the store failed)");
  EXPECT_THAT(found.remedy, HasSubstr("disk"));
  EXPECT_THAT(found.remedy, Not(HasSubstr("memctl clients")));
  tenant->set_puts_failed_store(0);
  tenant->set_puts_failed_replica(260);
  found = CheckMemd(node)[1];
  EXPECT_THAT(found.value, HasSubstr("260 (no other node took a copy), 9 (for "
                                     "other reasons)"));
  EXPECT_THAT(found.remedy, HasSubstr("memctl fabric"));
  EXPECT_THAT(found.remedy, Not(HasSubstr("disk")));
  tenant->set_puts_failed_room(4);
  tenant->set_puts_failed_quota(5);
  found = CheckMemd(node)[1];
  EXPECT_THAT(found.remedy, HasSubstr("memctl clients"));
  EXPECT_THAT(found.remedy, HasSubstr("store_quota"));
  EXPECT_THAT(found.value, Not(HasSubstr("other reasons")));
}

TEST(DoctorTest, AMemdInTroubleIsFoundOut) {
  admin::v1::NodeSnapshot node;
  node.set_state("serving");
  EXPECT_EQ(CheckMemd(node).size(), 1u);
  EXPECT_EQ(CheckMemd(node)[0].level, Level::kOk);
  node.set_state("draining");
  auto* tenant = node.add_tenants();
  tenant->set_name("chat");
  tenant->set_corrupt_blocks(2);
  tenant->set_puts_failed(1);
  tenant->mutable_store()->set_budget_bytes(100);
  tenant->mutable_store()->set_used_bytes(91);
  auto* client = node.add_clients();
  client->set_pid(4242);
  client->set_socket_closed(true);
  const std::vector<Finding> findings = CheckMemd(node);
  ASSERT_EQ(findings.size(), 5u);
  EXPECT_EQ(findings[0].level, Level::kNote);
  EXPECT_EQ(findings[1].name, "corrupt_blocks");
  EXPECT_EQ(findings[1].level, Level::kProblem);
  EXPECT_EQ(findings[2].name, "failed_puts");
  EXPECT_EQ(findings[3].name, "store_quota");
  EXPECT_THAT(findings[4].value, HasSubstr("4242"));
}

}  // namespace
}  // namespace agentmem::memctl
