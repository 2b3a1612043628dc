#include "memd/dram/shared_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "base/map_shared.h"

namespace agentmem {
namespace {

TEST(SharedMemoryTest, LongMappingsBeginAtAHugePageAndHaveAllTheirBytes) {
  for (const std::uint64_t bytes : {std::uint64_t{4096}, kHugePageBytes - 1,
                                    kHugePageBytes, 3 * kHugePageBytes + 5}) {
    auto memory = SharedMemory::Create("test", bytes,
                                       SharedMemory::Access::kClientsWrite);
    ASSERT_TRUE(memory.ok());
    if (bytes >= kHugePageBytes) {
      EXPECT_EQ(
          reinterpret_cast<std::uintptr_t>(memory->base()) % kHugePageBytes,
          0u);
    }
    std::memset(memory->base(), 'x', bytes);
    void* const other = MapShared(memory->fd(), bytes, PROT_READ);
    ASSERT_NE(other, MAP_FAILED);
    EXPECT_EQ(std::memcmp(other, memory->base(), bytes), 0);
    EXPECT_EQ(munmap(other, bytes), 0);
  }
}

TEST(SharedMemoryTest, HugePagesKeepTheBytesOrSayWhyThereAreNone) {
  auto memory = SharedMemory::Create("test", 2 * kHugePageBytes,
                                     SharedMemory::Access::kClientsRead);
  ASSERT_TRUE(memory.ok());
  std::memset(memory->base() + 1000, 'y', kHugePageBytes);
  const absl::Status huge = memory->UseHugePages();
  if (!huge.ok()) {
    EXPECT_NE(huge.message().find("MADV_COLLAPSE"), std::string::npos);
  }
  EXPECT_EQ(std::string(memory->base() + 1000, kHugePageBytes),
            std::string(kHugePageBytes, 'y'));
  EXPECT_EQ(memory->base()[999], 0);
  EXPECT_EQ(memory->base()[1000 + kHugePageBytes], 0);
}

}  // namespace
}  // namespace agentmem
