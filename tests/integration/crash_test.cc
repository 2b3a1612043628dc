// What is killed, and what remains.
#include "tests/integration/memd_process.h"

namespace agentmem {
namespace {

constexpr std::size_t kBytes = 100'000;

TEST(CrashTest, WhatWasAcknowledgedDurableIsThereAfterKillNineOfMemd) {
  MemdProcess memd("64MiB");
  agentmem_client* client = memd.Connect();
  for (std::uint32_t i = 0; i < 50; ++i) {
    ASSERT_EQ(Put(client, KeyOf(i), BytesOf(KeyOf(i), kBytes),
                  i % 2 ? AGENTMEM_STATE : AGENTMEM_CACHE, AGENTMEM_DURABLE),
              AGENTMEM_OK);
  }
  memd.Kill();
  // Resident hits go on without a daemon.
  for (std::uint32_t i = 0; i < 50; ++i) {
    EXPECT_EQ(Check(client, KeyOf(i), kBytes), AGENTMEM_OK) << i;
  }
  // What needs it is UNAVAILABLE by its deadline.
  agentmem_span span = {};
  agentmem_error error = {};
  const agentmem_key unknown = KeyOf(1000);
  const TimeNs before = MonotonicNowNs();
  EXPECT_EQ(
      agentmem_get(client, &unknown, 1, 200 * kMillisecondNs, &span, &error),
      AGENTMEM_UNAVAILABLE)
      << error.message;
  EXPECT_LT(MonotonicNowNs() - before, 2 * kSecondNs);

  memd.Start();
  // The same client goes on by itself, with the blocks of the store.
  const agentmem_key fresh = KeyOf(2000);
  ASSERT_EQ(Put(client, fresh, BytesOf(fresh, kBytes), AGENTMEM_CACHE,
                AGENTMEM_VISIBLE, &error),
            AGENTMEM_OK)
      << error.message;
  for (std::uint32_t i = 0; i < 50; ++i) {
    EXPECT_EQ(Check(client, KeyOf(i), kBytes), AGENTMEM_OK) << i;
  }
  agentmem_close(client);
  EXPECT_EQ(memd.Stop(), 0);
}

TEST(CrashTest, ASpanStaysValidWhenMemdDiesAndComesBack) {
  MemdProcess memd("64MiB");
  agentmem_client* client = memd.Connect();
  const agentmem_key key = KeyOf(1);
  ASSERT_EQ(
      Put(client, key, BytesOf(key, kBytes), AGENTMEM_STATE, AGENTMEM_DURABLE),
      AGENTMEM_OK);
  agentmem_span span = {};
  ASSERT_EQ(agentmem_get(client, &key, 1, 0, &span, nullptr), AGENTMEM_OK);
  memd.Kill();
  memd.Start();
  ASSERT_EQ(Put(client, KeyOf(2), "x", AGENTMEM_CACHE, AGENTMEM_VISIBLE),
            AGENTMEM_OK);
  EXPECT_EQ(std::string(static_cast<const char*>(span.data), span.length),
            BytesOf(key, kBytes));
  agentmem_release(client, &span, 1);
  agentmem_close(client);
}

std::uint64_t Total(const nlohmann::json& tenants, const char* field) {
  std::uint64_t total = 0;
  for (const auto& tenant : tenants["tenants"]) {
    total += tenant[field].get<std::uint64_t>();
  }
  return total;
}

TEST(CrashTest, AKilledClientGivesEverythingBackThoughItsForkedChildLives) {
  MemdProcess memd("64MiB");
  Child victim([&](int say) {
    agentmem_client* client = memd.Connect("victim");
    for (std::uint32_t i = 0; i < 20; ++i) {
      if (Put(client, KeyOf(i), BytesOf(KeyOf(i), kBytes), AGENTMEM_CACHE,
              AGENTMEM_VISIBLE) != 0) {
        return 1;
      }
    }
    agentmem_span spans[10] = {};
    std::vector<agentmem_key> keys;
    for (std::uint32_t i = 0; i < 10; ++i) keys.push_back(KeyOf(i));
    if (agentmem_get(client, keys.data(), 10, kSecondNs, spans, nullptr) ||
        agentmem_hold(client, spans, 5, kSecondNs, nullptr)) {
      return 2;
    }
    agentmem_reservation half = {};
    if (agentmem_reserve(client, 1 << 20, kSecondNs, &half, nullptr)) return 3;
    std::memset(half.data, 'h', 1 << 19);
    const pid_t child = ::fork();
    if (child == 0) {
      // Holds every descriptor of its parent until the test ends.
      ::pause();
      ::_exit(0);
    }
    [[maybe_unused]] ssize_t put = ::write(say, &child, sizeof(child));
    ::pause();
    return 0;
  });
  pid_t grandchild = 0;
  for (std::size_t i = 0; i < sizeof(grandchild); ++i) {
    reinterpret_cast<char*>(&grandchild)[i] = victim.Hear();
  }
  ASSERT_GT(grandchild, 0);
  agentmem_client* other = memd.Connect("other");
  ASSERT_EQ(Put(other, KeyOf(100), BytesOf(KeyOf(100), kBytes), AGENTMEM_CACHE,
                AGENTMEM_VISIBLE),
            AGENTMEM_OK);

  const TimeNs asked = MonotonicNowNs();
  const auto before = memd.Memctl("tenants");
  const DurationNs memctl_ns = MonotonicNowNs() - asked;
  EXPECT_GT(Total(before, "held_bytes"), 0u) << before;
  EXPECT_GT(Total(before, "pinned_bytes"), 0u) << before;
  EXPECT_GE(Total(before, "granted_bytes"), 1u << 20) << before;

  victim.Kill();
  ASSERT_EQ(victim.Wait(), 128 + SIGKILL);
  // Proven dead: within 100 ms everything is back. The memctl that sees it, and
  // the one that was just too early, take their own time.
  const TimeNs died = MonotonicNowNs();
  nlohmann::json clients;
  do {
    clients = memd.Memctl("clients")["clients"];
  } while (clients.size() > 1 && MonotonicNowNs() - died < kSecondNs);
  EXPECT_LT(MonotonicNowNs() - died, 100 * kMillisecondNs + 2 * memctl_ns);
  ASSERT_EQ(clients.size(), 1u);
  EXPECT_EQ(clients[0]["name"], "other");
  const auto after = memd.Memctl("tenants");
  EXPECT_EQ(Total(after, "held_bytes"), 0u) << after;
  EXPECT_EQ(Total(after, "pinned_bytes"), 0u) << after;
  EXPECT_EQ(Total(after, "limbo_bytes"), 0u) << after;
  // And nothing else is disturbed.
  EXPECT_EQ(Check(other, KeyOf(100), kBytes), AGENTMEM_OK);
  EXPECT_EQ(Check(other, KeyOf(3), kBytes), AGENTMEM_OK);
  ::kill(grandchild, SIGKILL);
  agentmem_close(other);
  EXPECT_EQ(memd.Stop(), 0);
}

TEST(CrashTest, WhatAClientPostedBeforeItDiedIsThere) {
  MemdProcess memd("64MiB");
  Child poster([&](int) {
    agentmem_client* client = memd.Connect();
    for (std::uint32_t i = 0; i < 100; ++i) {
      const agentmem_key key = KeyOf(i);
      const std::string bytes = BytesOf(key, 1000);
      if (agentmem_put(client, &key, bytes.data(), bytes.size(), AGENTMEM_CACHE,
                       AGENTMEM_VISIBLE, kSecondNs, nullptr, nullptr) != 0) {
        return 1;
      }
    }
    ::kill(::getpid(), SIGKILL);
    return 2;
  });
  ASSERT_EQ(poster.Wait(), 128 + SIGKILL);
  agentmem_client* client = memd.Connect();
  for (std::uint32_t i = 0; i < 100; ++i) {
    EXPECT_EQ(Check(client, KeyOf(i), 1000), AGENTMEM_OK) << i;
  }
  agentmem_close(client);
}

TEST(CrashTest, AForkedChildIsRefusedAndItsParentGoesOn) {
  MemdProcess memd("64MiB");
  agentmem_client* client = memd.Connect();
  const agentmem_key key = KeyOf(1);
  ASSERT_EQ(
      Put(client, key, BytesOf(key, kBytes), AGENTMEM_CACHE, AGENTMEM_VISIBLE),
      AGENTMEM_OK);
  Child child([&](int) {
    agentmem_span span = {};
    agentmem_error error = {};
    if (agentmem_get(client, &key, 1, kSecondNs, &span, &error) !=
        AGENTMEM_FAILED_PRECONDITION) {
      return 1;
    }
    if (std::string(error.message).find("fork") == std::string::npos) return 2;
    agentmem_close(client);  // gives nothing back: it is the parent's
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(Check(client, key, kBytes), AGENTMEM_OK);
  agentmem_close(client);
}

TEST(CrashTest, ASecondMemdOnTheSameStateSaysWhoHoldsIt) {
  MemdProcess memd("64MiB");
  const std::string line = std::string(AGENTMEM_MEMD) + " --config " +
                           memd.directory() + "/memd.toml 2>&1";
  FILE* pipe = ::popen(line.c_str(), "r");
  char text[4096] = {};
  [[maybe_unused]] std::size_t got =
      std::fread(text, 1, sizeof(text) - 1, pipe);
  EXPECT_NE(::pclose(pipe), 0);
  EXPECT_NE(std::string(text).find("pid " + std::to_string(memd.pid())),
            std::string::npos)
      << text;
}

TEST(CrashTest, SigtermWritesDownStateThatWasOnlyVisible) {
  MemdProcess memd("64MiB");
  agentmem_client* client = memd.Connect();
  for (std::uint32_t i = 0; i < 100; ++i) {
    ASSERT_EQ(Put(client, KeyOf(i), BytesOf(KeyOf(i), kBytes), AGENTMEM_STATE,
                  AGENTMEM_VISIBLE),
              AGENTMEM_OK);
  }
  agentmem_close(client);
  ASSERT_EQ(memd.Stop(), 0);
  memd.Start();
  client = memd.Connect();
  for (std::uint32_t i = 0; i < 100; ++i) {
    EXPECT_EQ(Check(client, KeyOf(i), kBytes), AGENTMEM_OK) << i;
  }
  agentmem_close(client);
}

}  // namespace
}  // namespace agentmem
