// ClusterWorld: what has to be there, and what must not.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/status.h"
#include "memd/agents/block_walk.h"
#include "memd/agents/history.h"
#include "proto/key_text.h"
#include "tests/unit/memd/agents/cluster_world.h"

namespace agentmem {

AgentRecord ClusterWorld::Record(const std::string& name) {
  const Ref ref = refs.Read("agent/3/" + name).value();
  if (ref.version == 0) return {};
  return DecodeAgentRecord(name, ref.value).value();
}

bool ClusterWorld::IsAnywhere(const Key& key) const {
  return std::any_of(nodes.begin(), nodes.end(), [&](const auto& node) {
    return node->blocks.disk.contains(key) || node->blocks.lent.contains(key);
  });
}

std::size_t ClusterWorld::BlocksEverywhere() const {
  std::size_t count = 0;
  for (const auto& node : nodes) {
    count += node->blocks.disk.size() + node->blocks.lent.size();
  }
  return count;
}

void ClusterWorld::CheckVersion(const VersionLink& link,
                                std::set<Key>* needed) {
  // Of all nodes, whether they can be reached now or not.
  struct Everything final : NodeSource {
    explicit Everything(const ClusterWorld* of) : world(of) {}
    absl::StatusOr<std::string> Read(const Key& key, std::uint32_t) override {
      for (const auto& node : world->nodes) {
        for (const auto* at : {&node->blocks.disk, &node->blocks.lent}) {
          if (const auto found = at->find(key); found != at->end()) {
            return found->second;
          }
        }
      }
      return NotFound(KeyText(key));
    }
    const ClusterWorld* const world;
  } everything(this);
  auto version = OpenVersion(link, &everything);
  ASSERT_TRUE(version.ok()) << version.status().ToString();
  NodeLoader loader(&everything);
  const auto need = [&](const Key& key) {
    EXPECT_TRUE(IsAnywhere(key)) << KeyText(key);
    needed->insert(key);
  };
  const absl::Status walked =
      ForEachBlock(*version, &loader, nullptr,
                   [&](const Key& key, std::uint32_t, BlockKind kind) {
                     if (kind != BlockKind::kPiece) need(key);
                     return absl::OkStatus();
                   });
  ASSERT_TRUE(walked.ok()) << walked.ToString();
  for (const auto& [page, block] : content.at(link.key)) {
    auto found = version->Find(page, &loader);
    ASSERT_TRUE(found.ok()) << found.status().ToString();
    ASSERT_EQ(found->pieces.size(), 1u);
    ASSERT_EQ(found->pieces[0].key, block);
    need(block);
  }
}

std::set<Key> ClusterWorld::CheckAll() {
  std::set<Key> needed;
  const auto check = [&](const AgentRecord& record, const std::string& what) {
    SCOPED_TRACE(what);
    for (const RegionRecord& region : record.regions) {
      for (VersionLink link = region.head;
           link.number != 0 && link.number >= region.oldest_kept;
           link = parents.at(link.key)) {
        CheckVersion(link, &needed);
      }
    }
  };
  const std::vector<std::string> names = refs.List("agent/3/").value();
  for (const std::string& name : names) check(Record(name.substr(8)), name);
  for (const auto& node : nodes) {
    // (What it has may be given up by others, and then it is told so.)
    if (!node->up || node->away) continue;
    SCOPED_TRACE(node->name);
    for (const WorldReader& reader : node->readers) {
      CheckVersion(reader.link, &needed);
    }
    for (const auto& [name, writer] : node->writers) {
      MutexLock lock(&writer.state->mutex);
      if (writer.state->ahead) check(writer.state->record, "visible");
    }
    for (const auto& [name, commit] : node->in_flight) {
      for (const Key& key : commit.made) {
        EXPECT_TRUE(IsAnywhere(key)) << KeyText(key) << " in hand";
        needed.insert(key);
      }
    }
  }
  return needed;
}

void ClusterWorld::CheckNothingElse(const std::set<Key>& needed) {
  for (const auto& node : nodes) {
    for (const auto& [key, bytes] : node->blocks.disk) {
      EXPECT_TRUE(needed.contains(key))
          << KeyText(key) << " is left on the disk of " << node->name;
    }
    for (const auto& [key, bytes] : node->blocks.lent) {
      EXPECT_TRUE(needed.contains(key))
          << KeyText(key) << " is left in the memory of " << node->name;
    }
  }
}

}  // namespace agentmem
