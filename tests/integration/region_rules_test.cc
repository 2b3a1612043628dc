// What must hold of agents' memory: a version is one moment, sleep costs
// nothing, and what is wrong is said.
#include <gmock/gmock.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/integration/region_bytes.h"

namespace agentmem {
namespace {

using ::testing::HasSubstr;

// Two words that a thread keeps equal, but while it is between them: the first
// is one ahead.
class Pair {
 public:
  Pair(std::byte* bytes, std::uint64_t first, std::uint64_t second)
      : first_(reinterpret_cast<std::uint64_t*>(bytes + first)),
        second_(reinterpret_cast<std::uint64_t*>(bytes + second)) {}
  void Step() {
    std::atomic_ref<std::uint64_t>(*first_).fetch_add(1);
    std::atomic_ref<std::uint64_t>(*second_).fetch_add(1);
  }
  bool Holds() const { return *first_ == *second_ || *first_ == *second_ + 1; }
  std::uint64_t count() const {
    return std::atomic_ref<std::uint64_t>(*second_).load();
  }

 private:
  std::uint64_t* const first_;
  std::uint64_t* const second_;
};

TEST(RegionRulesTest, AVersionIsOneMomentOfAllThreads) {
  MemdProcess memd("64MiB");
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  auto region = agent->OpenRegion("heap", {.bytes = 24 * kMiB});
  ASSERT_TRUE(region) << region.status().message();
  // Pages that a commit takes in this order, and in the other.
  const auto pairs = [](std::byte* bytes) {
    return std::vector<Pair>{{bytes, 3 << 16, 200 << 16},
                             {bytes, 180 << 16, 5 << 16},
                             {bytes, (7 << 16) + 8192, 7 << 16},
                             {bytes, 90 << 16, (91 << 16) + 4096}};
  };
  std::vector<std::jthread> threads;
  for (Pair pair : pairs(region->data())) {
    threads.emplace_back([pair](std::stop_token stop) mutable {
      while (!stop.stop_requested()) pair.Step();
    });
  }
  std::uint64_t broken = 0;
  std::uint64_t before = 0;
  auto reader = client.Agents().Open("a");
  for (int i = 0; i < 15; ++i) {
    while (pairs(region->data())[0].count() == before) {
      std::this_thread::yield();
    }
    // Others change with them, more than are taken without looking up.
    Fill(region->data() + 16 * kMiB, 5 * kMiB, static_cast<std::uint64_t>(i));
    auto version = region->Commit({.ack = Ack::kVisible});
    ASSERT_TRUE(version) << version.status().message();
    auto seen = reader->OpenRegion("heap", {.version = *version});
    ASSERT_TRUE(seen) << seen.status().message();
    for (const Pair& pair : pairs(seen->data())) broken += !pair.Holds();
    EXPECT_GT(pairs(seen->data())[0].count(), before)
        << "what was written before the commit";
    before = pairs(seen->data())[0].count();
  }
  EXPECT_EQ(broken, 0u);
}

// 512-byte blocks of the memory that memd holds for regions named `region`.
std::uint64_t BlocksOfMemory(pid_t memd, const std::string& region,
                             int* files) {
  const std::string directory = "/proc/" + std::to_string(memd) + "/fd";
  std::uint64_t blocks = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::error_code gone;
    const std::string target =
        std::filesystem::read_symlink(entry.path(), gone).string();
    if (target.find("memfd:" + region) == std::string::npos) continue;
    struct stat file = {};
    if (::stat(entry.path().c_str(), &file) != 0) continue;
    ++*files;
    blocks += static_cast<std::uint64_t>(file.st_blocks);
  }
  return blocks;
}

// Of this process's mappings of it, in KiB.
std::uint64_t PssOf(const std::string& region) {
  std::ifstream maps("/proc/self/smaps");
  std::string line;
  std::uint64_t pss = 0;
  bool its = false;
  while (std::getline(maps, line)) {
    if (line.find('-') < line.find(' ')) {
      its = line.find("memfd:" + region) != std::string::npos;
    } else if (its && line.rfind("Pss:", 0) == 0) {
      pss += std::stoull(line.substr(4));
    }
  }
  return pss;
}

TEST(RegionRulesTest, HibernationLeavesNothingOfTheMemory) {
  MemdProcess memd("64MiB");
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  auto region = agent->OpenRegion("sleeper", {.bytes = 8 * kMiB});
  ASSERT_TRUE(region) << region.status().message();
  Fill(region->data(), 4 * kMiB, 1);
  ASSERT_TRUE(region->Commit());
  Fill(region->data() + 2 * kMiB, 4 * kMiB, 2);  // not committed
  int files = 0;
  EXPECT_GE(BlocksOfMemory(memd.pid(), "sleeper", &files), 6 * kMiB / 512);
  EXPECT_EQ(files, 1);
  EXPECT_GE(PssOf("sleeper"), 3 * kMiB / 1024);
  auto slept = client.Agents().Hibernate("a");
  ASSERT_TRUE(slept) << slept.status().message();
  EXPECT_EQ(BlocksOfMemory(memd.pid(), "sleeper", &files), 0u);
  EXPECT_EQ(PssOf("sleeper"), 0u);
  EXPECT_TRUE(IsFilled(region->data(), 2 * kMiB, 1));
  EXPECT_TRUE(IsFilled(region->data() + 2 * kMiB, 4 * kMiB, 2));
}

TEST(RegionRulesTest, ALostPageIsNamedAndOthersAreReadable) {
  MemdProcess memd("64MiB");
  constexpr std::uint64_t kPage = 65536;
  constexpr std::uint64_t kLost = 5;
  std::vector<std::byte> page(kPage);
  {
    Client client = ConnectTo(memd);
    auto agent = client.Agents().Open("a", {.write = true, .create = true});
    auto region = agent->OpenRegion("heap", {.bytes = 16 * kPage});
    for (std::uint64_t i = 0; i < 16; ++i) {
      Fill(region->data() + i * kPage, kPage, i);
    }
    ASSERT_TRUE(region->Commit());
  }
  memd.Kill();
  // A bit of the page turns over on the disk.
  Fill(page.data(), kPage, kLost);
  int found = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(
           memd.directory() + "/state")) {
    if (!entry.is_regular_file()) continue;
    std::fstream file(entry.path(),
                      std::ios::in | std::ios::out | std::ios::binary);
    std::string bytes(std::istreambuf_iterator<char>(file), {});
    const std::size_t at =
        bytes.find(std::string(reinterpret_cast<const char*>(page.data()), 64));
    if (at == std::string::npos) continue;
    ++found;
    file.clear();
    file.seekp(static_cast<std::streamoff>(at + 1000));
    file.put(static_cast<char>(bytes[at + 1000] ^ 1));
  }
  ASSERT_EQ(found, 1);
  memd.Start();
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a");
  auto region = agent->OpenRegion("heap", {.force_explicit = true});
  ASSERT_TRUE(region) << region.status().message();
  for (std::uint64_t i = 0; i < 16; ++i) {
    const Status read = region->Read(i * kPage, page);
    if (i != kLost) {
      EXPECT_TRUE(read) << i << ": " << read.message();
      EXPECT_TRUE(IsFilled(page.data(), kPage, i));
      continue;
    }
    EXPECT_EQ(read.code(), Code::kDataLoss);
    EXPECT_THAT(read.message(), HasSubstr("heap"));
    EXPECT_THAT(read.message(), HasSubstr("version 1"));
    EXPECT_THAT(read.message(), HasSubstr("page at 327680"));
  }
}

TEST(RegionRulesTest, ARegionAboveTheQuotaIsRefusedByName) {
  MemdProcess memd("64MiB",
                   "[[tenant]]\nname = \"default\"\nregion_quota = \"1MiB\"\n");
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a", {.write = true, .create = true});
  auto refused = agent->OpenRegion("heap", {.bytes = kMiB + 4096});
  EXPECT_EQ(refused.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(refused.status().message(), HasSubstr("region_quota"));
  EXPECT_THAT(refused.status().message(), HasSubstr("1048576"));
  EXPECT_TRUE(agent->OpenRegion("heap", {.bytes = kMiB}));
  EXPECT_EQ(agent->OpenRegion("odd", {.bytes = 5000}).status().code(),
            Code::kInvalidArgument);
}

// As a container's policy has it: no userfaultfd, by call or by device.
bool ForbidUserfaultfd() {
  constexpr std::uint32_t kNewFromDevice = 0xaa00;  // USERFAULTFD_IOC_NEW
  const auto word = [](std::size_t offset) {
    return static_cast<std::uint32_t>(offset);
  };
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, word(offsetof(seccomp_data, nr))),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, word(offsetof(seccomp_data, args[1]))),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kNewFromDevice, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {std::size(filter), filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(RegionRulesTest, WithoutUserfaultfdItSaysWhatToSetAndWorksByCalls) {
  MemdProcess memd("64MiB");
  Child child([&](int) {
    if (!ForbidUserfaultfd()) return 1;
    Client client = ConnectTo(memd);
    auto agent = client.Agents().Open("a", {.write = true, .create = true});
    if (!agent) return Complain(agent.status());
    auto region = agent->OpenRegion("heap", {.bytes = kMiB});
    if (!region) return Complain(region.status());
    if (region->data() != nullptr) return 2;
    auto state = region->State();
    if (!state) return Complain(state.status());
    const std::string reason = state->reason;
    if (reason.find("userfaultfd") == std::string::npos ||
        reason.find("vm.unprivileged_userfaultfd") == std::string::npos) {
      std::fprintf(stderr, "the reason: %s\n", reason.c_str());
      return 3;
    }
    std::vector<std::byte> bytes(100'000);
    Fill(bytes.data(), bytes.size(), 1);
    if (const Status written = region->Write(5000, bytes); !written) {
      return Complain(written);
    }
    if (auto version = region->Commit(); !version) {
      return Complain(version.status());
    }
    std::vector<std::byte> read(bytes.size());
    if (const Status got = region->Read(5000, read); !got) {
      return Complain(got);
    }
    return read == bytes ? 0 : 4;
  });
  EXPECT_EQ(child.Wait(), 0);
  Client client = ConnectTo(memd);
  auto agent = client.Agents().Open("a");
  auto region = agent->OpenRegion("heap");
  ASSERT_TRUE(region) << region.status().message();
  EXPECT_TRUE(IsFilled(region->data() + 5000, 100'000, 1));
}

}  // namespace
}  // namespace agentmem
