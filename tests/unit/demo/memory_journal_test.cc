#include "tests/demo/memory_journal.h"

#include <gtest/gtest.h>

namespace agentmem::demo {
namespace {

// Versions 1 (durable) and 2 (visible), and 3 in flight.
MemoryJournal Journal() {
  MemoryJournal journal;
  journal.Intend({0, 1});
  journal.Acknowledge(/*durable=*/true);
  journal.Intend({0, 1});
  journal.Acknowledge(/*durable=*/false);
  journal.Intend({0, 1});
  return journal;
}

TEST(MemoryJournal, AKilledProcessLeavesTheAcknowledgedVersionOrTheNext) {
  EXPECT_TRUE(Journal().in_flight());
  EXPECT_FALSE(Journal().Resumed(1));
  EXPECT_TRUE(Journal().Resumed(2));
  EXPECT_TRUE(Journal().Resumed(3));
  EXPECT_FALSE(Journal().Resumed(4));
}

TEST(MemoryJournal, AKilledMemdMayLoseWhatWasVisibleButNothingDurable) {
  for (std::uint64_t version = 0; version <= 4; ++version) {
    MemoryJournal journal = Journal();
    journal.MemdWasKilled();
    EXPECT_EQ(journal.Resumed(version), version >= 1 && version <= 3)
        << version;
  }
}

TEST(MemoryJournal, WhatAResumeFoundIsWhatIsThereFromThenOn) {
  MemoryJournal journal = Journal();
  journal.MemdWasKilled();
  ASSERT_TRUE(journal.Resumed(1));
  EXPECT_FALSE(journal.in_flight());
  EXPECT_EQ(journal.newest(), 1u);
  journal.Intend({0, 2});
  journal.Acknowledge(/*durable=*/false);
  EXPECT_EQ(journal.writers()[1], (MemoryWriter{0, 2}));
  EXPECT_FALSE(MemoryJournal(journal).Resumed(1));
  EXPECT_TRUE(journal.Resumed(2));
  // Resumed from memory: it still may be lost with memd.
  journal.MemdWasKilled();
  EXPECT_TRUE(journal.Resumed(1));
}

TEST(MemoryJournal, WhatWasThereAfterMemdWasKilledStaysThere) {
  MemoryJournal journal = Journal();
  journal.MemdWasKilled();
  ASSERT_TRUE(journal.Resumed(3));
  journal.MemdWasKilled();
  EXPECT_FALSE(journal.Resumed(2));
}

}  // namespace
}  // namespace agentmem::demo
