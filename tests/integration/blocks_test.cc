// Blocks through a real memd: room, tiers, hits without system calls.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>

#include "tests/integration/memd_process.h"

namespace agentmem {
namespace {

constexpr std::size_t kMiB = 1 << 20;

TEST(BlocksTest, FifteenHundredMebibytesGoIntoHalfAGibibyteWithoutAFailure) {
  MemdProcess memd("512MiB");
  agentmem_client* client = memd.Connect();
  const std::string bytes(kMiB, 'm');
  for (std::uint32_t i = 0; i < 1500; ++i) {
    agentmem_error error = {};
    ASSERT_EQ(
        Put(client, KeyOf(i), bytes, AGENTMEM_CACHE, AGENTMEM_VISIBLE, &error),
        AGENTMEM_OK)
        << i << ": " << error.message;
  }
  agentmem_close(client);
  EXPECT_EQ(memd.Stop(), 0);
}

TEST(BlocksTest, StateOfFourTimesTheBudgetIsAllReadBackRight) {
  MemdProcess memd("32MiB");
  agentmem_client* client = memd.Connect();
  constexpr std::uint32_t kBlocks = 512;
  constexpr std::size_t kBytes = 256 << 10;
  for (std::uint32_t i = 0; i < kBlocks; ++i) {
    ASSERT_EQ(Put(client, KeyOf(i), BytesOf(KeyOf(i), kBytes), AGENTMEM_STATE,
                  AGENTMEM_VISIBLE),
              AGENTMEM_OK)
        << i;
  }
  int by_tier[5] = {};
  for (std::uint32_t i = 0; i < kBlocks; ++i) {
    agentmem_tier tier = 0;
    ASSERT_EQ(Check(client, KeyOf(i), kBytes, &tier), AGENTMEM_OK) << i;
    ++by_tier[tier];
    ASSERT_EQ(Check(client, KeyOf(i), kBytes, &tier), AGENTMEM_OK) << i;
    EXPECT_EQ(tier, AGENTMEM_TIER_DRAM);
  }
  EXPECT_GT(by_tier[AGENTMEM_TIER_STORE], 256);
  agentmem_close(client);
  EXPECT_EQ(memd.Stop(), 0);
}

// From here on the process may only write and exit: anything else kills it.
void ForbidSystemCalls() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {5, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    ::_exit(90);
  }
}

TEST(BlocksTest, AHitAndAMatchOf400BlocksMakeNoSystemCall) {
  MemdProcess memd("64MiB");
  Child child([&](int say) {
    agentmem_client* client = memd.Connect();
    agentmem_sequence_options options = {};
    options.size = sizeof(options);
    options.block_tokens = 16;
    options.model = "test";
    agentmem_sequence* sequence = nullptr;
    if (agentmem_sequence_open(client, &options, &sequence, nullptr) != 0) {
      return 1;
    }
    std::vector<std::uint32_t> tokens(401 * 16);  // the last is nowhere
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = static_cast<std::uint32_t>(i * 2654435761u);
    }
    std::vector<agentmem_key> keys(400);
    for (agentmem_key& key : keys) {
      if (agentmem_sequence_next(sequence, tokens.data(), tokens.size(), &key,
                                 nullptr) != 0 ||
          Put(client, key, BytesOf(key, 1000), AGENTMEM_CACHE,
              AGENTMEM_VISIBLE) != 0) {
        return 2;
      }
    }
    std::vector<agentmem_key> found(401);
    std::size_t matched = 0;
    agentmem_span span = {};
    ForbidSystemCalls();
    for (int round = 0; round < 1000; ++round) {
      const agentmem_key& key = keys[static_cast<std::size_t>(round) % 400];
      if (agentmem_get(client, &key, 1, kSecondNs, &span, nullptr) != 0 ||
          span.length != 1000 || span.tier != AGENTMEM_TIER_DRAM) {
        return 3;
      }
      agentmem_release(client, &span, 1);
    }
    agentmem_span spans[100] = {};
    if (agentmem_get(client, keys.data(), 100, kSecondNs, spans, nullptr)) {
      return 4;
    }
    agentmem_release(client, spans, 100);
    for (int round = 0; round < 10; ++round) {
      if (agentmem_sequence_match(sequence, tokens.data(), tokens.size(),
                                  found.data(), found.size(), &matched,
                                  nullptr) != 0 ||
          matched != 400) {
        return 5;
      }
    }
    Say(say, 'k');
    return 0;
  });
  EXPECT_EQ(child.Hear(), 'k');
  EXPECT_EQ(child.Wait(), 0);
}

TEST(BlocksTest, AHitReturnsTheSameMemoryTwiceAndNoCopyOfIt) {
  MemdProcess memd("64MiB");
  agentmem_client* client = memd.Connect();
  const agentmem_key key = KeyOf(1);
  ASSERT_EQ(
      Put(client, key, BytesOf(key, kMiB), AGENTMEM_CACHE, AGENTMEM_VISIBLE),
      AGENTMEM_OK);
  agentmem_span first = {};
  agentmem_span second = {};
  ASSERT_EQ(agentmem_get(client, &key, 1, 0, &first, nullptr), AGENTMEM_OK);
  ASSERT_EQ(agentmem_get(client, &key, 1, 0, &second, nullptr), AGENTMEM_OK);
  EXPECT_EQ(first.data, second.data);
  agentmem_release(client, &first, 1);
  agentmem_release(client, &second, 1);
  agentmem_close(client);
}

TEST(BlocksTest, AGetOfMoreBlocksThanPinsStillGetsAllOfThem) {
  MemdProcess memd("64MiB");
  agentmem_client* client = memd.Connect();
  std::vector<agentmem_key> keys;
  for (std::uint32_t i = 0; i < 400; ++i) {
    keys.push_back(KeyOf(i));
    ASSERT_EQ(Put(client, keys[i], BytesOf(keys[i], 4000), AGENTMEM_CACHE,
                  AGENTMEM_VISIBLE),
              AGENTMEM_OK);
  }
  std::vector<agentmem_span> spans(400);
  agentmem_error error = {};
  ASSERT_EQ(agentmem_get(client, keys.data(), 400, 5 * kSecondNs, spans.data(),
                         &error),
            AGENTMEM_OK)
      << error.message;
  for (std::uint32_t i = 0; i < 400; ++i) {
    EXPECT_EQ(
        std::string(static_cast<const char*>(spans[i].data), spans[i].length),
        BytesOf(keys[i], 4000));
  }
  const auto clients = memd.Memctl("clients");
  agentmem_release(client, spans.data(), 400);
  agentmem_close(client);
  EXPECT_EQ(memd.Stop(), 0);
}

TEST(BlocksTest, SizesOfZeroAndBeyondTheLimitAreAnswered) {
  MemdProcess memd("64MiB");
  agentmem_client* client = memd.Connect();
  const agentmem_key key = KeyOf(1);
  const std::string big((4 << 20) + 1, 'b');
  agentmem_error error = {};
  EXPECT_EQ(agentmem_put(client, &key, big.data(), 0, AGENTMEM_CACHE,
                         AGENTMEM_VISIBLE, kSecondNs, nullptr, &error),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(agentmem_put(client, &key, big.data(), big.size(), AGENTMEM_CACHE,
                         AGENTMEM_VISIBLE, kSecondNs, nullptr, &error),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_NE(std::string(error.message).find("4194304"), std::string::npos)
      << error.message;
  EXPECT_EQ(agentmem_put(client, &key, big.data(), 10, 9, AGENTMEM_VISIBLE,
                         kSecondNs, nullptr, &error),
            AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(Put(client, key, "x", AGENTMEM_CACHE, AGENTMEM_REPLICATED, &error),
            AGENTMEM_FAILED_PRECONDITION);
  EXPECT_EQ(Check(client, KeyOf(2), 1), AGENTMEM_NOT_FOUND);
  agentmem_close(client);
}

}  // namespace
}  // namespace agentmem
